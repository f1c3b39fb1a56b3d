package redis

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	pulse     = 500 * time.Millisecond // how often the connection is tried
	silence   = 2 * pulse              // how long the answer may take
	reconnect = 250 * time.Millisecond
)

// connection is one life of the connection that hears what others say.
type connection struct {
	*redis.PubSub
	heard      atomic.Int64    // when it last said anything, in Unix nanoseconds
	asked      int64           // when it was last asked for a sign of life; the sender's
	subscribed map[string]bool // channels that were asked for on it; the sender's
}

// hear keeps one connection open and takes in what it says. The sender
// subscribes, and closes the connection if it falls silent.
func (f *Feed) hear(ctx context.Context) {
	for up := true; ctx.Err() == nil; {
		conn := &connection{PubSub: f.client.rdb.Subscribe(ctx), subscribed: map[string]bool{}}
		conn.heard.Store(time.Now().UnixNano())
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		err := conn.Ping(ctx)
		if err == nil {
			f.mu.Lock()
			f.conn = conn
			for channel := range f.refs {
				f.todo.channels[channel] = true
			}
			f.hurry()
			f.mu.Unlock()
		}
		for err == nil {
			var message any
			if message, err = conn.Receive(ctx); err == nil {
				up = true
				conn.heard.Store(time.Now().UnixNano())
				f.take(ctx, message)
			}
		}
		stop()
		conn.Close()
		f.mu.Lock()
		f.conn = nil
		for _, t := range f.topics {
			f.drop(t)
		}
		f.mu.Unlock()
		if up && ctx.Err() == nil {
			up = false
			f.client.observe("feed", err)
		}
		select {
		case <-time.After(reconnect):
		case <-ctx.Done():
		}
	}
}

// take acts on one message. The confirmation of a subscription counts as news:
// something may have been said before it.
func (f *Feed) take(ctx context.Context, message any) {
	var channel string
	confirmed := false
	switch m := message.(type) {
	case *redis.Message:
		if m.Payload == f.name {
			return
		}
		channel = m.Channel
	case *redis.Subscription:
		if m.Kind != "subscribe" {
			return
		}
		channel, confirmed = m.Channel, true
	default:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if topic, ok := f.listens[channel]; ok {
		f.local.Notify(ctx, topic)
	}
	if t, ok := f.topics[channel]; ok && (!confirmed || f.own[t.key] == nil) {
		f.todo.fetch[channel] = true
		f.hurry()
	}
}
