package conversations

import (
	"context"
	"time"

	"parley/ports"
)

// SearchIndexer keeps the index of searches. What it has not done yet is searched
// without the index.
type SearchIndexer struct {
	Index    ports.SearchIndex
	Observer ports.Observer
	Every    time.Duration // between two looks for deleted messages; 1 min
}

// dirtyBatch is the most users that are looked after at once.
const dirtyBatch = 100

// Serve looks after the index of users who are due, and of those of whom messages
// were deleted, until ctx is done. Any number of instances may do so at once.
func (w *SearchIndexer) Serve(ctx context.Context) {
	every := w.Every
	if every <= 0 {
		every = time.Minute
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		var users []string
		var err error
		select {
		case <-ctx.Done():
			return
		case user := <-w.Index.SearchDue():
			users = []string{user}
		case <-tick.C:
			users, err = w.Index.DirtySearch(ctx, dirtyBatch)
		}
		for _, user := range users {
			if err == nil {
				err = w.update(ctx, user)
			}
		}
		if err != nil && ctx.Err() == nil {
			w.Observer.Observe(ctx, ports.BackgroundFailed{Task: "search", Err: err})
		}
	}
}

// update does everything that there is to do for the index of a user.
func (w *SearchIndexer) update(ctx context.Context, user string) error {
	for {
		more, err := w.Index.IndexSome(ctx, user)
		if err != nil || !more {
			return err
		}
	}
}
