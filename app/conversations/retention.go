package conversations

import (
	"context"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
	"parley/ports"
)

// expireBatch is the most rows that one statement reads or deletes.
const expireBatch = 200

// RetentionWorker deletes what has expired: temporary conversations, shares, what is
// remembered of erased users and, with Retention, conversations without a new
// message for that long and messages of default threads that are older.
type RetentionWorker struct {
	*Service
	Expiry    ports.Expiry
	Observer  ports.Observer
	Retention time.Duration // 0: unlimited
	Every     time.Duration // between two rounds; 5 min
}

// Serve deletes what has expired, at every interval, until ctx is done. Any number
// of instances may do so at once.
func (w *RetentionWorker) Serve(ctx context.Context) {
	every := w.Every
	if every <= 0 {
		every = 5 * time.Minute
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if _, err := w.Sweep(ctx); err != nil && ctx.Err() == nil {
			w.Observer.Observe(ctx, ports.BackgroundFailed{Task: "retention", Err: err})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Sweep deletes everything that has expired now and returns how many
// conversations, shares, messages of default threads and rows of erased users it was.
func (w *RetentionWorker) Sweep(ctx context.Context) (deleted int, err error) {
	now := w.Now()
	var before time.Time
	if w.Retention > 0 {
		before = now.Add(-w.Retention)
	}
	for {
		due, err := w.Expiry.Expired(ctx, now, before, expireBatch)
		if err != nil {
			return deleted, err
		}
		for _, c := range due {
			p := access.Principal{UserID: c.UserID}
			if err := stopReplies(ctx, w.History, w.Feed, w.Now, c.UserID, c.ID); err != nil {
				return deleted, err
			}
			err := w.History.DeleteConversation(ctx, c.UserID, c.ID, w.entry(p, access.Caller{}, audit.ActionConversationExpired, c.ID))
			if err != nil && !fault.Is(err, fault.NotFound) { // another instance was faster
				return deleted, err
			}
			deleted++
		}
		if len(due) > 0 {
			w.Feed.Notify(ctx, ports.TopicStop) // ends the replies in them
		}
		if len(due) < expireBatch {
			break
		}
	}
	for {
		n, err := w.Expiry.ExpireShares(ctx, now, expireBatch)
		if deleted += n; err != nil {
			return deleted, err
		}
		if n < expireBatch {
			break
		}
	}
	n, err := w.Expiry.ExpireErased(ctx, now)
	if deleted += n; err != nil {
		return deleted, err
	}
	for w.Retention > 0 {
		n, err := w.Expiry.ExpireThreads(ctx, before, expireBatch)
		if deleted += n; err != nil || n < expireBatch {
			return deleted, err
		}
	}
	return deleted, nil
}
