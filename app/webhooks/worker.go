// Package webhooks delivers the events of the outbox to the operator's receiver:
// at least once, in no particular order, until the receiver accepts each or it is
// given up.
package webhooks

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"parley/domain/fault"
	"parley/domain/webhook"
	"parley/ports"
)

// Deps are what the worker depends on.
type Deps struct {
	Outbox   ports.Outbox
	Receiver ports.WebhookReceiver
	Observer ports.Observer
	Now      ports.Clock
}

// Options configure the worker. A zero value is replaced by its default.
type Options struct {
	Retention   time.Duration // how long delivered and dead events are kept; 7 days
	Concurrency int           // deliveries at the same time; 8
	Interval    time.Duration // between two looks for events that are due; 1 s
	// Lease is how long an event that was claimed is hidden from other workers. It
	// must be longer than the receiver's timeout; 1 min.
	Lease time.Duration
}

// Worker delivers events. Any number of instances may do so at once.
type Worker struct {
	Deps
	opt Options
}

// New returns a worker.
func New(deps Deps, opt Options) *Worker {
	if opt.Retention <= 0 {
		opt.Retention = 7 * 24 * time.Hour
	}
	if opt.Concurrency <= 0 {
		opt.Concurrency = 8
	}
	if opt.Interval <= 0 {
		opt.Interval = time.Second
	}
	if opt.Lease <= 0 {
		opt.Lease = time.Minute
	}
	return &Worker{deps, opt}
}

const (
	// measureInterval is how often the queue is counted, and expired events are deleted.
	measureInterval = 15 * time.Second
	expireBatch     = 500
	settleTimeout   = 5 * time.Second
)

// Serve delivers events until ctx is done. Deliveries that are going on then are
// finished first.
func (w *Worker) Serve(ctx context.Context) {
	tick := time.NewTicker(w.opt.Interval)
	defer tick.Stop()
	var busy sync.WaitGroup
	defer busy.Wait()
	slots := make(chan struct{}, w.opt.Concurrency) // of deliveries that are going on
	released := make(chan struct{}, 1)
	var measured time.Time
	for more := true; ; { // more: further events may be due
		if free := cap(slots) - len(slots); free > 0 && more {
			due := w.claim(ctx, free)
			more = len(due) == free
			for _, d := range due {
				slots <- struct{}{}
				busy.Go(func() {
					w.deliver(context.WithoutCancel(ctx), d)
					<-slots
					select {
					case released <- struct{}{}:
					default: // it has been said
					}
				})
			}
		}
		if time.Since(measured) >= measureInterval {
			w.housekeep(ctx)
			measured = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-released:
		case <-tick.C:
			more = true
		}
	}
}

// claim takes at most n events that are due.
func (w *Worker) claim(ctx context.Context, n int) []webhook.Delivery {
	due, err := w.Outbox.ClaimEvents(ctx, w.opt.Lease, n)
	if err != nil {
		w.failed(ctx, err)
	}
	return due
}

func (w *Worker) deliver(ctx context.Context, d webhook.Delivery) {
	began := w.Now()
	d.Last = w.Receiver.Deliver(ctx, d.Event)
	var in time.Duration
	d.State, in = d.Next(d.Last, w.Now(), w.opt.Retention, rand.Float64())
	settle, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	// An answer that cannot be recorded is asked for again after the lease: the
	// receiver sees the same id.
	if err := w.Outbox.SettleEvent(settle, d, in); err != nil && !fault.Is(err, fault.Fenced) {
		w.failed(ctx, err)
	}
	w.Observer.Observe(ctx, ports.WebhookSent{Delivery: d, Took: w.Now().Sub(began), Again: in})
}

// housekeep counts the queue and deletes what has expired.
func (w *Worker) housekeep(ctx context.Context) {
	for {
		n, err := w.Outbox.ExpireEvents(ctx, expireBatch)
		if err != nil {
			w.failed(ctx, err)
		}
		if err != nil || n < expireBatch {
			break
		}
	}
	q, err := w.Outbox.EventQueue(ctx)
	if err != nil {
		w.failed(ctx, err)
		return
	}
	w.Observer.Observe(ctx, q)
}

func (w *Worker) failed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		w.Observer.Observe(ctx, ports.BackgroundFailed{Task: "webhooks", Err: err})
	}
}
