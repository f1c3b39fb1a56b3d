package upstream

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Limits bound one reply. A field that is 0 has the default.
type Limits struct {
	Connect    time.Duration // to connect, TLS included; 5 s
	FirstToken time.Duration // from the request to the first chunk of the reply; 60 s
	Idle       time.Duration // without a byte once the reply has begun; 30 s
	MaxEvent   int           // bytes of one line or event; 1 MiB
	MaxReply   int           // code points of reasoning and text together; 400,000
}

// OrDefaults returns the limits with defaults for what is not set.
func (l Limits) OrDefaults() Limits {
	set(&l.Connect, 5*time.Second)
	set(&l.FirstToken, time.Minute)
	set(&l.Idle, 30*time.Second)
	set(&l.MaxEvent, 1<<20)
	set(&l.MaxReply, 400_000)
	return l
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// grace bounds the wait for the end of a stream after the last chunk of a
// reply that has its finish reason: for usage, and for the end of the body,
// after which the connection can serve another request.
const grace = 2 * time.Second

// Watchdog cancels one request when it exceeds its time limits. Its methods
// may be called concurrently.
type Watchdog struct {
	limits Limits
	cancel context.CancelCauseFunc

	due func(after time.Time) time.Time // Prompt.Due

	mu       sync.Mutex
	timer    *time.Timer
	begun    bool
	since    time.Time // when it has begun
	complete bool
	reached  bool // a connection was made
}

type watchdogKey struct{}

// NewWatchdog starts the time of the first token. The context that it returns
// ends with a fault that names the exceeded limit. Stop must be called.
func NewWatchdog(ctx context.Context, l Limits) (context.Context, *Watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &Watchdog{limits: l, cancel: cancel}
	w.timer = time.AfterFunc(l.FirstToken, w.expire)
	return context.WithValue(ctx, watchdogKey{}, w), w
}

func watchdogOf(ctx context.Context) *Watchdog {
	w, _ := ctx.Value(watchdogKey{}).(*Watchdog)
	return w
}

func (w *Watchdog) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun {
		w.cancel(Fail(Idle, fmt.Errorf("nothing for %v", w.limits.Idle)))
		return
	}
	w.cancel(Fail(FirstToken, fmt.Errorf("nothing for %v", w.limits.FirstToken)))
}

// Begin records that a chunk of the reply has come. The first one starts the
// time of silence; each one after Complete starts the grace again.
func (w *Watchdog) Begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.complete:
		w.timer.Reset(min(grace, w.limits.Idle))
	case !w.begun:
		w.begun, w.since = true, time.Now()
		w.timer.Reset(w.limits.Idle)
	}
}

const (
	// pauseShare bounds how much longer a reply takes for the pauses: a sixteenth.
	pauseShare = 16
	// maxPause bounds how long a provider's bytes wait in the kernel.
	maxPause = 250 * time.Millisecond
	// lead is how long before it is due output is read, so that it is decoded by then.
	lead = 4 * time.Millisecond
	// minPause is the shortest pause in which several words are likely to come.
	minPause = 16 * time.Millisecond
)

// pause returns how long to wait with the next read. Words come one by one, and
// waking up costs more than all else that is done for a word, so the words that
// will be recorded together are read together. The first word never waits, nor
// what follows a reason to end.
func (w *Watchdog) pause(now time.Time) time.Duration {
	w.mu.Lock()
	begun, since, complete := w.begun, w.since, w.complete
	w.mu.Unlock()
	if w.due == nil || !begun || complete {
		return 0
	}
	d := min(w.due(now.Add(lead+minPause)).Add(-lead).Sub(now), now.Sub(since)/pauseShare, maxPause, w.limits.Idle/2)
	if d < minPause {
		return 0
	}
	return d
}

// Complete records that the provider has marked the reply as complete, and
// starts the grace.
func (w *Watchdog) Complete() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun, w.complete = true, true
	w.timer.Reset(min(grace, w.limits.Idle))
}

// KeepAlive records that bytes have come. Pings count, because a model that
// reasons without showing it sends nothing else.
func (w *Watchdog) KeepAlive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun && !w.complete {
		w.timer.Reset(w.limits.Idle)
	}
}

// connected records whether the request has a connection.
func (w *Watchdog) connected(reached bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reached = reached
}

func (w *Watchdog) state() (reached, complete bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reached, w.complete
}

// Stop ends the time limits, and the request if it is still running.
func (w *Watchdog) Stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}
