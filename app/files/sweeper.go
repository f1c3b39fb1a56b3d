package files

import (
	"context"
	"fmt"
	"iter"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

const (
	// UnreferencedTTL is how long a file is kept to which no message has referred.
	UnreferencedTTL = 24 * time.Hour
	// orphanAge is how old a blob without a row, or a row without a blob, must be
	// before anything is done about it.
	orphanAge = 24 * time.Hour

	sweepInterval   = 5 * time.Minute
	compareInterval = time.Hour
	sweepBatch      = 200
)

// Sweeper deletes files that are not needed any more. Any number of instances may
// do so at once. All fields are required.
type Sweeper struct {
	Files    ports.FileSweep
	Blobs    ports.Blobs
	Observer ports.Observer
	Now      ports.Clock
	NewID    ports.IDs
}

// Serve sweeps and compares at their intervals, until ctx is done.
func (w *Sweeper) Serve(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	var compared time.Time
	for {
		swept, err := w.Sweep(ctx)
		if err == nil && time.Since(compared) >= compareInterval {
			var found ports.FilesSwept
			found, err = w.Compare(ctx)
			swept.Orphans, swept.Lost, swept.Found = found.Orphans, found.Lost, found.Found
			compared = time.Now()
		}
		w.Observer.Observe(ctx, swept)
		if err != nil && ctx.Err() == nil {
			w.Observer.Observe(ctx, ports.BackgroundFailed{Task: "files", Err: err})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Sweep deletes uploads to which no message has referred for UnreferencedTTL, and
// then the blobs and rows of all files that are marked as deleted.
func (w *Sweeper) Sweep(ctx context.Context) (swept ports.FilesSwept, err error) {
	before := w.Now().Add(-UnreferencedTTL)
	for {
		n, err := w.Files.ExpireFiles(ctx, before, sweepBatch, w.expired)
		swept.Expired += n
		if err != nil {
			return swept, err
		}
		if n < sweepBatch {
			break
		}
	}
	for {
		list, err := w.Files.DeletedFiles(ctx, sweepBatch)
		if err != nil {
			return swept, err
		}
		for _, f := range list {
			if err := w.Blobs.Delete(ctx, f.Blob); err != nil {
				return swept, err
			}
			if err := w.Files.ForgetFile(ctx, f); err != nil {
				return swept, err
			}
			swept.Deleted++
		}
		if len(list) < sweepBatch {
			return swept, nil
		}
	}
}

func (w *Sweeper) expired(f chat.File) audit.Entry {
	now := w.Now()
	return audit.Entry{
		ID: w.NewID(), UserID: f.UserID, Action: audit.ActionFileExpired, Resource: audit.ResourceFile, ResourceID: f.ID,
		Caller: access.Caller{}, Status: audit.Success, CreatedAt: now, UpdatedAt: now,
	}
}

// Compare compares rows and blobs. A blob without a row is deleted. A ready file
// whose blob is missing becomes lost, and one whose blob is there again, as after
// a restored backup, ready.
func (w *Sweeper) Compare(ctx context.Context) (swept ports.FilesSwept, err error) {
	for part := range 256 {
		if err := w.comparePart(ctx, part, &swept); err != nil {
			return swept, err
		}
	}
	return swept, nil
}

// comparePart compares one part of the keys. Rows and blobs are both sorted by
// them, so that neither list is kept in memory.
func (w *Sweeper) comparePart(ctx context.Context, part int, swept *ports.FilesSwept) error {
	old := w.Now().Add(-orphanAge)
	next, stop := iter.Pull2(w.rows(ctx, part))
	defer stop()
	row, err, more := next()
	missing := func() error { // there is no blob for row
		if row.State != chat.FileReady || row.CreatedAt.After(old) {
			return nil
		}
		swept.Lost++
		return w.Files.SetFileLost(ctx, row, true)
	}
	for found, listErr := range w.Blobs.List(ctx, partPrefix(part)) {
		if listErr != nil {
			return listErr
		}
		for ; more && err == nil && row.Blob < found.Key; row, err, more = next() {
			if err := missing(); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if more && row.Blob == found.Key {
			if row.State == chat.FileLost {
				swept.Found++
				if err := w.Files.SetFileLost(ctx, row, false); err != nil {
					return err
				}
			}
			if row, err, more = next(); err != nil {
				return err
			}
			continue
		}
		if found.ModifiedAt.After(old) {
			continue
		}
		swept.Orphans++
		if err := w.Blobs.Delete(ctx, found.Key); err != nil {
			return err
		}
	}
	for ; more && err == nil; row, err, more = next() {
		if err := missing(); err != nil {
			return err
		}
	}
	return err
}

// rows yields the files of one part of the keys, sorted by key.
func (w *Sweeper) rows(ctx context.Context, part int) iter.Seq2[chat.File, error] {
	return func(yield func(chat.File, error) bool) {
		after, end := partPrefix(part), "g" // above all hexadecimal digits
		if part < 255 {
			end = partPrefix(part + 1)
		}
		for {
			list, err := w.Files.FilesByBlob(ctx, after, end, sweepBatch)
			if err != nil {
				yield(chat.File{}, err)
				return
			}
			for _, f := range list {
				if !yield(f, nil) {
					return
				}
				after = f.Blob
			}
			if len(list) < sweepBatch {
				return
			}
		}
	}
}

// partPrefix begins the keys of one of 256 parts.
func partPrefix(part int) string { return fmt.Sprintf("%02x/", part) }
