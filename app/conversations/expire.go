package conversations

import (
	"context"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
	"parley/ports"
)

// expireAtOnce bounds how much one transaction, and one question, takes.
const expireAtOnce = 200

// Keeper forgets what is old: temporary conversations that have expired, and,
// with Retention, everything that nobody has written to for so long.
type Keeper struct {
	*Service
	Expiry    ports.Expiry
	Observer  ports.Observer
	Retention time.Duration // 0: for ever
	Every     time.Duration // between two looks; 5 min
}

// Serve forgets until ctx is done. Any number of instances may do so at once.
func (k *Keeper) Serve(ctx context.Context) {
	every := k.Every
	if every <= 0 {
		every = 5 * time.Minute
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if _, err := k.Sweep(ctx); err != nil && ctx.Err() == nil {
			k.Observer.Observe(ctx, ports.BackgroundFailed{Task: "retention", Err: err})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Sweep forgets everything that is due and returns how many conversations and
// messages of default threads that was.
func (k *Keeper) Sweep(ctx context.Context) (gone int, err error) {
	now := k.Now()
	var before time.Time
	if k.Retention > 0 {
		before = now.Add(-k.Retention)
	}
	for {
		due, err := k.Expiry.Expired(ctx, now, before, expireAtOnce)
		if err != nil {
			return gone, err
		}
		for _, c := range due {
			p := access.Principal{UserID: c.UserID}
			if err := stopReplies(ctx, k.History, k.Feed, k.Now, c.UserID, c.ID); err != nil {
				return gone, err
			}
			err := k.History.DeleteConversation(ctx, c.UserID, c.ID, k.entry(p, access.Caller{}, audit.ActionConversationExpired, c.ID))
			if err != nil && !fault.Is(err, fault.NotFound) { // another instance was faster
				return gone, err
			}
			gone++
		}
		if len(due) > 0 {
			k.Feed.Notify(ctx, ports.TopicStop) // replies that are being made for them end
		}
		if len(due) < expireAtOnce {
			break
		}
	}
	n, err := k.Expiry.ExpireErased(ctx, now)
	if gone += n; err != nil {
		return gone, err
	}
	for k.Retention > 0 {
		n, err := k.Expiry.ExpireThreads(ctx, before, expireAtOnce)
		if gone += n; err != nil || n < expireAtOnce {
			return gone, err
		}
	}
	return gone, nil
}
