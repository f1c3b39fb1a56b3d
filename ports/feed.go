package ports

import (
	"context"

	"parley/domain/chat"
)

// Progress is the recorded state of a run.
type Progress struct {
	UserID  string
	RunID   string
	Attempt int
	State   chat.State
	Output  chat.Output // from its start

	// Ended and Message save a read on the instance that ended the run: the ended
	// run and the message that it left (nil when none). They are not sent to
	// other instances, which read the store when State is terminal.
	Ended   *chat.Run
	Message *chat.Message
}

// Feed delivers recorded progress to followers on this and other instances. It
// only makes them faster: what it loses is in the store. Its calls return within
// 100 ms even when the backend is down.
type Feed interface {
	// Publish makes progress visible to followers. Progress of an older attempt is
	// ignored. Within one attempt, so is anything after the end, and live progress
	// that is shorter than what is visible.
	Publish(ctx context.Context, progress ...Progress)
	// Forget drops a run that this instance no longer executes although it has not
	// ended: its progress here would only become stale.
	Forget(ctx context.Context, user, run string)
	// Watch follows one run. Close must be called.
	Watch(ctx context.Context, user, run string) Watch
	// Notify wakes all listeners of a topic, on every instance.
	Notify(ctx context.Context, topic string)
	// Listen returns a channel that receives after every Notify of the topic.
	// Wakes that were not received yet are merged into one. stop must be called.
	Listen(topic string) (wake <-chan struct{}, stop func())
	// ForgetUser removes every run of a user, ended ones included. Other instances
	// may keep what was followed there for another 30 s.
	UserForgetter
}

// Watch is one follower's view of a run.
type Watch interface {
	// Latest returns the newest progress known here. ok is false when the feed
	// does not have the run: read the store then.
	Latest(ctx context.Context) (p Progress, ok bool)
	// Changed receives when Latest may return something newer.
	Changed() <-chan struct{}
	// OnChange has changes call f instead of sending to Changed, also one that was
	// not received yet; f must not block, nor use the feed. nil: send again.
	OnChange(f func())
	Close()
}

// Topics of Notify.
const (
	TopicStop  = "stop"  // a run was asked to stop: owners check at once
	TopicQueue = "queue" // a run can be claimed

	TopicSwitch = "switch" // chat or a provider was disabled or enabled: gates read the switches at once

	TopicRevoked = "revoked" // credentials of a user have ended: gates read the list at once
)

// TopicUser is woken when one of the user's runs starts or ends.
func TopicUser(user string) string { return "user:" + user }
