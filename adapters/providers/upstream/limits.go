package upstream

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Limits bound one reply. A field that is 0 has the default.
type Limits struct {
	Connect    time.Duration // until a connection stands, TLS included; 5 s
	FirstToken time.Duration // from the request to the first piece of the reply; 60 s
	Idle       time.Duration // without a byte once the reply has begun; 30 s
	MaxEvent   int           // bytes of one line or event; 1 MiB
	MaxReply   int           // code points of reasoning and text together; 400,000
}

// OrDefaults fills in what is not set.
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

// grace is how long a provider may take to close a stream that it has
// completed: its usage, and the end of the body, which lets the connection be
// used again.
const grace = 2 * time.Second

// Watch guards the time of one request. Its context ends with a fault that
// says which limit has passed.
type Watch struct {
	limits Limits
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	timer   *time.Timer
	begun   bool
	whole   bool
	reached bool // a connection stood
}

type watchKey struct{}

// NewWatch starts the clock of the first token. End must be called.
func NewWatch(ctx context.Context, l Limits) (context.Context, *Watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &Watch{limits: l, cancel: cancel}
	w.timer = time.AfterFunc(l.FirstToken, w.expire)
	return context.WithValue(ctx, watchKey{}, w), w
}

func watchOf(ctx context.Context) *Watch {
	w, _ := ctx.Value(watchKey{}).(*Watch)
	return w
}

func (w *Watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun {
		w.cancel(Fail(Idle, fmt.Errorf("nothing for %v", w.limits.Idle)))
		return
	}
	w.cancel(Fail(FirstToken, fmt.Errorf("nothing for %v", w.limits.FirstToken)))
}

// Begin says that the reply has begun: from now on silence counts.
func (w *Watch) Begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.begun {
		w.begun = true
		w.timer.Reset(w.limits.Idle)
	}
}

// Whole says that the provider has marked the reply as whole: what may follow
// is bookkeeping, and is not waited for long.
func (w *Watch) Whole() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.whole {
		w.begun, w.whole = true, true
		w.timer.Reset(min(grace, w.limits.Idle))
	}
}

// alive says that bytes have come; pings count, since a model that thinks
// without showing it sends nothing else.
func (w *Watch) alive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun && !w.whole {
		w.timer.Reset(w.limits.Idle)
	}
}

func (w *Watch) connected(reached bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reached = reached
}

func (w *Watch) state() (reached, whole bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reached, w.whole
}

// End stops the clock and gives up the request if it is still going.
func (w *Watch) End() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}
