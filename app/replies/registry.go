package replies

import (
	"context"
	"sync"
	"time"

	"parley/domain/chat"
)

// task is a run that this instance makes.
type task struct {
	run      chat.Run // as claimed; Output holds what had been recorded then
	accepted time.Time
	recover  bool   // taken over from another owner
	trace    string // of the request, when the task is not part of it
	ctx      context.Context
	cancel   context.CancelCauseFunc

	mu           sync.Mutex
	log          *chat.OutputLog
	last         time.Time   // when output was last recorded
	recorded     chat.Cursor // how much the store has confirmed
	sent         chat.Cursor // how much it was given, which it may have recorded
	followers    int         // on this instance
	firstFlushed bool        // the first delta has been recorded
}

// newTask makes a task. It keeps the values of ctx, and outlives it.
func newTask(ctx context.Context, run chat.Run, accepted time.Time) *task {
	t := &task{run: run, accepted: accepted}
	t.ctx, t.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	t.log = chat.NewOutputLog(run.Output)
	t.recorded, t.sent = run.Output.Len(), run.Output.Len()
	t.last = accepted
	return t
}

// add appends a piece. It reports whether anything changed, and whether nothing
// has been recorded yet. The reasoning of a continuation is left out: its text
// goes on in the middle of a sentence.
func (t *task) add(d chat.Delta) (grown, first bool) {
	if t.run.Prefix != "" && d.Kind == chat.ReasoningPart {
		return false, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.Append(d), !t.firstFlushed
}

// output returns what has been produced so far.
func (t *task) output() chat.Output {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.Output()
}

// send returns what has been produced so far and how much of it is recorded, and
// remembers that the rest is about to be sent to the store.
func (t *task) send() (o chat.Output, recorded chat.Cursor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o = t.log.Output()
	t.sent = o.Len()
	return o, t.recorded
}

// runRegistry holds the tasks of this instance and bounds their number.
type runRegistry struct {
	mu       sync.Mutex
	tasks    map[string]*task
	reserved int // places that are reserved or taken
	capacity int

	closed bool
	cause  error         // with which every task is cancelled; nil: none is
	empty  chan struct{} // closed when the registry is closed and no place is reserved
}

func (r *runRegistry) init(capacity int) {
	r.tasks = map[string]*task{}
	r.capacity = capacity
	r.empty = make(chan struct{})
}

// close refuses further reservations. The returned channel is closed when no
// place is reserved any more.
func (r *runRegistry) close() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && r.reserved == 0 {
		close(r.empty)
	}
	r.closed = true
	return r.empty
}

// reserve takes a place for a run that is about to be admitted.
func (r *runRegistry) reserve() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.reserved >= r.capacity {
		return false
	}
	r.reserved++
	return true
}

// reserveBesideTask takes a second place for the work of a task that holds one.
// It does so after close, too: close waits for both.
func (r *runRegistry) reserveBesideTask() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reserved >= r.capacity {
		return false
	}
	r.reserved++
	return true
}

// unreserve gives back a place for which no task was registered.
func (r *runRegistry) unreserve() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked()
}

func (r *runRegistry) releaseLocked() {
	if r.reserved--; r.closed && r.reserved == 0 {
		close(r.empty)
	}
}

// register adds a task for which a place is reserved. One that comes behind
// cancelAll is cancelled too.
func (r *runRegistry) register(t *task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tasks[t.run.ID] = t
	if r.cause != nil {
		t.cancel(r.cause)
	}
}

// cancelAll cancels every task, also those that are still to come.
func (r *runRegistry) cancelAll(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cause = cause
	for _, t := range r.tasks {
		t.cancel(cause)
	}
}

func (r *runRegistry) remove(t *task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tasks[t.run.ID] == t {
		delete(r.tasks, t.run.ID)
	}
	r.releaseLocked()
}

func (r *runRegistry) get(id string) *task {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tasks[id]
}

func (r *runRegistry) all() []*task {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*task, 0, len(r.tasks))
	for _, t := range r.tasks {
		all = append(all, t)
	}
	return all
}

func (r *runRegistry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tasks)
}

func (r *runRegistry) free() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.capacity - r.reserved
}
