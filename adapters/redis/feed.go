package redis

import (
	"context"
	"strings"
	"sync"
	"time"

	"parley/ports"
)

const (
	liveTTL        = 10 * time.Minute // of output after its last publication
	endedTTL       = time.Minute      // of output after the end of its run
	maxOutputBytes = 1 << 20          // followers of a longer reply read the store
	maxPending     = 4096             // operations of a kind that wait while Redis is down
)

// Feed is a ports.Feed for many instances. Output that is published on this
// instance is visible on it at once, through local. Redis is used in the
// background: one goroutine publishes, one subscribes, and no method waits for
// either.
//
// Output of other instances is fetched when they announce that it has grown, and
// published locally as well. When the connection to Redis is lost, that output
// is dropped: followers wake, find nothing, and read the store.
type Feed struct {
	client *Client
	local  ports.Feed
	name   string // of this instance, whose messages are ignored

	mu            sync.Mutex
	publications  map[key]*publication
	subscriptions map[string]*subscription // watched runs, by channel
	refs          map[string]int           // how often a channel is in use here
	listens       map[string]string        // topics of Listen, by channel
	pending       pendingOps
	conn          *connection // nil while there is none

	wake chan struct{}
	stop context.CancelFunc
	wg   sync.WaitGroup
}

type key struct{ user, run string }

// publication is a run that this instance publishes.
type publication struct {
	attempt int
	ended   bool
	at      time.Time
	// The attempt, and the bytes of its output, that Redis has for certain: only
	// the rest is sent.
	sentAttempt, sent int
}

// subscription is a run that is watched on this instance.
type subscription struct {
	key            key
	remoteSnapshot ports.Progress  // as last fetched
	grown          strings.Builder // its output; used by the publisher only
}

// pendingOps are the operations that the publisher carries out next. A newer
// one for the same run or channel replaces an older one.
type pendingOps struct {
	progress map[key]ports.Progress
	forget   map[key]int // the attempt that is given up
	notify   map[string]bool
	fetch    map[string]bool // by channel
	channels map[string]bool // whose subscription may have to change
}

func newPendingOps() pendingOps {
	return pendingOps{
		progress: map[key]ports.Progress{}, forget: map[key]int{}, notify: map[string]bool{},
		fetch: map[string]bool{}, channels: map[string]bool{},
	}
}

// NewFeed returns a feed that joins local with those of all other instances.
// Nothing else may use local. Close the feed before the client.
func NewFeed(c *Client, local ports.Feed) *Feed {
	ctx, stop := context.WithCancel(context.Background())
	f := &Feed{
		client: c, local: local, name: c.opt.Instance,
		publications: map[key]*publication{}, subscriptions: map[string]*subscription{}, refs: map[string]int{}, listens: map[string]string{},
		pending: newPendingOps(), wake: make(chan struct{}, 1), stop: stop,
	}
	f.wg.Go(func() { f.publishLoop(ctx) })
	f.wg.Go(func() { f.subscribeLoop(ctx) })
	return f
}

// Close sends what is pending, if Redis answers, and stops.
func (f *Feed) Close() error {
	f.stop()
	f.wg.Wait()
	return nil
}

// Publish makes progress visible on this instance at once, and on others soon.
func (f *Feed) Publish(ctx context.Context, progress ...ports.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range progress {
		k := key{p.UserID, p.RunID}
		known := f.publications[k]
		if known == nil {
			known = &publication{}
			f.publications[k] = known
		}
		if p.Attempt < known.attempt || p.Attempt == known.attempt && known.ended {
			continue
		}
		known.attempt, known.ended, known.at = p.Attempt, p.State.Terminal(), time.Now()
		if waiting, ok := f.pending.progress[k]; ok && waiting.Attempt == p.Attempt && !known.ended && p.Output.Len() < waiting.Output.Len() {
			continue
		}
		f.pending.progress[k] = p
	}
	f.local.Publish(ctx, progress...)
	f.wakePublisher()
}

// Forget drops a live run that this instance no longer makes. The output of an
// instance that has taken it over is shown instead.
func (f *Feed) Forget(ctx context.Context, user, run string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key{user, run}
	f.local.Forget(ctx, user, run)
	known := f.publications[k]
	if known == nil || known.ended {
		return
	}
	delete(f.publications, k)
	delete(f.pending.progress, k)
	f.pending.forget[k] = known.attempt
	if s := f.subscriptions[f.channel(k)]; s != nil {
		s.remoteSnapshot = ports.Progress{UserID: user, RunID: run}
		f.pending.fetch[f.channel(k)] = true
	}
	f.wakePublisher()
}

// ForgetUser drops the output of a user's runs on this instance and in Redis.
// What is pending of them is not sent.
func (f *Feed) ForgetUser(ctx context.Context, user string) error {
	f.mu.Lock()
	for k := range f.publications {
		if k.user == user {
			delete(f.publications, k)
			delete(f.pending.progress, k)
		}
	}
	err := f.local.ForgetUser(ctx, user)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	begin := strings.TrimSuffix(f.channel(key{user: user}), "}")
	return f.client.unlink(ctx, begin, func(name string) bool {
		return !strings.Contains(name[len(begin):], ":") // else it belongs to a user whose id begins with this one
	})
}

// Watch follows one run, whichever instance makes it.
func (f *Feed) Watch(ctx context.Context, user, run string) ports.Watch {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key{user, run}
	channel := f.channel(k)
	if f.subscriptions[channel] == nil {
		f.subscriptions[channel] = &subscription{key: k, remoteSnapshot: ports.Progress{UserID: user, RunID: run}}
	}
	f.acquireChannel(channel)
	return &watch{Watch: f.local.Watch(ctx, user, run), leave: sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.releaseChannel(channel) {
			f.dropRemote(f.subscriptions[channel])
			delete(f.subscriptions, channel)
		}
	})}
}

type watch struct {
	ports.Watch
	leave func()
}

func (w *watch) Close() {
	w.Watch.Close()
	w.leave()
}

// Notify wakes all listeners of a topic, on every instance.
func (f *Feed) Notify(ctx context.Context, topic string) {
	f.local.Notify(ctx, topic)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending.notify[f.client.opt.Prefix+"topic:"+topic] = true
	f.wakePublisher()
}

// Listen returns a channel that receives after every Notify of the topic, and
// when one may have been missed.
func (f *Feed) Listen(topic string) (<-chan struct{}, func()) {
	wake, stop := f.local.Listen(topic)
	channel := f.client.opt.Prefix + "topic:" + topic
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listens[channel] = topic
	f.acquireChannel(channel)
	return wake, sync.OnceFunc(func() {
		stop()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.releaseChannel(channel) {
			delete(f.listens, channel)
		}
	})
}

// channel returns the name of a run's value, which is that of its channel too.
func (f *Feed) channel(k key) string {
	return f.client.opt.Prefix + "{run:" + k.user + ":" + k.run + "}"
}

// acquireChannel subscribes to a channel with its first user.
func (f *Feed) acquireChannel(channel string) {
	f.refs[channel]++
	if f.refs[channel] == 1 {
		f.pending.channels[channel] = true
		f.wakePublisher()
	}
}

// releaseChannel unsubscribes from a channel with its last user, and reports
// whether this was it.
func (f *Feed) releaseChannel(channel string) bool {
	f.refs[channel]--
	if f.refs[channel] > 0 {
		return false
	}
	delete(f.refs, channel)
	f.pending.channels[channel] = true
	f.wakePublisher()
	return true
}

// dropRemote removes another instance's output from local, since it is no longer
// kept up to date.
func (f *Feed) dropRemote(s *subscription) {
	own := f.publications[s.key]
	if s.remoteSnapshot.Attempt > 0 && (own == nil || own.attempt < s.remoteSnapshot.Attempt) {
		f.local.Forget(context.Background(), s.key.user, s.key.run)
	}
	s.remoteSnapshot = ports.Progress{UserID: s.key.user, RunID: s.key.run}
}

// wakePublisher has the publisher look at the pending operations.
func (f *Feed) wakePublisher() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}
