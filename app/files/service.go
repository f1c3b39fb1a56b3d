// Package files takes uploads of files, gives them back to their owners and to
// providers, and deletes those that are not needed any more. Their bytes are in a
// blob store, what is known about them in the database.
//
// An upload is a row first, then a blob, then a row that is ready. Whatever ends
// in between leaves a row that no caller sees, or a blob without a row; the
// Sweeper deletes both.
package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"strings"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Service is safe for concurrent use. All fields are required.
type Service struct {
	Files    ports.Files
	Blobs    ports.Blobs
	Detect   func(head []byte) []string   // what content is, the most specific media type first
	Quota    func(access.Principal) int64 // bytes of all files of the user; 0: no limit
	Observer ports.Observer
	Now      ports.Clock
	NewID    ports.IDs
	MaxBytes int64    // of one file
	Types    []string // media types that are accepted
}

// Upload describes a new file. What it says about the content is not believed,
// but for which kind of plain text it is.
type Upload struct {
	Principal access.Principal
	Caller    access.Caller
	ID        string // chosen by the client; "": a new one is made
	Name      string
	MediaType string
	Size      int64 // bytes; -1 if unknown
	Content   io.Reader
}

// headBytes is how much of a file is looked at to find out its type.
const headBytes = 4096

// cleanupTimeout bounds the removal of an upload that failed, after which the
// Sweeper does it.
const cleanupTimeout = 10 * time.Second

// Upload stores a file. Its content is streamed. After an error nothing of it is
// left. Faults: Invalid for an empty file, TooLarge, MediaType, OverBudget,
// Conflict when the user has a file of that id, Unavailable when the blob store
// does not answer, and those of Content.
func (s *Service) Upload(ctx context.Context, in Upload) (chat.File, error) {
	begun := time.Now()
	f, err := s.newFile(in)
	if err != nil {
		return chat.File{}, err
	}
	content, err := s.inspect(&f, in)
	if err != nil {
		return chat.File{}, err
	}
	if err := s.Files.BeginUpload(ctx, f, s.quota(in.Principal, f)); err != nil {
		return chat.File{}, err
	}
	return s.transfer(ctx, f, in, content, begun)
}

// newFile checks what can be checked before the content is read.
func (s *Service) newFile(in Upload) (chat.File, error) {
	switch {
	case !in.Principal.Known():
		return chat.File{}, fault.New(fault.Unauthenticated, "Authentication required")
	case in.ID != "" && !chat.ValidID(in.ID):
		return chat.File{}, fault.New(fault.Invalid, "Invalid file ID")
	case in.Size == 0:
		return chat.File{}, errEmpty()
	case in.Size > s.MaxBytes:
		return chat.File{}, s.tooLarge()
	}
	f := chat.File{
		ID: in.ID, UserID: in.Principal.UserID, Name: chat.CleanFileName(in.Name), Size: max(in.Size, 0),
		State: chat.FileUploading, Blob: blobKey(in.Principal.UserID, s.NewID()), CreatedAt: s.Now(),
	}
	if f.ID == "" {
		f.ID = s.NewID()
	}
	return f, nil
}

func errEmpty() error { return fault.New(fault.Invalid, "The file is empty") }

func (s *Service) tooLarge() error {
	return fault.New(fault.TooLarge, "A file cannot exceed %d bytes", s.MaxBytes)
}

// quota refuses a file that does not fit beside the user's others.
func (s *Service) quota(p access.Principal, f chat.File) ports.FileQuota {
	return func(used int64) error { return chat.CheckFileQuota(s.Quota(p), used, f.Size) }
}

// inspect reads the beginning of the content and sets the file's type. It returns
// all of the content.
func (s *Service) inspect(f *chat.File, in Upload) (io.Reader, error) {
	head := make([]byte, headBytes)
	n, err := io.ReadFull(in.Content, head)
	switch err { //nolint:errorlint // an error that wraps these is another one
	case nil, io.ErrUnexpectedEOF: // a short file
	case io.EOF:
		return nil, errEmpty()
	default:
		return nil, err
	}
	head = head[:n]
	kinds := s.Detect(head)
	f.MediaType, err = chat.DecideFileType(kinds, in.Name, in.MediaType, s.Types)
	if err != nil {
		return nil, err
	}
	f.Size = max(f.Size, int64(n))
	content := io.MultiReader(bytes.NewReader(head), in.Content)
	if chat.IsText(kinds) {
		content = &textReader{content: content}
	}
	return content, nil
}

// transfer stores the content of an upload that has begun, and ends it.
func (s *Service) transfer(ctx context.Context, f chat.File, in Upload, content io.Reader, begun time.Time) (chat.File, error) {
	digest := sha256.New()
	size, err := s.Blobs.Put(ctx, f.Blob, f.MediaType, io.TeeReader(content, digest), s.MaxBytes)
	if err == nil {
		f.Size, f.Digest = size, hex.EncodeToString(digest.Sum(nil))
		err = s.Files.EndUpload(ctx, f, s.quota(in.Principal, f), s.entry(f, in.Caller, audit.ActionFileUploaded))
		if fault.Is(err, fault.NotFound) {
			err = fault.New(fault.Conflict, "The file was deleted before its upload had ended")
		}
	}
	if err != nil {
		s.cancel(ctx, f)
		return chat.File{}, err
	}
	f.State = chat.FileReady
	s.Observer.Observe(ctx, ports.FileUploaded{MediaType: f.MediaType, Bytes: f.Size, Took: time.Since(begun)})
	return f, nil
}

// cancel removes an upload that failed, even if its client has gone. The commit
// of its end may have succeeded although an error was returned: then the row is
// ready, and both are kept.
func (s *Service) cancel(ctx context.Context, f chat.File) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer stop()
	if s.Files.CancelUpload(ctx, f) == nil {
		s.remove(ctx, f)
	}
}

// remove deletes the blob and then the row of a file that is marked as deleted.
// The Sweeper does what fails here.
func (s *Service) remove(ctx context.Context, f chat.File) {
	now, err := s.Files.File(ctx, f.UserID, f.ID)
	if err == nil && now.Blob == f.Blob || err != nil && !fault.Is(err, fault.NotFound) {
		return // it is not marked, or that is not known
	}
	if s.Blobs.Delete(ctx, f.Blob) == nil {
		_ = s.Files.ForgetFile(ctx, f)
	}
}

func (s *Service) entry(f chat.File, caller access.Caller, action string) audit.Entry {
	now := s.Now()
	return audit.Entry{
		ID: s.NewID(), UserID: f.UserID, Action: action, Resource: audit.ResourceFile, ResourceID: f.ID,
		Metadata: map[string]any{"mediaType": f.MediaType, "bytes": f.Size}, Caller: caller, Status: audit.Success, CreatedAt: now, UpdatedAt: now,
	}
}

// Get returns a file that is ready.
func (s *Service) Get(ctx context.Context, p access.Principal, id string) (chat.File, error) {
	if !p.Known() || !chat.ValidID(id) {
		return chat.File{}, chat.FileNotFound()
	}
	f, err := s.Files.File(ctx, p.UserID, id)
	if err == nil && f.State != chat.FileReady {
		err = chat.FileNotFound()
	}
	return f, err
}

// Open reads length bytes of a file from offset; to its end if length is negative.
func (s *Service) Open(ctx context.Context, f chat.File, offset, length int64) (io.ReadCloser, error) {
	return s.Blobs.Open(ctx, f.Blob, offset, length)
}

// Read returns a whole file, for a provider.
func (s *Service) Read(ctx context.Context, user, id string) ([]byte, chat.File, error) {
	f, err := s.Get(ctx, access.Principal{UserID: user}, id)
	if err != nil {
		return nil, chat.File{}, err
	}
	r, err := s.Open(ctx, f, 0, -1)
	if err != nil {
		return nil, chat.File{}, err
	}
	defer r.Close()
	content := make([]byte, f.Size)
	if _, err := io.ReadFull(r, content); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fault.Wrap(err, fault.Internal, "The store of files holds less than the whole file")
		}
		return nil, chat.File{}, err
	}
	return content, f, nil
}

// ContentID is the id of a file that came within a message.
func ContentID(content []byte) string {
	digest := sha256.Sum256(content)
	return "data-" + hex.EncodeToString(digest[:16])
}

// Store stores content that came within a message. The same content of a user is
// stored once.
func (s *Service) Store(ctx context.Context, p access.Principal, caller access.Caller, name, mediaType string, content []byte) (chat.File, error) {
	id := ContentID(content)
	if f, err := s.Get(ctx, p, id); err == nil || !fault.Is(err, fault.NotFound) {
		return f, err
	}
	in := Upload{
		Principal: p, Caller: caller, ID: id, Name: name, MediaType: mediaType, Size: int64(len(content)), Content: bytes.NewReader(content),
	}
	f, err := s.Upload(ctx, in)
	if fault.Is(err, fault.Conflict) { // the same content is being uploaded or deleted
		in.ID, in.Content = "", bytes.NewReader(content)
		return s.Upload(ctx, in)
	}
	return f, err
}

// List returns a user's files, newest first.
func (s *Service) List(ctx context.Context, p access.Principal, page ports.Page) ([]chat.File, bool, error) {
	return s.Files.FilesOf(ctx, p.UserID, page)
}

// All yields all ready files of a user, newest first, page by page. An error ends
// it.
func (s *Service) All(ctx context.Context, p access.Principal) iter.Seq2[chat.File, error] {
	return func(yield func(chat.File, error) bool) {
		page := ports.Page{Limit: 100}
		for {
			list, more, err := s.List(ctx, p, page)
			if err != nil {
				yield(chat.File{}, err)
				return
			}
			for _, f := range list {
				if !yield(f, nil) {
					return
				}
				page.Before = &ports.Position{At: f.CreatedAt, ID: f.ID}
			}
			if !more {
				return
			}
		}
	}
}

// Delete deletes a file. Messages that refer to it stay, and say that it is gone.
func (s *Service) Delete(ctx context.Context, p access.Principal, caller access.Caller, id string) error {
	if !p.Known() || !chat.ValidID(id) {
		return chat.FileNotFound()
	}
	f, err := s.Files.DeleteFile(ctx, p.UserID, id, s.entry(chat.File{ID: id, UserID: p.UserID}, caller, audit.ActionFileDeleted))
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer stop()
	s.remove(ctx, f)
	return nil
}

// ForgetUser deletes the blobs of an erased user, whose rows are gone.
func (s *Service) ForgetUser(ctx context.Context, user string) error {
	for found, err := range s.Blobs.List(ctx, userPrefix(user)) {
		if err == nil {
			err = s.Blobs.Delete(ctx, found.Key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// userPrefix begins the keys of a user's blobs: two hexadecimal digits, by which
// the Sweeper takes its parts, a slash and 30 more, of a hash of the user's id.
func userPrefix(user string) string {
	hash := sha256.Sum256([]byte(user))
	text := hex.EncodeToString(hash[:16])
	return text[:2] + "/" + text[2:]
}

// blobKey is the key of a blob: the user's prefix and the digits of a new UUID.
func blobKey(user, id string) string { return userPrefix(user) + strings.ReplaceAll(id, "-", "") }
