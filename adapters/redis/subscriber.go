package redis

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	pingInterval   = 500 * time.Millisecond // between two pings of the connection
	pingTimeout    = 2 * pingInterval       // until an unanswered ping closes it
	reconnectDelay = 250 * time.Millisecond
)

// connection is one connection that receives what other instances publish.
type connection struct {
	*redis.PubSub
	lastReceived atomic.Int64    // Unix nanoseconds
	lastPing     int64           // Unix nanoseconds; used by the publisher only
	subscribed   map[string]bool // channels; used by the publisher only
}

// subscribeLoop keeps one connection open and handles what it receives. The
// publisher subscribes to channels on it, and closes it when a ping is not
// answered. go-redis' own channel with health checks does not do: it reconnects
// without reporting that the connection was lost, and followers would be shown
// output that no longer grows instead of reading the store.
func (f *Feed) subscribeLoop(ctx context.Context) {
	for up := true; ctx.Err() == nil; {
		conn := &connection{PubSub: f.client.rdb.Subscribe(ctx), subscribed: map[string]bool{}}
		conn.lastReceived.Store(time.Now().UnixNano())
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		err := conn.Ping(ctx)
		if err == nil {
			f.mu.Lock()
			f.conn = conn
			for channel := range f.refs {
				f.pending.channels[channel] = true
			}
			f.wakePublisher()
			f.mu.Unlock()
		}
		for err == nil {
			var message any
			if message, err = conn.Receive(ctx); err == nil {
				up = true
				conn.lastReceived.Store(time.Now().UnixNano())
				f.handleMessage(ctx, message)
			}
		}
		stop()
		conn.Close()
		f.mu.Lock()
		f.conn = nil
		for _, s := range f.subscriptions {
			f.dropRemote(s)
		}
		f.mu.Unlock()
		if up && ctx.Err() == nil {
			up = false
			f.client.observe("feed", err)
		}
		select {
		case <-time.After(reconnectDelay):
		case <-ctx.Done():
		}
	}
}

// handleMessage wakes listeners and schedules fetches. The confirmation of a
// subscription counts as a message: one may have been published before it, also by
// an instance that has taken over a run of this one.
func (f *Feed) handleMessage(ctx context.Context, message any) {
	var channel string
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
		channel = m.Channel
	default:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if topic, ok := f.listens[channel]; ok {
		f.local.Notify(ctx, topic)
	}
	if f.subscriptions[channel] != nil {
		f.pending.fetch[channel] = true
		f.wakePublisher()
	}
}
