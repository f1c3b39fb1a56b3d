package webhooks_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/app/webhooks"
	"parley/domain/webhook"
	"parley/ports"
)

// queue is an outbox in memory, as far as a worker uses one.
type queue struct {
	mu      sync.Mutex
	due     []webhook.Delivery
	settled map[string]webhook.Delivery
	claims  int
}

func (q *queue) AddEvents(context.Context, ...webhook.Event) error { return nil }

func (q *queue) ClaimEvents(_ context.Context, _ time.Duration, n int) ([]webhook.Delivery, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.claims++
	n = min(n, len(q.due))
	taken := q.due[:n]
	q.due = q.due[n:]
	return taken, nil
}

func (q *queue) claimed() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.claims
}

func (q *queue) done() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.settled)
}

func (q *queue) SettleEvent(_ context.Context, d webhook.Delivery, _ time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.settled[d.ID] = d
	return nil
}

func (q *queue) ExpireEvents(context.Context, int) (int, error) { return 0, nil }

func (q *queue) EventQueue(context.Context) (ports.EventQueue, error) {
	return ports.EventQueue{}, nil
}

// slow answers after a while, and notes how many it was asked at once.
type slow struct {
	mu             sync.Mutex
	now, peak, all int
	takes          time.Duration
}

func (s *slow) Deliver(_ context.Context, _ webhook.Event) webhook.Answer {
	s.count(1)
	time.Sleep(s.takes)
	s.count(-1)
	return webhook.Answer{Status: 200}
}

func (s *slow) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now += n
	s.peak = max(s.peak, s.now)
	s.all += max(n, 0)
}

// TestWorker_Serve: a backlog is delivered as fast as the receiver answers, with
// a bounded number at once; an idle worker looks once in an interval; what is
// being delivered when the worker is stopped is finished.
func TestWorker_Serve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{settled: map[string]webhook.Delivery{}}
		add := func(n int) {
			q.mu.Lock()
			defer q.mu.Unlock()
			for range n {
				e := webhook.New(webhook.RunEnded, "ann", time.Now().String()+string(rune(len(q.due))), time.Now(), nil)
				q.due = append(q.due, webhook.Delivery{Event: e, Attempt: 1, Tries: 1})
			}
		}
		add(100)
		receiver := &slow{takes: 100 * time.Millisecond}
		w := webhooks.New(webhooks.Deps{Outbox: q, Receiver: receiver, Observer: ports.NopObserver{}, Now: time.Now},
			webhooks.Options{Concurrency: 4, Interval: time.Second})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { w.Serve(ctx); close(ended) }()
		time.Sleep(2600 * time.Millisecond) // 100 events, 4 at once, 0.1 s each
		synctest.Wait()
		if q.done() != 100 || receiver.peak != 4 {
			t.Errorf("%d delivered, at most %d at once; want 100 and 4", q.done(), receiver.peak)
		}
		before := q.claimed()
		time.Sleep(10 * time.Second)
		if idle := q.claimed() - before; idle > 11 {
			t.Errorf("%d claims in 10 idle seconds", idle)
		}
		add(3)
		time.Sleep(1050 * time.Millisecond)
		stop()
		<-ended
		if len(q.settled) != receiver.all || receiver.now != 0 {
			t.Errorf("%d were sent, %d settled, when the worker had stopped", receiver.all, len(q.settled))
		}
	})
}
