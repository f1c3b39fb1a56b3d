// Package portstest holds the contract tests of the ports, which every adapter
// runs against its real backend, and a scripted model whose replies the test
// dictates.
package portstest

import (
	"context"
	"sync"
	"testing"
	"time"

	"parley/domain/chat"
	"parley/ports"
)

// waitTimeout bounds how long a test waits for something that happens at once. It
// is generous, for busy machines.
const waitTimeout = 10 * time.Second

// Scripted is a ports.Model whose every call waits for the steps of the test.
type Scripted struct {
	t     testing.TB
	calls chan *Call
	mu    sync.Mutex
	count int
}

// NewScripted returns a model for one test.
func NewScripted(t testing.TB) *Scripted {
	return &Scripted{t: t, calls: make(chan *Call, 1024)}
}

// Call is one call of the scripted model.
type Call struct {
	t      testing.TB
	Prompt ports.Prompt
	Ctx    context.Context //nolint:containedctx // what a test asserts about: whether the call was given up
	steps  chan func(emit func(chat.Delta)) (end bool, a ports.Answer, err error)
	ended  chan struct{}
}

// Generate carries out the steps of the test until one ends the reply or ctx is
// done.
func (m *Scripted) Generate(ctx context.Context, p ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	c := &Call{t: m.t, Prompt: p, Ctx: ctx, ended: make(chan struct{}),
		steps: make(chan func(func(chat.Delta)) (bool, ports.Answer, error))}
	defer close(c.ended)
	m.mu.Lock()
	m.count++
	m.mu.Unlock()
	m.calls <- c
	for {
		select {
		case step := <-c.steps:
			if end, a, err := step(emit); end {
				return a, err
			}
		case <-ctx.Done():
			return ports.Answer{Provider: "scripted", Model: "script"}, ctx.Err()
		}
	}
}

// Next waits for the next call.
func (m *Scripted) Next() *Call {
	m.t.Helper()
	select {
	case c := <-m.calls:
		return c
	case <-time.After(waitTimeout):
		m.t.Fatal("the model was not called")
		return nil
	}
}

// Calls returns how often the model was called.
func (m *Scripted) Calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// Say streams text.
func (c *Call) Say(text string) { c.t.Helper(); c.emit(chat.TextDelta(text)) }

// Think streams reasoning.
func (c *Call) Think(text string) { c.t.Helper(); c.emit(chat.ReasoningDelta(text)) }

// Show streams a whole part of another kind.
func (c *Call) Show(p chat.Part) { c.t.Helper(); c.emit(chat.Delta{Part: p}) }

func (c *Call) emit(d chat.Delta) {
	c.t.Helper()
	c.perform(func(emit func(chat.Delta)) (bool, ports.Answer, error) {
		emit(d)
		return false, ports.Answer{}, nil
	})
}

// Done ends the reply as complete.
func (c *Call) Done() {
	c.t.Helper()
	c.perform(func(func(chat.Delta)) (bool, ports.Answer, error) {
		return true, ports.Answer{Provider: "scripted", Model: "script", FinishReason: "stop",
			Usage: chat.Usage{Input: 7, Output: 3}}, nil
	})
}

// Fail ends the reply with an error.
func (c *Call) Fail(err error) {
	c.t.Helper()
	c.perform(func(func(chat.Delta)) (bool, ports.Answer, error) {
		return true, ports.Answer{Provider: "scripted", Model: "script"}, err
	})
}

func (c *Call) perform(step func(func(chat.Delta)) (bool, ports.Answer, error)) {
	c.t.Helper()
	select {
	case c.steps <- step:
	case <-c.ended:
		c.t.Fatal("the call has ended")
	case <-time.After(waitTimeout):
		c.t.Fatal("the call does not take the next step")
	}
}

// Ended is closed when the call has returned.
func (c *Call) Ended() <-chan struct{} { return c.ended }
