package redis

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/ports"
)

// batchSize is the largest number of commands in one round trip.
const batchSize = 256

// errOffsetMismatch means that a piece of output did not begin where what Redis
// holds ends.
var errOffsetMismatch = errors.New("the piece of output does not begin where the stored one ends")

// publishLoop carries out pending operations, in one round trip where that is
// possible. Failed ones are tried again with a growing delay, unless newer ones
// have replaced them.
func (f *Feed) publishLoop(ctx context.Context) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	delay := time.Duration(0)
	for {
		select {
		case <-f.wake:
		case <-tick.C:
			f.healthCheck()
			continue
		case <-ctx.Done(): // what was published before Close is still sent
			f.flushPending(f.drainPending())
			return
		}
		if f.flushPending(f.drainPending()) {
			delay = 0
			continue
		}
		delay = min(max(2*delay, 50*time.Millisecond), 2*time.Second)
		f.healthCheck()
		select {
		case <-time.After(delay):
			f.wakePublisher()
		case <-ctx.Done():
		}
	}
}

// healthCheck pings the subscriber's connection, and closes it if the last ping
// was not answered in time.
func (f *Feed) healthCheck() {
	f.mu.Lock()
	conn := f.conn
	f.expirePublications()
	f.mu.Unlock()
	if conn == nil {
		return
	}
	if conn.lastReceived.Load() < conn.lastPing {
		if time.Since(time.Unix(0, conn.lastPing)) > pingTimeout {
			conn.Close()
		}
		return
	}
	conn.lastPing = time.Now().UnixNano()
	ctx, cancel := context.WithTimeout(context.Background(), f.client.opt.callTimeout)
	defer cancel()
	_ = conn.Ping(ctx) // a failure shows as a missing answer
}

// expirePublications removes runs that have ended or that nothing was published
// of for long.
func (f *Feed) expirePublications() {
	now := time.Now()
	for k, p := range f.publications {
		if age := now.Sub(p.at); age > liveTTL || p.ended && age > endedTTL {
			delete(f.publications, k)
		}
	}
}

// drainPending takes the pending operations.
func (f *Feed) drainPending() pendingOps {
	f.mu.Lock()
	defer f.mu.Unlock()
	ops := f.pending
	f.pending = newPendingOps()
	return ops
}

// requeue puts operations that failed back, unless newer ones have come or there
// are too many.
func (f *Feed) requeue(ops pendingOps) {
	f.mu.Lock()
	defer f.mu.Unlock()
	mergePending(f.pending.forget, ops.forget)
	mergePending(f.pending.notify, ops.notify)
	mergePending(f.pending.fetch, ops.fetch)
	mergePending(f.pending.channels, ops.channels)
	for k := range ops.progress { // given up, or forgotten, meanwhile
		if p := f.publications[k]; p == nil || p.attempt != ops.progress[k].Attempt {
			delete(ops.progress, k)
		}
	}
	mergePending(f.pending.progress, ops.progress)
}

func mergePending[K comparable, V any](pending, failed map[K]V) {
	for k, v := range failed {
		if _, newer := pending[k]; !newer && len(pending) < maxPending {
			pending[k] = v
		}
	}
}

// flushPending carries operations out and reports whether all of them succeeded.
func (f *Feed) flushPending(ops pendingOps) bool {
	ok := f.updateSubscriptions(ops)
	var commands []command
	for k, p := range ops.progress {
		commands = append(commands, f.publishCommand(k, p))
	}
	for k, attempt := range ops.forget {
		commands = append(commands, f.forgetCommand(k, attempt))
	}
	for channel := range ops.notify {
		commands = append(commands, f.notifyCommand(channel))
	}
	for channel := range ops.fetch {
		if c, ok := f.fetchCommand(channel); ok {
			commands = append(commands, c)
		}
	}
	failed := newPendingOps()
	for chunk := range slices.Chunk(commands, batchSize) {
		if !ok { // Redis does not answer
			for _, c := range chunk {
				c.failed(failed)
			}
			continue
		}
		for i, err := range f.sendBatch(chunk) {
			switch {
			case errors.Is(err, errOffsetMismatch):
				chunk[i].failed(failed)
				f.wakePublisher()
			case err != nil:
				chunk[i].failed(failed)
				ok = false
			}
		}
	}
	f.requeue(failed)
	return ok
}

// command is one command for Redis. done handles its reply; failed adds the
// operation to those that are tried again.
type command struct {
	script *redis.Script // nil: args are the whole command
	key    string
	args   []any
	done   func(reply any) error
	failed func(pendingOps)
}

// sendBatch sends commands in one round trip and returns an error, or nil, for
// each.
func (f *Feed) sendBatch(commands []command) []error {
	ctx, cancel := context.WithTimeout(context.Background(), f.client.opt.callTimeout)
	defer cancel()
	replies := make([]*redis.Cmd, len(commands))
	// The error of the pipeline is the first of its commands'.
	_, _ = f.client.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, c := range commands {
			if c.script == nil {
				replies[i] = p.Do(ctx, c.args...)
			} else {
				replies[i] = c.script.EvalSha(ctx, p, []string{c.key}, c.args...)
			}
		}
		return nil
	})
	errs := make([]error, len(commands))
	for i, c := range commands {
		reply, err := replies[i].Result()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			reply, err = c.script.Run(ctx, f.client.rdb, []string{c.key}, c.args...).Result()
		}
		if err == nil {
			err = c.done(reply)
		}
		errs[i] = err
	}
	return errs
}

// publishCommand sends what Redis does not have yet of a run's output.
func (f *Feed) publishCommand(k key, p ports.Progress) command {
	f.mu.Lock()
	from := 0
	if known := f.publications[k]; known != nil && known.sentAttempt == p.Attempt {
		from = known.sent
	}
	f.mu.Unlock()
	all := p.Output
	c := command{
		failed: func(ops pendingOps) {
			f.recordSent(k, 0, 0) // Redis may have any part of it
			ops.progress[k] = p
		},
	}
	if len(all) > maxOutputBytes {
		c.script, c.key, c.args = forget, f.channel(k), []any{p.Attempt, f.name}
		c.done = func(any) error { return nil }
		return c
	}
	from = min(from, len(all))
	ttl, terminal := liveTTL, 0
	if p.State.Terminal() {
		ttl, terminal = endedTTL, 1
	}
	c.script, c.key = publish, f.channel(k)
	c.args = []any{
		p.Attempt, stateCodes[p.State], terminal, from, string(all[from:]), ttl.Milliseconds(), f.name,
	}
	c.done = func(reply any) error {
		if reply == int64(0) {
			return errOffsetMismatch
		}
		f.recordSent(k, p.Attempt, len(all))
		return nil
	}
	return c
}

// recordSent notes how much Redis has of an attempt's output.
func (f *Feed) recordSent(k key, attempt, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.publications[k]; p != nil {
		p.sentAttempt, p.sent = attempt, n
	}
}

func (f *Feed) forgetCommand(k key, attempt int) command {
	return command{
		script: forget, key: f.channel(k), args: []any{attempt, f.name},
		done:   func(any) error { return nil },
		failed: func(ops pendingOps) { ops.forget[k] = attempt },
	}
}

func (f *Feed) notifyCommand(channel string) command {
	return command{
		args:   []any{"publish", channel, f.name},
		done:   func(any) error { return nil },
		failed: func(ops pendingOps) { ops.notify[channel] = true },
	}
}

// fetchCommand reads the rest of a watched run and publishes it locally. Its
// reply is ignored if the run is no longer watched, or if the subscription that
// would announce the next piece has been lost meanwhile.
func (f *Feed) fetchCommand(channel string) (c command, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, conn := f.subscriptions[channel], f.conn
	if s == nil || conn == nil {
		return c, false
	}
	known, own := s.remoteSnapshot, 0
	if p := f.publications[s.key]; p != nil {
		own = p.attempt
	}
	return command{
		script: fetch, key: channel, args: []any{known.Attempt, int(known.Output.Len()), own},
		failed: func(ops pendingOps) { ops.fetch[channel] = true },
		done: func(reply any) error {
			parts, _ := reply.([]any)
			p, err := applyChunk(known, &s.grown, parts)
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.subscriptions[channel] != s || f.conn != conn {
				return nil
			}
			if len(parts) == 0 { // Redis does not hold what another instance makes
				f.dropRemote(s)
				return nil
			}
			if err != nil {
				f.dropRemote(s)
				f.client.observe("feed", err)
				return nil
			}
			s.remoteSnapshot = p
			if own := f.publications[s.key]; own == nil || own.attempt < p.Attempt {
				f.local.Publish(context.Background(), p)
			}
			return nil
		},
	}, true
}

// updateSubscriptions subscribes the connection to exactly the channels that are
// in use. A follower that leaves a run and comes back before the publisher has
// run is still subscribed, and no confirmation will make it fetch what it has
// missed: its channel is fetched here.
func (f *Feed) updateSubscriptions(ops pendingOps) bool {
	f.mu.Lock()
	conn := f.conn
	var join, leave []string
	for channel := range ops.channels {
		switch used := f.refs[channel] > 0; {
		case conn == nil: // the next connection subscribes to everything
		case used && conn.subscribed[channel]:
			ops.fetch[channel] = true
		case used:
			join = append(join, channel)
		case conn.subscribed[channel]:
			leave = append(leave, channel)
		}
	}
	f.mu.Unlock()
	if conn == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.client.opt.callTimeout)
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
