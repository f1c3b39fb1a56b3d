package rows

import (
	"time"

	"github.com/uptrace/bun"

	"parley/domain/chat"
)

// File is a row of chat_files.
type File struct {
	bun.BaseModel `bun:"table:chat_files,alias:f"`

	UserID       string    `bun:"user_id,pk"`
	ID           string    `bun:"id,pk"`
	Name         string    `bun:"name"`
	MediaType    string    `bun:"media_type"`
	Size         int64     `bun:"size"`
	Digest       string    `bun:"digest"`
	State        string    `bun:"state"`
	Blob         string    `bun:"blob"`
	CreatedAt    time.Time `bun:"created_at"`
	ReferencedAt time.Time `bun:"referenced_at,nullzero"`
}

// MessageFile is a row of chat_message_files: a message refers to a file.
type MessageFile struct {
	bun.BaseModel `bun:"table:chat_message_files,alias:mf"`

	UserID    string `bun:"user_id,pk"`
	MessageID string `bun:"message_id,pk"`
	FileID    string `bun:"file_id,pk"`
}

// FileColumns are the columns of chat_files.
var FileColumns = columnsOf[File]()

// FromFile makes a row.
func FromFile(f chat.File) File {
	return File{
		UserID: f.UserID, ID: f.ID, Name: f.Name, MediaType: f.MediaType, Size: f.Size, Digest: f.Digest,
		State: string(f.State), Blob: f.Blob, CreatedAt: Time(f.CreatedAt), ReferencedAt: Time(f.ReferencedAt),
	}
}

// Domain returns the noun.
func (f File) Domain() chat.File {
	return chat.File{
		ID: f.ID, UserID: f.UserID, Name: f.Name, MediaType: f.MediaType, Size: f.Size, Digest: f.Digest,
		State: chat.FileState(f.State), Blob: f.Blob, CreatedAt: Time(f.CreatedAt), ReferencedAt: Time(f.ReferencedAt),
	}
}
