package replies

import (
	"context"
	"sync"
	"time"

	"parley/domain/chat"
	"parley/ports"
)

// recorder writes the output of this instance's live runs to the store and then
// publishes it to followers, so that no output that was shown can be lost. One
// statement records all runs that are due. The first output of a run that has
// followers is recorded at once; later output waits for the rest of Eager, or
// longer when statements get slow, so that recording takes a bounded share of
// the database, whatever the number of runs.
type recorder struct {
	s      *Service
	wakeup chan struct{}

	mu    sync.Mutex
	idle  *sync.Cond // signalled after every flush
	dirty map[*task]bool
	busy  map[*task]bool // in the current flush
}

func newRecorder(s *Service) *recorder {
	r := &recorder{s: s, wakeup: make(chan struct{}, 1), dirty: map[*task]bool{}}
	r.idle = sync.NewCond(&r.mu)
	return r
}

// markDirty schedules a task whose output is not recorded yet.
func (r *recorder) markDirty(t *task) {
	r.mu.Lock()
	known := r.dirty[t]
	r.dirty[t] = true
	r.mu.Unlock()
	if !known {
		r.wake()
	}
}

func (r *recorder) wake() {
	select {
	case r.wakeup <- struct{}{}:
	default:
	}
}

// stopRecording stops recording a task. It returns how much of the output is
// recorded, and how much may be: a store that did not answer may have recorded
// what it was sent, and followers on other instances may have read it.
func (r *recorder) stopRecording(t *task) (recorded, maybePersisted chat.Cursor) {
	r.mu.Lock()
	for r.busy[t] {
		r.idle.Wait()
	}
	delete(r.dirty, t)
	r.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.recorded, t.sent
}

// run records until ctx is done.
func (r *recorder) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	gap := time.Duration(0)
	last := time.Time{} // when the last flush ended
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wakeup:
		case <-timer.C:
		}
		due, wait := r.due(time.Now(), last.Add(max(gap, r.s.opt.Eager)))
		if len(due) > 0 {
			took, ok := r.flush(ctx, due)
			last = time.Now()
			gap = min(4*took, r.s.opt.Checkpoint)
			if due, wait = r.due(last, last.Add(max(gap, r.s.opt.Eager))); len(due) > 0 {
				wait = 0
			}
			if !ok { // nothing is lost by giving the store a moment
				gap, wait = r.s.opt.Checkpoint, r.s.opt.Checkpoint
			}
		}
		timer.Reset(wait)
	}
}

// due returns the tasks to record now and, if there are none, how long to wait
// for the first. Only first output is due before next.
func (r *recorder) due(now, next time.Time) (tasks []*task, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait = time.Hour
	for t := range r.dirty {
		at := next
		t.mu.Lock()
		switch {
		case t.followers == 0:
			if late := t.last.Add(r.s.opt.Checkpoint); late.After(at) {
				at = late
			}
		case !t.firstFlushed:
			at = now
		}
		t.mu.Unlock()
		if d := at.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		tasks = append(tasks, t)
	}
	return tasks, wait
}

// flush records and publishes the tasks. It reports how long the store took.
func (r *recorder) flush(ctx context.Context, tasks []*task) (took time.Duration, ok bool) {
	points := make([]chat.Checkpoint, 0, len(tasks))
	busy := make(map[*task]bool, len(tasks))
	r.mu.Lock()
	kept := tasks[:0]
	for _, t := range tasks {
		if !r.dirty[t] { // withdrawn since
			continue
		}
		delete(r.dirty, t)
		busy[t] = true
		kept = append(kept, t)
	}
	r.busy = busy
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.busy = nil
		r.idle.Broadcast()
		r.mu.Unlock()
	}()
	outputs := make([]chat.Output, 0, len(kept))
	bytes := 0
	for _, t := range kept {
		o, recorded := t.send()
		bytes += int(o.Len() - recorded)
		outputs = append(outputs, o)
		points = append(points, chat.Checkpoint{
			UserID: t.run.UserID, RunID: t.run.ID, Attempt: t.run.Attempt, At: recorded, New: o[recorded:],
		})
	}
	if len(points) == 0 {
		return 0, true
	}

	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.s.opt.AdmitTimeout)
	fenced, err := r.s.Store.Checkpoint(ctx, r.s.opt.Owner, points)
	cancel()
	took = time.Since(begun)
	r.s.Observer.Observe(ctx, ports.Checkpointed{Runs: len(points), Bytes: bytes, Took: took, Err: err})
	if err != nil {
		r.mu.Lock()
		for _, t := range kept {
			r.dirty[t] = true
		}
		r.mu.Unlock()
		return took, false
	}
	lost := map[string]bool{}
	for _, id := range fenced {
		lost[id] = true
	}
	progress := make([]ports.Progress, 0, len(kept))
	for i, t := range kept {
		if lost[t.run.ID] {
			t.cancel(errFenced)
			continue
		}
		r.recorded(t, outputs[i])
		progress = append(progress, r.s.progress(t, outputs[i]))
	}
	r.s.Feed.Publish(context.WithoutCancel(ctx), progress...)
	return took, true
}

func (r *recorder) recorded(t *task, o chat.Output) {
	now := time.Now()
	t.mu.Lock()
	first := !t.firstFlushed
	t.recorded, t.last, t.firstFlushed = o.Len(), now, true
	t.mu.Unlock()
	if first {
		r.s.Observer.Observe(t.ctx, ports.FirstEvent{RunID: t.run.ID, SinceAccepted: r.s.Now().Sub(t.accepted)})
	}
}
