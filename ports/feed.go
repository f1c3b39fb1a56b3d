package ports

import (
	"context"

	"parley/domain/chat"
)

// Progress is a run as far as it has been recorded.
type Progress struct {
	UserID  string
	RunID   string
	Attempt int
	State   chat.State
	Output  chat.Output // all of it

	// Ended and Message spare the instance that ended the run a read: the run
	// as it ended and the message that it left (nil when none). They do not
	// travel; elsewhere a terminal State says to ask the store.
	Ended   *chat.Run
	Message *chat.Message
}

// Feed carries what has been recorded to those who wait for it, on this
// instance and on others. It is a convenience of speed: whatever it loses is
// in the store. Its calls return within 100 ms whatever state its backend is in.
type Feed interface {
	// Publish makes progress visible to watchers. Progress of an older attempt
	// is ignored, and so is, of the same attempt, what comes after the end or is
	// live and shorter than what is visible.
	Publish(ctx context.Context, progress ...Progress)
	// Forget says that this instance makes a run no longer, though it has not
	// ended: what is held of it here would only grow old.
	Forget(ctx context.Context, user, run string)
	// Watch follows one run. Close must be called.
	Watch(ctx context.Context, user, run string) Watch
	// Notify wakes everyone who listens to a topic, on every instance.
	Notify(ctx context.Context, topic string)
	// Listen returns a channel that receives after every Notify of the topic;
	// wakes that nobody has taken yet collapse into one. Stop must be called.
	Listen(topic string) (wake <-chan struct{}, stop func())
	// ForgetUser removes every run of a user, ended ones too. Other instances
	// may hold what was watched there for half a minute more.
	UserForgetter
}

// Watch is one follower's view of a run.
type Watch interface {
	// Latest returns the newest progress known here. ok is false when the feed
	// does not hold the run: then the store must be asked.
	Latest(ctx context.Context) (p Progress, ok bool)
	// Changed receives when Latest may return something newer.
	Changed() <-chan struct{}
	Close()
}

// Topics of Notify.
const (
	TopicStop  = "stop"  // a run was asked to stop: owners look at once
	TopicQueue = "queue" // a run can be claimed
)

// TopicUser is woken when one of the user's runs starts or ends.
func TopicUser(user string) string { return "user:" + user }
