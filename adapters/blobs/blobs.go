// Package blobs stores the bytes of files in a directory or a bucket: of S3,
// Google Cloud Storage or Azure. A program that uses the clouds imports blobs/clouds.
package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/memblob" // mem://, for tests
	"gocloud.dev/gcerrors"

	"parley/domain/fault"
	"parley/ports"
)

// Schemes are the schemes of URLs that Open takes.
var Schemes = []string{"file", "s3", "gs", "azblob", "mem"}

const (
	// partSize is how much of an upload to a bucket is sent in one request, and kept
	// in memory meanwhile. S3 accepts no smaller parts, and its driver sends the
	// first 16 MiB at once.
	partSize = 5 << 20
	// callTimeout bounds a call that transfers no content.
	callTimeout = 15 * time.Second
	// stallTimeout bounds the time in which the store takes or gives nothing.
	stallTimeout = 30 * time.Second
)

// Bucket is a blob store. It is safe for concurrent use.
type Bucket struct {
	dir     string // of a directory; "": it is a bucket
	options fileblob.Options

	mu     sync.Mutex
	bucket *blob.Bucket // nil: the directory cannot be opened so far
}

var _ ports.Blobs = (*Bucket)(nil)

// Open opens the bucket at a URL: file:///dir, s3://bucket?region=..., gs://bucket,
// azblob://container, each with the parameters of gocloud.dev, or mem://. A
// directory is created with mode 0700 if it does not exist. If that fails, each
// call tries again. Other buckets are not connected to yet.
func Open(ctx context.Context, raw string) (*Bucket, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL") // the parser's error quotes it
	}
	if u.Scheme == "file" {
		return openDirectory(u)
	}
	if u.Scheme == "gs" && !directPath {
		// gs://bucket?grpc=true must not look for the modules that are left out.
		if err := os.Setenv("GOOGLE_CLOUD_DISABLE_DIRECT_PATH", "true"); err != nil {
			return nil, fmt.Errorf("open bucket: %w", err)
		}
	}
	bucket, err := blob.OpenBucket(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	return &Bucket{bucket: bucket}, nil
}

// openDirectory opens a directory. Temporary files are created inside, since a
// rename across file systems fails.
func openDirectory(u *url.URL) (*Bucket, error) {
	dir, err := filepath.Abs(filepath.FromSlash(u.Path))
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	options := fileblob.Options{CreateDir: true, DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite}
	if base, secret := u.Query().Get("base_url"), u.Query().Get("secret_key_path"); base != "" && secret != "" {
		key, err := os.ReadFile(secret)
		if err != nil {
			return nil, fmt.Errorf("read secret_key_path: %w", err)
		}
		at, err := url.Parse(base)
		if err != nil {
			return nil, errors.New("base_url is not a URL")
		}
		options.URLSigner = fileblob.NewURLSignerHMAC(at, key)
	}
	b := &Bucket{dir: dir, options: options}
	_, _ = b.open() // Check says what is wrong
	return b, nil
}

// open returns the driver. A directory that could not be opened before is tried
// again.
func (b *Bucket) open() (*blob.Bucket, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bucket == nil {
		bucket, err := fileblob.OpenBucket(b.dir, &b.options)
		if err != nil {
			return nil, unavailable(err)
		}
		b.bucket = bucket
	}
	return b.bucket, nil
}

// Close closes the connections.
func (b *Bucket) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bucket == nil { // it could not be opened
		return nil
	}
	return b.bucket.Close()
}

// Put implements ports.Blobs. A failure of content is returned as it is.
func (b *Bucket) Put(ctx context.Context, key, mediaType string, content io.Reader, limit int64) (int64, error) {
	bucket, err := b.open()
	if err != nil {
		return 0, err
	}
	upload, cancel := context.WithCancel(ctx)
	defer cancel()
	stall := newStallTimer(ctx, cancel)
	defer stall.stop()
	stall.start()
	w, err := bucket.NewWriter(upload, key, &blob.WriterOptions{ContentType: mediaType, BufferSize: partSize, MaxConcurrency: 1})
	if err != nil {
		return 0, stall.explain(err)
	}
	size, err := copyContent(w, content, limit, stall)
	if err != nil {
		cancel()      // an upload whose context has ended is dropped when it is closed
		_ = w.Close() // the error is the first one
		return 0, err
	}
	stall.start()
	if err := w.Close(); err != nil {
		return 0, stall.explain(err)
	}
	if err := b.sync(key); err != nil {
		return 0, unavailable(err)
	}
	return size, nil
}

// copyContent copies content to a writer, and tells failures of the two apart.
func copyContent(w io.Writer, content io.Reader, limit int64, stall *stallTimer) (size int64, err error) {
	buffer := make([]byte, 64<<10)
	for {
		stall.stop() // the reader has its own timeouts
		n, readErr := content.Read(buffer)
		stall.start()
		if size += int64(n); size > limit {
			return 0, fault.New(fault.TooLarge, "A file cannot exceed %d bytes", limit)
		}
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return 0, stall.explain(err)
			}
		}
		if readErr == io.EOF { // an error that wraps it is not the end
			return size, nil
		}
		if readErr != nil {
			return 0, readErr
		}
	}
}

// sync makes a file and its name durable. Buckets are durable by themselves.
func (b *Bucket) sync(key string) error {
	if b.dir == "" {
		return nil
	}
	path := filepath.Join(b.dir, filepath.FromSlash(key))
	for _, name := range []string{path, filepath.Dir(path), b.dir} {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Open implements ports.Blobs.
func (b *Bucket) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	bucket, err := b.open()
	if err != nil {
		return nil, err
	}
	download, cancel := context.WithCancel(ctx)
	stall := newStallTimer(ctx, cancel)
	stall.start()
	r, err := bucket.NewRangeReader(download, key, offset, length, nil)
	stall.stop()
	if err != nil {
		cancel()
		return nil, stall.explain(err)
	}
	return &reader{r, cancel, stall}, nil
}

// reader is the content of a blob. Close releases what Open has taken.
type reader struct {
	*blob.Reader
	cancel context.CancelFunc
	stall  *stallTimer
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	r.stall.start()
	defer r.stall.stop()
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.stall.explain(err)
	}
	return n, err
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.cancel()
	return r.Reader.Close()
}

// Stat implements ports.Blobs.
func (b *Bucket) Stat(ctx context.Context, key string) (ports.Blob, error) {
	bucket, err := b.open()
	if err != nil {
		return ports.Blob{}, err
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := bucket.Attributes(limited, key)
	if err != nil {
		return ports.Blob{}, translate(ctx, err)
	}
	return ports.Blob{Key: key, Size: a.Size, ModifiedAt: a.ModTime}, nil
}

// Delete implements ports.Blobs.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	bucket, err := b.open()
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := bucket.Delete(limited, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return translate(ctx, err)
	}
	return nil
}

// List implements ports.Blobs.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[ports.Blob, error] {
	return func(yield func(ports.Blob, error) bool) {
		bucket, err := b.open()
		if err != nil {
			yield(ports.Blob{}, err)
			return
		}
		pages := bucket.List(&blob.ListOptions{Prefix: prefix})
		for {
			limited, cancel := context.WithTimeout(ctx, callTimeout)
			found, err := pages.Next(limited)
			cancel()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(ports.Blob{}, translate(ctx, err))
				return
			}
			if !found.IsDir && !yield(ports.Blob{Key: found.Key, Size: found.Size, ModifiedAt: found.ModTime}, nil) {
				return
			}
		}
	}
}

// SignUpload implements ports.Blobs. The media type is not part of what is signed:
// it is found out from the content when the upload has ended.
func (b *Bucket) SignUpload(ctx context.Context, key string, expires time.Duration) (string, bool, error) {
	bucket, err := b.open()
	if err != nil {
		return "", false, err
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	signed, err := bucket.SignedURL(limited, key, &blob.SignedURLOptions{Method: "PUT", Expiry: expires})
	switch {
	case gcerrors.Code(err) == gcerrors.Unimplemented:
		return "", false, nil
	case err != nil:
		return "", false, translate(ctx, err)
	}
	return signed, true, nil
}

// Check returns an error if the store does not answer, or refuses these
// credentials.
func (b *Bucket) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	bucket, err := b.open()
	if err != nil {
		return err
	}
	if b.dir != "" {
		_, err := os.Stat(b.dir)
		return err
	}
	ok, err := bucket.IsAccessible(ctx)
	if err == nil && !ok {
		err = errors.New("the bucket does not exist, or these credentials may not use it")
	}
	return err
}

// translate turns an error of the store into a fault.
func translate(ctx context.Context, err error) error {
	switch {
	case gcerrors.Code(err) == gcerrors.NotFound:
		return fault.Wrap(err, fault.NotFound, "File not found or access denied")
	case errors.Is(ctx.Err(), context.Canceled):
		return fault.Wrap(err, fault.Canceled, "The request was cancelled")
	}
	return unavailable(err)
}

func unavailable(err error) error {
	return fault.Wrap(err, fault.Unavailable, "The store of files is not available at the moment").After(5 * time.Second)
}

// stallTimer cancels a transfer when the store takes or gives nothing for
// stallTimeout.
type stallTimer struct {
	ctx     context.Context //nolint:containedctx // of one transfer, to tell its end from a stall
	timer   *time.Timer
	stalled chan struct{}
}

func newStallTimer(ctx context.Context, cancel context.CancelFunc) *stallTimer {
	s := &stallTimer{ctx: ctx, stalled: make(chan struct{})}
	s.timer = time.AfterFunc(stallTimeout, func() {
		close(s.stalled)
		cancel()
	})
	s.timer.Stop()
	return s
}

func (s *stallTimer) start() { s.timer.Reset(stallTimeout) }
func (s *stallTimer) stop()  { s.timer.Stop() }

// explain is translate for a transfer that the timer may have cancelled.
func (s *stallTimer) explain(err error) error {
	select {
	case <-s.stalled:
		return unavailable(errors.New("the store of files has stopped answering"))
	default:
		return translate(s.ctx, err)
	}
}
