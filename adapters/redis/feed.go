package redis

import (
	"context"
	"strings"
	"sync"
	"time"

	"parley/ports"
)

const (
	liveFor  = 10 * time.Minute // a value outlives its last publication
	endedFor = time.Minute      // and the end of its run
	maxBody  = 1 << 20          // bytes; followers of a longer reply read the store
	maxWork  = 4096             // pieces of work that may wait while Redis is down
)

// Feed is a ports.Feed for many instances. What is published here is visible
// here at once, through local. Redis is spoken to in the background: one
// goroutine sends, one listens, and no call of the port waits for either.
//
// Output of runs that other instances make is fetched when they say that it has
// grown, and put into local as well. When Redis is lost, that output is
// forgotten: followers are woken, find nothing, and ask the store.
type Feed struct {
	client *Client
	local  ports.Feed
	name   string // whose messages are not news here

	mu      sync.Mutex
	own     map[key]*owned
	topics  map[string]*topic // watched runs, by channel
	refs    map[string]int    // channels that somebody here wants
	listens map[string]string // topics of Listen, by channel
	todo    work
	conn    *connection // nil while nothing is heard

	kick chan struct{}
	stop context.CancelFunc
	wg   sync.WaitGroup
}

type key struct{ user, run string }

// owned is a run that this instance publishes.
type owned struct {
	attempt int
	ended   bool
	at      time.Time
	// What Redis has of it for certain, so that only the rest need be sent.
	sentAttempt, sent int
}

// topic is a run that somebody here watches.
type topic struct {
	key    key
	mirror ports.Progress // as last fetched
}

// work is what the sender has to do next. Newer work for the same thing
// replaces older.
type work struct {
	progress map[key]ports.Progress
	forget   map[key]int // the attempt that is given up
	notify   map[string]bool
	fetch    map[string]bool // by channel
	channels map[string]bool // whose subscription may have to change
}

func newWork() work {
	return work{
		progress: map[key]ports.Progress{}, forget: map[key]int{}, notify: map[string]bool{},
		fetch: map[string]bool{}, channels: map[string]bool{},
	}
}

// NewFeed returns a feed that joins local with those of all other instances.
// Nobody else uses local. Close it before the client.
func NewFeed(c *Client, local ports.Feed) *Feed {
	ctx, stop := context.WithCancel(context.Background())
	f := &Feed{
		client: c, local: local, name: c.opt.Instance,
		own: map[key]*owned{}, topics: map[string]*topic{}, refs: map[string]int{}, listens: map[string]string{},
		todo: newWork(), kick: make(chan struct{}, 1), stop: stop,
	}
	f.wg.Go(func() { f.speak(ctx) })
	f.wg.Go(func() { f.hear(ctx) })
	return f
}

// Close sends what is waiting to be sent, if Redis takes it, and leaves.
func (f *Feed) Close() error {
	f.stop()
	f.wg.Wait()
	return nil
}

// Publish makes progress visible here, and soon elsewhere.
func (f *Feed) Publish(ctx context.Context, progress ...ports.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range progress {
		k := key{p.UserID, p.RunID}
		o := f.own[k]
		if o == nil {
			o = &owned{}
			f.own[k] = o
		}
		if p.Attempt < o.attempt || p.Attempt == o.attempt && o.ended {
			continue
		}
		o.attempt, o.ended, o.at = p.Attempt, p.State.Terminal(), time.Now()
		if waiting, ok := f.todo.progress[k]; ok && waiting.Attempt == p.Attempt && !o.ended && p.Output.Len() < waiting.Output.Len() {
			continue
		}
		f.todo.progress[k] = p
	}
	f.local.Publish(ctx, progress...)
	f.hurry()
}

// Forget drops a live run that this instance makes no longer. What another
// instance makes of it is shown instead, if there is anything.
func (f *Feed) Forget(ctx context.Context, user, run string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key{user, run}
	f.local.Forget(ctx, user, run)
	o := f.own[k]
	if o == nil || o.ended {
		return
	}
	delete(f.own, k)
	delete(f.todo.progress, k)
	f.todo.forget[k] = o.attempt
	if t := f.topics[f.channel(k)]; t != nil {
		t.mirror = ports.Progress{UserID: user, RunID: run}
		f.todo.fetch[f.channel(k)] = true
	}
	f.hurry()
}

// ForgetUser drops what is held of a user's runs, here and in Redis. What waits
// to be sent of them is not sent.
func (f *Feed) ForgetUser(ctx context.Context, user string) error {
	f.mu.Lock()
	for k := range f.own {
		if k.user == user {
			delete(f.own, k)
			delete(f.todo.progress, k)
		}
	}
	err := f.local.ForgetUser(ctx, user)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	begin := strings.TrimSuffix(f.channel(key{user: user}), "}")
	return f.client.unlink(ctx, begin, func(name string) bool {
		return !strings.Contains(name[len(begin):], ":") // else it is somebody's whose id only begins alike
	})
}

// Watch follows one run, wherever it is made.
func (f *Feed) Watch(ctx context.Context, user, run string) ports.Watch {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key{user, run}
	channel := f.channel(k)
	if f.topics[channel] == nil {
		f.topics[channel] = &topic{key: k, mirror: ports.Progress{UserID: user, RunID: run}}
	}
	f.want(channel)
	return &watch{Watch: f.local.Watch(ctx, user, run), leave: sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.unwant(channel) {
			f.drop(f.topics[channel])
			delete(f.topics, channel)
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

// Notify wakes everyone who listens to a topic, on every instance.
func (f *Feed) Notify(ctx context.Context, topic string) {
	f.local.Notify(ctx, topic)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.todo.notify[f.client.opt.Prefix+"topic:"+topic] = true
	f.hurry()
}

// Listen returns a channel that receives after every Notify of the topic, and
// whenever one may have been missed.
func (f *Feed) Listen(topic string) (<-chan struct{}, func()) {
	wake, stop := f.local.Listen(topic)
	channel := f.client.opt.Prefix + "topic:" + topic
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listens[channel] = topic
	f.want(channel)
	return wake, sync.OnceFunc(func() {
		stop()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.unwant(channel) {
			delete(f.listens, channel)
		}
	})
}

// channel names a run's value and channel.
func (f *Feed) channel(k key) string {
	return f.client.opt.Prefix + "{run:" + k.user + ":" + k.run + "}"
}

func (f *Feed) want(channel string) {
	f.refs[channel]++
	if f.refs[channel] == 1 {
		f.todo.channels[channel] = true
		f.hurry()
	}
}

// unwant reports whether nobody wants the channel any more.
func (f *Feed) unwant(channel string) bool {
	f.refs[channel]--
	if f.refs[channel] > 0 {
		return false
	}
	delete(f.refs, channel)
	f.todo.channels[channel] = true
	f.hurry()
	return true
}

// drop takes what came from another instance out of local: it will not be kept
// up to date any more.
func (f *Feed) drop(t *topic) {
	o := f.own[t.key]
	if t.mirror.Attempt > 0 && (o == nil || o.attempt < t.mirror.Attempt) {
		f.local.Forget(context.Background(), t.key.user, t.key.run)
	}
	t.mirror = ports.Progress{UserID: t.key.user, RunID: t.key.run}
}

// hurry wakes the sender.
func (f *Feed) hurry() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}
