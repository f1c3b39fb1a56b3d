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

// sharedCall is one call of the providers whose reply goes to every caller who
// asked the same. It belongs to none of them: it goes on until it ends or the
// last waiter has left.
type sharedCall struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when answer and err are set

	mu      sync.Mutex
	waiters int
	charged bool // a waiter has been given the usage
	deltas  []chat.Delta
	more    chan struct{} // closed when deltas has grown
	answer  ports.Answer
	err     error
}

// join adds a waiter to the call of a question, or starts the call. A call has
// the deadline of the caller who starts it.
func (c *cache) join(ctx context.Context, owner, key string, first endpoint, ask askFunc) (call *sharedCall, started bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if call := c.calls[key]; call != nil && call.join() {
		return call, false
	}
	detached := context.WithoutCancel(ctx)
	cancel := func() {}
	if deadline, ok := ctx.Deadline(); ok {
		detached, cancel = context.WithDeadline(detached, deadline)
	}
	detached, stop := context.WithCancel(detached)
	call = &sharedCall{
		done: make(chan struct{}), more: make(chan struct{}), waiters: 1,
		answer: ports.Answer{Provider: first.name, Model: first.model},
		cancel: func() { stop(); cancel() },
	}
	c.calls[key] = call
	go func() {
		defer call.cancel()
		a, err := recovered(detached, ask, call.add)
		if err == nil {
			c.put(detached, owner, key, a, call.deltas)
		}
		c.mu.Lock()
		if c.calls[key] == call {
			delete(c.calls, key)
		}
		c.mu.Unlock()
		call.complete(a, err)
	}()
	return call, true
}

// recovered turns a panic into an error: no caller is on this goroutine's stack
// to recover it, and it would end the process.
func recovered(ctx context.Context, ask askFunc, emit func(chat.Delta)) (a ports.Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fault.Wrap(ports.Panic{Value: v, Stack: debug.Stack()}, fault.Internal, "The model's adapter broke").
				With("reason", "panic")
		}
	}()
	return ask(ctx, emit)
}

// join adds a waiter; false when all have left and the call is being cancelled.
func (s *sharedCall) join() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiters == 0 {
		return false
	}
	s.waiters++
	return true
}

func (s *sharedCall) add(d chat.Delta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deltas = append(s.deltas, d)
	close(s.more)
	s.more = make(chan struct{})
}

func (s *sharedCall) complete(a ports.Answer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.err = a, err
	close(s.done)
}

// follow passes the reply on until it or ctx ends. shown: some of it was passed
// on. The first waiter who sees the end is charged; the answers of the others
// say that they are cached.
func (s *sharedCall) follow(ctx context.Context, emit func(chat.Delta), started bool) (a ports.Answer, shown bool, err error) {
	next := 0
	for {
		s.mu.Lock()
		deltas, more := s.deltas[next:], s.more
		s.mu.Unlock()
		for _, d := range deltas {
			emit(d)
		}
		next += len(deltas)
		select {
		case <-more:
		case <-s.done:
			s.mu.Lock()
			deltas = s.deltas[next:]
			s.mu.Unlock()
			for _, d := range deltas {
				emit(d)
			}
			a, err = s.result(started)
			return a, next+len(deltas) > 0, err
		case <-ctx.Done():
			return s.release(), next > 0, upstream.Ended(ctx)
		}
	}
}

// result is the answer for one waiter, after the end.
func (s *sharedCall) result(started bool) (ports.Answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters--
	first := !s.charged
	s.charged = true
	if first {
		return s.answer, s.err
	}
	a := withoutUsage(s.answer)
	if started {
		delete(a.Metadata, "cached")
	}
	return a, s.err
}

// release removes a waiter before the end. The last one cancels the call, and
// waits until its usage is known.
func (s *sharedCall) release() ports.Answer {
	s.mu.Lock()
	s.waiters--
	last := s.waiters == 0
	a := withoutUsage(s.answer)
	s.mu.Unlock()
	if !last {
		return a
	}
	s.cancel()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	s.charged = true
	return s.answer
}
