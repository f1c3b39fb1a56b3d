package providers

import (
	"context"
	"runtime/debug"
	"sync"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// flight is one reply on its way to several who asked the same. It belongs to
// none of them: it goes on until it ends or the last one has left.
type flight struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when answer and err are set

	mu      sync.Mutex
	aboard  int
	paid    bool // somebody has been given the usage
	said    []chat.Delta
	more    chan struct{} // closed when said has grown
	answer  ports.Answer
	failure error
}

// join boards the flight of a question, or starts it. The flight has the
// deadline of whoever starts it.
func (c *cache) join(ctx context.Context, owner, key string, first target, ask asker) (f *flight, leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[key]; f != nil && f.board() {
		return f, false
	}
	away := context.WithoutCancel(ctx)
	cancel := func() {}
	if deadline, ok := ctx.Deadline(); ok {
		away, cancel = context.WithDeadline(away, deadline)
	}
	away, stop := context.WithCancel(away)
	f = &flight{
		done: make(chan struct{}), more: make(chan struct{}), aboard: 1,
		answer: ports.Answer{Provider: first.member.name, Model: first.name},
		cancel: func() { stop(); cancel() },
	}
	c.flights[key] = f
	go func() {
		defer f.cancel()
		a, err := guarded(away, ask, f.add)
		if err == nil {
			c.keep(away, owner, key, a, f.said)
		}
		c.mu.Lock()
		if c.flights[key] == f {
			delete(c.flights, key)
		}
		c.mu.Unlock()
		f.land(a, err)
	}()
	return f, true
}

// guarded turns a panic into an error: this goroutine is nobody's, and would
// take the process with it.
func guarded(ctx context.Context, ask asker, emit func(chat.Delta)) (a ports.Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fault.Wrap(ports.Panic{Value: v, Stack: debug.Stack()}, fault.Internal, "The model's adapter broke").
				With("reason", "panic")
		}
	}()
	return ask(ctx, emit)
}

// board reports false when everybody has left already.
func (f *flight) board() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.aboard == 0 {
		return false
	}
	f.aboard++
	return true
}

func (f *flight) add(d chat.Delta) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, d)
	close(f.more)
	f.more = make(chan struct{})
}

func (f *flight) land(a ports.Answer, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer, f.failure = a, err
	close(f.done)
}

// follow passes the reply on until it or ctx ends. shown: some of it was
// passed on. The first one who sees the end pays; the others' answers say
// that they are cached.
func (f *flight) follow(ctx context.Context, emit func(chat.Delta), leads bool) (a ports.Answer, shown bool, err error) {
	next := 0
	for {
		f.mu.Lock()
		fresh, more := f.said[next:], f.more
		f.mu.Unlock()
		for _, d := range fresh {
			emit(d)
		}
		next += len(fresh)
		select {
		case <-more:
		case <-f.done:
			f.mu.Lock()
			fresh = f.said[next:]
			f.mu.Unlock()
			for _, d := range fresh {
				emit(d)
			}
			a, err = f.bill(leads)
			return a, next+len(fresh) > 0, err
		case <-ctx.Done():
			return f.leave(), next > 0, upstream.Ended(ctx)
		}
	}
}

// bill is the answer as one of those aboard gets it.
func (f *flight) bill(leads bool) (ports.Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.aboard--
	pays := !f.paid
	f.paid = true
	if pays {
		return f.answer, f.failure
	}
	a := unpaid(f.answer)
	if leads {
		delete(a.Metadata, "cached")
	}
	return a, f.failure
}

// leave gets off before the end. The last one to do so ends the flight, and
// waits the moment it takes to know what it has cost.
func (f *flight) leave() ports.Answer {
	f.mu.Lock()
	f.aboard--
	last := f.aboard == 0
	a := unpaid(f.answer)
	f.mu.Unlock()
	if !last {
		return a
	}
	f.cancel()
	<-f.done
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paid = true
	return f.answer
}
