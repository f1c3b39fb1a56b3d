// Package memory is what a single instance uses in place of Redis: the
// limiter, the feed of live replies and the response cache, in process.
package memory

import (
	"context"
	"sync"
	"time"

	"parley/ports"
)

// Ended runs are kept for followers that connect a little later. After that, or
// when there are very many, followers read the store.
const (
	linger   = 30 * time.Second
	maxEnded = 4096
)

// Feed is a ports.Feed for one process. A topic holds the newest progress of a
// run, whose strings it shares with the publisher.
type Feed struct {
	mu     sync.Mutex
	runs   map[key]*topic
	wakes  map[string]map[chan struct{}]bool
	ending []ended     // in order of time
	timer  *time.Timer // set while ending holds anything
}

type key struct{ user, run string }

type topic struct {
	held     bool
	progress ports.Progress
	watches  map[*watch]bool
}

type ended struct {
	at  time.Time
	key key
}

// NewFeed returns an empty feed. It need not be closed.
func NewFeed() *Feed {
	return &Feed{runs: map[key]*topic{}, wakes: map[string]map[chan struct{}]bool{}}
}

// Publish makes progress visible and wakes the run's watchers.
func (f *Feed) Publish(_ context.Context, progress ...ports.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range progress {
		k := key{p.UserID, p.RunID}
		t := f.topic(k)
		if t.held && older(p, t.progress) {
			continue
		}
		t.held, t.progress = true, p
		for w := range t.watches {
			w.wake()
		}
		if p.State.Terminal() {
			f.ending = append(f.ending, ended{time.Now(), k})
		}
	}
	f.expire()
}

// older reports whether p is older than what is known: an earlier attempt, a
// shorter output, or a run that is live again after it has ended.
func older(p, known ports.Progress) bool {
	switch {
	case p.Attempt != known.Attempt:
		return p.Attempt < known.Attempt
	case known.State.Terminal():
		return true
	case p.State.Terminal():
		return false // a stopped run may keep less than was produced
	}
	return p.Output.Len() < known.Output.Len()
}

func (f *Feed) topic(k key) *topic {
	t := f.runs[k]
	if t == nil {
		t = &topic{watches: map[*watch]bool{}}
		f.runs[k] = t
	}
	return t
}

// expire deletes ended runs that have been kept long enough, and schedules itself
// for the others.
func (f *Feed) expire() {
	limit, n := time.Now().Add(-linger), 0
	for n < len(f.ending) && (!f.ending[n].at.After(limit) || len(f.ending)-n > maxEnded) {
		k := f.ending[n].key
		if t := f.runs[k]; t != nil && t.progress.State.Terminal() {
			f.forget(k, t)
		}
		n++
	}
	clear(f.ending[:n]) // the rest is not moved: with very many, each end has one expire
	f.ending = f.ending[n:]
	if len(f.ending) == 0 || f.timer != nil {
		return
	}
	f.timer = time.AfterFunc(f.ending[0].at.Sub(limit), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.timer = nil
		f.expire()
	})
}

// Forget deletes a run's output and wakes its watchers, who then read the store.
func (f *Feed) Forget(_ context.Context, user, run string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key{user, run}
	if t := f.runs[k]; t != nil && !t.progress.State.Terminal() {
		f.forget(k, t)
		for w := range t.watches {
			w.wake()
		}
	}
}

// ForgetUser deletes the output of a user's runs, ended or not.
func (f *Feed) ForgetUser(_ context.Context, user string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, t := range f.runs {
		if k.user != user {
			continue
		}
		f.forget(k, t)
		for w := range t.watches {
			w.wake()
		}
	}
	return nil
}

func (f *Feed) forget(k key, t *topic) {
	t.held, t.progress = false, ports.Progress{}
	f.drop(k, t)
}

// drop removes a topic without output and without watchers.
func (f *Feed) drop(k key, t *topic) {
	if !t.held && len(t.watches) == 0 && f.runs[k] == t {
		delete(f.runs, k)
	}
}

// Watch follows one run.
func (f *Feed) Watch(_ context.Context, user, run string) ports.Watch {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key{user, run}
	t := f.topic(k)
	w := &watch{feed: f, key: k, topic: t, changed: make(chan struct{}, 1)}
	t.watches[w] = true
	return w
}

type watch struct {
	feed    *Feed
	key     key
	topic   *topic
	changed chan struct{}
	call    func() // instead of sending to changed; nil: send
}

// wake tells the follower of a change. The feed is locked.
func (w *watch) wake() {
	if w.call != nil {
		w.call()
		return
	}
	wake(w.changed)
}

func (w *watch) Latest(context.Context) (ports.Progress, bool) {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	return w.topic.progress, w.topic.held
}

func (w *watch) Changed() <-chan struct{} { return w.changed }

func (w *watch) OnChange(call func()) {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	w.call = call
	select {
	case <-w.changed:
		w.wake()
	default:
	}
}

func (w *watch) Close() {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	delete(w.topic.watches, w)
	w.feed.drop(w.key, w.topic)
}

// Notify wakes all listeners of a topic.
func (f *Feed) Notify(_ context.Context, topic string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.wakes[topic] {
		wake(c)
	}
}

// Listen returns a channel that receives after every Notify of the topic.
func (f *Feed) Listen(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wakes[topic] == nil {
		f.wakes[topic] = map[chan struct{}]bool{}
	}
	f.wakes[topic][c] = true
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.wakes[topic], c)
		if len(f.wakes[topic]) == 0 {
			delete(f.wakes, topic)
		}
	}
}

// wake puts one value into a channel, unless there is one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
