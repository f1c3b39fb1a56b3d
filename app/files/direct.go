package files

import (
	"context"
	"time"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// directExpiry is how long the URL of a direct upload can be used.
const directExpiry = 15 * time.Minute

// Direct is an upload that its client sends to the bucket.
type Direct struct {
	File    chat.File
	URL     string // to which the content is PUT
	Expires time.Time
}

// BeginDirect begins an upload that does not pass through Parley. in has no
// Content, and a Size. CompleteDirect ends it. Conflict: the store gives out no
// URLs for uploads.
func (s *Service) BeginDirect(ctx context.Context, in Upload) (Direct, error) {
	if in.Size < 0 {
		return Direct{}, fault.New(fault.Invalid, "size is required")
	}
	f, err := s.newFile(in)
	if err != nil {
		return Direct{}, err
	}
	signed, ok, err := s.Blobs.SignUpload(ctx, directKey(f), directExpiry)
	if err != nil {
		return Direct{}, err
	}
	if !ok {
		return Direct{}, fault.New(fault.Conflict, "This store of files takes no direct uploads; send the file to POST /api/chat/files")
	}
	// What the client says of the content is kept until the content is there.
	f.MediaType = in.MediaType
	if chat.ValidateText(f.MediaType) != nil || len(f.MediaType) > chat.MaxFileName {
		f.MediaType = ""
	}
	if err := s.Files.BeginUpload(ctx, f, s.quota(in.Principal, f)); err != nil {
		return Direct{}, err
	}
	return Direct{File: f, URL: signed, Expires: s.Now().Add(directExpiry)}, nil
}

// CompleteDirect takes over what a client has sent to the bucket. The content is
// copied, since the client's URL is valid for longer; then it is checked as in
// Upload. Repeating it returns the file. Conflict: nothing has been sent yet.
func (s *Service) CompleteDirect(ctx context.Context, p access.Principal, caller access.Caller, id string) (chat.File, error) {
	if !p.Known() || !chat.ValidID(id) {
		return chat.File{}, chat.FileNotFound()
	}
	f, err := s.Files.File(ctx, p.UserID, id)
	switch {
	case err != nil:
		return chat.File{}, err
	case f.State == chat.FileReady:
		return f, nil
	case f.State != chat.FileUploading:
		return chat.File{}, chat.FileNotFound()
	}
	begun := time.Now()
	sent, err := s.Blobs.Open(ctx, directKey(f), 0, -1)
	if fault.Is(err, fault.NotFound) {
		return chat.File{}, fault.New(fault.Conflict, "Nothing has been uploaded yet")
	}
	if err != nil {
		return chat.File{}, err
	}
	defer sent.Close()
	in := Upload{Principal: p, Caller: caller, Name: f.Name, MediaType: f.MediaType, Content: sent}
	content, err := s.inspect(&f, in)
	if err != nil {
		s.cancel(ctx, f)
		s.dropDirect(ctx, f)
		return chat.File{}, err
	}
	done, err := s.transfer(ctx, f, in, content, begun)
	s.dropDirect(ctx, f)
	return done, err
}

// dropDirect deletes what a client has sent. The Sweeper does what fails here.
func (s *Service) dropDirect(ctx context.Context, f chat.File) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer stop()
	_ = s.Blobs.Delete(ctx, directKey(f))
}

// directKey is where a client sends a file to: not where it is kept.
func directKey(f chat.File) string { return f.Blob + "u" }
