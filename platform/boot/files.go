package boot

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"time"

	"parley/adapters/blobs"
	"parley/adapters/sqlstore"
	"parley/app/files"
	"parley/app/gate"
	"parley/domain/access"
	"parley/platform/config"
	"parley/ports"
)

// openBlobs opens the store of files. It does not wait for a bucket.
func openBlobs(ctx context.Context, c config.Config) (*blobs.Bucket, error) {
	address := c.Store.BlobURL.Reveal()
	if address == "" {
		dir, err := filepath.Abs(filepath.Join(c.Store.DataDir, "files"))
		if err != nil {
			return nil, err
		}
		address = (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()
	}
	bucket, err := blobs.Open(ctx, address)
	if err != nil {
		return nil, usageError{errors.Join(errors.New("BLOB_URL"), err)}
	}
	return bucket, nil
}

// newFiles makes the service of files and what sweeps them.
func newFiles(c config.Config, store *sqlstore.Store, bucket ports.Blobs, admission *gate.Gate, observer ports.Observer) (*files.Service, *files.Sweeper) {
	return &files.Service{
		Files: store, Blobs: bucket, Detect: blobs.Detect, Observer: observer, Now: time.Now, NewID: newID,
		Quota:    func(p access.Principal) int64 { return admission.Budget(p.Tier).FileBytes },
		MaxBytes: c.Limits.MaxFileBytes, Types: c.Replies.FileTypes,
	}, &files.Sweeper{Files: store, Blobs: bucket, Observer: observer, Now: time.Now, NewID: newID}
}

// readFile reads the files of messages for providers.
func readFile(service *files.Service) ports.ReadFile {
	return func(ctx context.Context, user, id string) ([]byte, error) {
		content, _, err := service.Read(ctx, user, id)
		return content, err
	}
}
