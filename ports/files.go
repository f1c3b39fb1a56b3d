package ports

import (
	"context"
	"io"
	"iter"
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
)

// Blob describes one entry of a blob store.
type Blob struct {
	Key        string
	Size       int64 // bytes
	ModifiedAt time.Time
}

// Blobs stores the bytes of files under keys: hexadecimal digits with slashes.
// Faults: NotFound for an unknown key, Unavailable when the store does not answer.
type Blobs interface {
	// Put stores what content yields, at most limit bytes, and returns how many.
	// Nothing is stored when content fails, when it yields more (TooLarge), or when
	// ctx ends. Its memory does not depend on the size.
	Put(ctx context.Context, key, mediaType string, content io.Reader, limit int64) (size int64, err error)
	// Open reads length bytes from offset; to the end if length is negative.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Stat returns the size of a blob, and when it was stored.
	Stat(ctx context.Context, key string) (Blob, error)
	// Delete deletes a blob. An unknown key is no error.
	Delete(ctx context.Context, key string) error
	// List yields the blobs whose keys begin with prefix, sorted by key. An error
	// ends it.
	List(ctx context.Context, prefix string) iter.Seq2[Blob, error]
	// SignUpload returns a URL to which a client may PUT a blob until expires has
	// passed. ok is false for a store that gives out no such URLs.
	SignUpload(ctx context.Context, key string, expires time.Duration) (url string, ok bool, err error)
}

// FileQuota decides whether a user may store a file, by the bytes of the user's
// other files, unfinished uploads included. An error is its refusal.
type FileQuota func(used int64) error

// Files stores what is known about files, for their owners. Each method is one
// transaction.
type Files interface {
	// BeginUpload stores a file as uploading. Its Size is what is known to come.
	// Faults: those of quota; Conflict when the user has a file of that id.
	BeginUpload(ctx context.Context, f chat.File, quota FileQuota) error
	// EndUpload makes a file ready, with the MediaType, Size and Digest of f, and
	// records the audit entry. Faults: those of quota; NotFound when the upload of
	// f.ID to f.Blob is not going on any more.
	EndUpload(ctx context.Context, f chat.File, quota FileQuota, entry audit.Entry) error
	// CancelUpload marks an upload that is going on as deleted.
	CancelUpload(ctx context.Context, f chat.File) error
	// ForgetFile removes a file that is marked as deleted, once its blob is gone.
	ForgetFile(ctx context.Context, f chat.File) error
	// File returns a file that is ready, uploading or lost. Other states, and files
	// of other users, are NotFound.
	File(ctx context.Context, user, id string) (chat.File, error)
	// FilesOf lists a user's ready files, newest first.
	FilesOf(ctx context.Context, user string, page Page) (list []chat.File, more bool, err error)
	// DeleteFile marks a file as deleted, ends the references of messages to it, and
	// records the audit entry. It returns the file.
	DeleteFile(ctx context.Context, user, id string, entry audit.Entry) (chat.File, error)
	// FileBytes returns how many bytes a user's files have, unfinished uploads
	// included.
	FileBytes(ctx context.Context, user string) (int64, error)
}

// FileSweep finds files of all users that have to be deleted.
type FileSweep interface {
	// ExpireFiles marks at most n files as deleted: those created before a moment
	// to which no message has referred. entry makes the audit entry of each.
	ExpireFiles(ctx context.Context, before time.Time, n int, entry func(chat.File) audit.Entry) (int, error)
	// DeletedFiles lists at most n files that are marked as deleted.
	DeletedFiles(ctx context.Context, n int) ([]chat.File, error)
	// ForgetFile removes a file that is marked as deleted, once its blob is gone.
	ForgetFile(ctx context.Context, f chat.File) error
	// FilesByBlob lists at most n files whose Blob is above after and below end,
	// sorted by Blob.
	FilesByBlob(ctx context.Context, after, end string, n int) ([]chat.File, error)
	// SetFileLost turns a ready file into a lost one, or a lost one into a ready one.
	SetFileLost(ctx context.Context, f chat.File, lost bool) error
}
