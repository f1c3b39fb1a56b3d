package redis

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/ports"
)

// batchSize bounds how many commands go in one round trip.
const batchSize = 256

// errUnfit says that a piece did not continue what Redis holds.
var errUnfit = errors.New("the piece does not fit")

// speak does what there is to do, all of it in one round trip if it can. What
// fails is done again, less and less eagerly, unless newer work replaces it.
func (f *Feed) speak(ctx context.Context) {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	wait := time.Duration(0)
	for {
		select {
		case <-f.kick:
		case <-tick.C:
			f.beat()
			continue
		case <-ctx.Done(): // what was published before Close still goes out
			f.carryOut(f.begin())
			return
		}
		if f.carryOut(f.begin()) {
			wait = 0
			continue
		}
		wait = min(max(2*wait, 50*time.Millisecond), 2*time.Second)
		f.beat()
		select {
		case <-time.After(wait):
			f.hurry()
		case <-ctx.Done():
		}
	}
}

// beat asks the listening connection for a sign of life, and closes it if
// there has been none for long.
func (f *Feed) beat() {
	f.mu.Lock()
	conn := f.conn
	f.sweep()
	f.mu.Unlock()
	if conn == nil {
		return
	}
	if conn.heard.Load() < conn.asked {
		if time.Since(time.Unix(0, conn.asked)) > silence {
			conn.Close()
		}
		return
	}
	conn.asked = time.Now().UnixNano()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_ = conn.Ping(ctx) // a failure shows in what is heard
}

// sweep forgets what runs were sent that have ended or fallen silent.
func (f *Feed) sweep() {
	now := time.Now()
	for k, o := range f.own {
		if age := now.Sub(o.at); age > liveFor || o.ended && age > endedFor {
			delete(f.own, k)
		}
	}
}

// begin takes the work.
func (f *Feed) begin() work {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.todo
	f.todo = newWork()
	return w
}

// again gives work back that was not done, where nothing newer has come and as
// long as there is not too much of it.
func (f *Feed) again(w work) {
	f.mu.Lock()
	defer f.mu.Unlock()
	giveBack(f.todo.forget, w.forget)
	giveBack(f.todo.notify, w.notify)
	giveBack(f.todo.fetch, w.fetch)
	giveBack(f.todo.channels, w.channels)
	for k := range w.progress { // given up, or forgotten, meanwhile
		if o := f.own[k]; o == nil || o.attempt != w.progress[k].Attempt {
			delete(w.progress, k)
		}
	}
	giveBack(f.todo.progress, w.progress)
}

func giveBack[K comparable, V any](todo, undone map[K]V) {
	for k, v := range undone {
		if _, newer := todo[k]; !newer && len(todo) < maxWork {
			todo[k] = v
		}
	}
}

// carryOut does the work and reports whether all of it was done.
func (f *Feed) carryOut(w work) bool {
	ok := f.subscribe(w)
	var errands []errand
	for k, p := range w.progress {
		errands = append(errands, f.publishing(k, p))
	}
	for k, attempt := range w.forget {
		errands = append(errands, f.forgetting(k, attempt))
	}
	for channel := range w.notify {
		errands = append(errands, f.notifying(channel))
	}
	for channel := range w.fetch {
		if e, ok := f.fetching(channel); ok {
			errands = append(errands, e)
		}
	}
	undone := newWork()
	for chunk := range slices.Chunk(errands, batchSize) {
		if !ok { // no use trying
			for _, e := range chunk {
				e.undone(undone)
			}
			continue
		}
		for i, err := range f.send(chunk) {
			switch {
			case errors.Is(err, errUnfit):
				chunk[i].undone(undone)
				f.hurry()
			case err != nil:
				chunk[i].undone(undone)
				ok = false
			}
		}
	}
	f.again(undone)
	return ok
}

// errand is one command, what to do with its answer, and how it is to be put
// down as undone.
type errand struct {
	script *redis.Script
	key    string
	args   []any
	done   func(reply any) error
	undone func(work)
}

// send carries errands out in one round trip.
func (f *Feed) send(errands []errand) []error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	replies := make([]*redis.Cmd, len(errands))
	// The error of the pipeline is the first of its commands'.
	_, _ = f.client.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, e := range errands {
			if e.script == nil {
				replies[i] = p.Do(ctx, e.args...)
			} else {
				replies[i] = e.script.EvalSha(ctx, p, []string{e.key}, e.args...)
			}
		}
		return nil
	})
	errs := make([]error, len(errands))
	for i, e := range errands {
		reply, err := replies[i].Result()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			reply, err = e.script.Run(ctx, f.client.rdb, []string{e.key}, e.args...).Result()
		}
		if err == nil {
			err = e.done(reply)
		}
		errs[i] = err
	}
	return errs
}

func (f *Feed) publishing(k key, p ports.Progress) errand {
	f.mu.Lock()
	from := 0
	if o := f.own[k]; o != nil && o.sentAttempt == p.Attempt {
		from = o.sent
	}
	f.mu.Unlock()
	all := body(p.Output)
	e := errand{
		undone: func(w work) {
			f.sent(k, 0, 0) // who knows
			w.progress[k] = p
		},
	}
	if len(all) > maxBody {
		e.script, e.key, e.args = forget, f.channel(k), []any{p.Attempt, f.name}
		e.done = func(any) error { return nil }
		return e
	}
	from = min(from, len(all))
	life, terminal := liveFor, 0
	if p.State.Terminal() {
		life, terminal = endedFor, 1
	}
	e.script, e.key = publish, f.channel(k)
	e.args = []any{
		p.Attempt, letters[p.State], terminal, len(p.Output.Reasoning), from, all[from:], life.Milliseconds(), f.name,
	}
	e.done = func(reply any) error {
		if reply == int64(0) {
			return errUnfit
		}
		f.sent(k, p.Attempt, len(all))
		return nil
	}
	return e
}

func (f *Feed) sent(k key, attempt, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.own[k]; o != nil {
		o.sentAttempt, o.sent = attempt, n
	}
}

func (f *Feed) forgetting(k key, attempt int) errand {
	return errand{
		script: forget, key: f.channel(k), args: []any{attempt, f.name},
		done:   func(any) error { return nil },
		undone: func(w work) { w.forget[k] = attempt },
	}
}

func (f *Feed) notifying(channel string) errand {
	return errand{
		args:   []any{"publish", channel, f.name},
		done:   func(any) error { return nil },
		undone: func(w work) { w.notify[channel] = true },
	}
}

// fetching reads the rest of a watched run and puts it into local. It does
// nothing if, meanwhile, the subscription is gone that would tell of the next.
func (f *Feed) fetching(channel string) (e errand, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, conn := f.topics[channel], f.conn
	if t == nil || conn == nil {
		return e, false
	}
	known := t.mirror
	return errand{
		script: fetch, key: channel, args: []any{known.Attempt, int(known.Output.Len())},
		undone: func(w work) { w.fetch[channel] = true },
		done: func(reply any) error {
			parts, _ := reply.([]any)
			p, err := extend(known, parts)
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.topics[channel] != t || f.conn != conn {
				return nil
			}
			if len(parts) == 0 { // it is not there, or no longer
				f.drop(t)
				return nil
			}
			if err != nil {
				f.drop(t)
				f.client.observe("feed", err)
				return nil
			}
			t.mirror = p
			if o := f.own[t.key]; o == nil || o.attempt < p.Attempt {
				f.local.Publish(context.Background(), p)
			}
			return nil
		},
	}, true
}

// subscribe makes the listening connection hear what is wanted, and no more.
// Who leaves a run and comes back before the sender has looked is subscribed
// already, and no confirmation will make them fetch what they missed.
func (f *Feed) subscribe(w work) bool {
	f.mu.Lock()
	conn := f.conn
	var join, leave []string
	for channel := range w.channels {
		switch wanted := f.refs[channel] > 0; {
		case conn == nil: // all of it is asked for again when there is one
		case wanted && conn.subscribed[channel]:
			w.fetch[channel] = true
		case wanted:
			join = append(join, channel)
		case conn.subscribed[channel]:
			leave = append(leave, channel)
		}
	}
	f.mu.Unlock()
	if conn == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for chunk := range slices.Chunk(join, batchSize) {
		if err := conn.Subscribe(ctx, chunk...); err != nil {
			conn.Close() // the next one subscribes to everything
			return false
		}
		for _, channel := range chunk {
			conn.subscribed[channel] = true
		}
	}
	for chunk := range slices.Chunk(leave, batchSize) {
		if err := conn.Unsubscribe(ctx, chunk...); err != nil {
			conn.Close()
			return false
		}
		for _, channel := range chunk {
			delete(conn.subscribed, channel)
		}
	}
	return true
}
