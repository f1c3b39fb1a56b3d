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
// followers is recorded at once; later output is recorded every Eager, or less
// often when statements get slow, so that recording takes a bounded share of the
// database, whatever the number of runs.
type recorder struct {
	s      *Service
	wakeup chan struct{}

	mu    sync.Mutex
	idle  *sync.Cond // signalled after every flush
	dirty map[*task]bool
	busy  map[*task]bool // in the current flush
	next  time.Time      // before it only first output is recorded
	timed bool           // run looks for dirty tasks by itself
}

func newRecorder(s *Service) *recorder {
	r := &recorder{s: s, wakeup: make(chan struct{}, 1), dirty: map[*task]bool{}}
	r.idle = sync.NewCond(&r.mu)
	return r
}

// markDirty schedules a task whose output is not recorded yet; first: none of it is.
func (r *recorder) markDirty(t *task, first bool) {
	r.mu.Lock()
	wake := !r.dirty[t] && (first || !r.timed)
	r.dirty[t] = true
	r.mu.Unlock()
	if wake {
		r.wake()
	}
}

func (r *recorder) wake() {
	select {
	case r.wakeup <- struct{}{}:
	default:
	}
}

// due returns when output of a run that has followers is recorded, if it comes
// after a time.
func (r *recorder) due(after time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range []time.Time{r.next, r.next.Add(r.s.opt.Eager)} {
		if !at.Before(after) {
			return at
		}
	}
	return after.Add(r.s.opt.Eager) // nothing is being recorded
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wakeup:
		case <-timer.C:
		}
		begun := time.Now()
		tasks, wait := r.collect(begun)
		if len(tasks) > 0 {
			took, ok := r.flush(ctx, tasks)
			gap := min(4*took, r.s.opt.Checkpoint)
			if !ok { // nothing is lost by giving the store a moment
				gap = r.s.opt.Checkpoint
			}
			wait = r.schedule(begun, begun.Add(took+gap))
		}
		timer.Reset(wait)
	}
}

// schedule sets when to record next, after a flush that began at a time, and
// returns how long to wait for it.
func (r *recorder) schedule(begun, earliest time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.next.After(begun) {
		r.next = begun.Add(r.s.opt.Eager)
	}
	if r.next.Before(earliest) {
		r.next = earliest
	}
	r.timed = true
	return time.Until(r.next)
}

// collect returns the tasks to record now and, if there are none, how long to wait
// for the first.
func (r *recorder) collect(now time.Time) (tasks []*task, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait = time.Hour
	for t := range r.dirty {
		at := r.next
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
	r.timed = len(r.dirty) > 0
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
