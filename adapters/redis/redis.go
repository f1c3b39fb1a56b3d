// Package redis lets instances of Parley share what adapters/memory keeps in
// one process: the limiter's counts, the feed of live replies and the response
// cache. None of them is authoritative. Every call has a timeout: a Redis that
// is slow or down costs accuracy and speed, but fails no request, and one that
// comes back empty is filled again by later requests.
//
// Every key and channel begins with a prefix. Those of one run or one caller
// have a hash tag, so that Redis Cluster works as it is. Redis 5 or newer.
package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"parley/ports"
)

const (
	// callTimeout bounds a round trip that no request waits for.
	callTimeout = 500 * time.Millisecond
	// maxIdleConns is how many connections stay open after a burst.
	maxIdleConns = 4
	// probeExpiry is how long the key that Ping writes is kept.
	probeExpiry = time.Minute
)

// Options of Open. The zero value is right for one deployment on its own Redis.
type Options struct {
	// Instance names this process uniquely among those that share the Redis; a
	// random name when empty.
	Instance string
	// Instances is how many are expected; more are counted as they register.
	// 0: unknown, and until they have been counted, 8 are assumed.
	Instances int
	// Prefix of keys and channels; "parley:" when empty. Deployments that share
	// a Redis need different ones: databases do not separate channels.
	Prefix string
	// Observer receives failures of background work; may be nil.
	Observer ports.Observer

	callTimeout time.Duration // of tests
}

// Client is a connection pool, with what this instance knows of the others.
type Client struct {
	rdb      redis.UniversalClient
	opt      Options
	presence presence
	stop     context.CancelFunc
	done     chan struct{}

	limitersMu sync.Mutex
	limiters   []*Limiter
	settleSoon chan struct{}
}

// Open prepares a client for redis://user:password@host:port/db, or rediss://
// for TLS. With at least one &addr=host:port in its query, the URL names the
// nodes of a cluster. It does not connect, and fails only for a bad URL.
func Open(rawURL string, opt Options) (*Client, error) {
	redis.SetLogger(nopLogger{}) // errors are returned, or passed to the Observer
	if opt.callTimeout == 0 {
		opt.callTimeout = callTimeout
	}
	rdb, err := dial(rawURL, opt.callTimeout)
	if err != nil {
		return nil, err
	}
	if opt.Prefix == "" {
		opt.Prefix = "parley:"
	}
	if opt.Instance == "" {
		opt.Instance = rand.Text()
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{rdb: rdb, opt: opt, stop: stop, done: make(chan struct{}), settleSoon: make(chan struct{}, 1)}
	c.presence.instances = opt.Instances
	if opt.Instances <= 0 {
		c.presence.instances = unknownInstances
	}
	go c.heartbeatPresence(ctx)
	return c, nil
}

func dial(rawURL string, timeout time.Duration) (redis.UniversalClient, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("the Redis URL cannot be parsed") // it may hold a password
	}
	// Without ContextTimeoutEnabled deadlines are ignored, and each call to a
	// frozen server takes seconds.
	if u.Query().Has("addr") {
		o, err := redis.ParseClusterURL(rawURL)
		if err != nil {
			return nil, fmt.Errorf("the URL of the Redis cluster: %w", err)
		}
		o.ContextTimeoutEnabled, o.MaxRetries, o.MaxRedirects = true, -1, 3
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
		o.MaxIdleConns, o.ConnMaxIdleTime, o.PipelinePoolSize = maxIdleConns, time.Minute, -1
		o.DialerRetries, o.DisableIdentity = 1, true
		return redis.NewClusterClient(o), nil
	}
	o, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("the Redis URL: %w", err)
	}
	o.ContextTimeoutEnabled, o.MaxRetries = true, -1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
	o.MaxIdleConns, o.ConnMaxIdleTime, o.PipelinePoolSize = maxIdleConns, time.Minute, -1
	o.DialerRetries, o.DisableIdentity = 1, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(o), nil
}

// Ping returns nil when Redis accepts a write, within a quarter of a second: one whose
// memory is full, or that is a replica, answers but refuses all that limits and live
// replies need.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout/2)
	defer cancel()
	if err := c.rdb.Set(ctx, c.opt.Prefix+"probe", 1, probeExpiry).Err(); err != nil {
		return fmt.Errorf("write to Redis: %w", err)
	}
	return nil
}

// unlink removes the keys that have a prefix and match. It scans all keys of
// Redis, a page at a time: it is for rare operations.
func (c *Client) unlink(ctx context.Context, prefix string, match func(key string) bool) error {
	each := func(ctx context.Context, node *redis.Client) error {
		keys := node.Scan(ctx, 0, escapeGlob(prefix)+"*", 1000).Iterator()
		for keys.Next(ctx) {
			if key := keys.Val(); match(key) {
				if err := c.rdb.Unlink(ctx, key).Err(); err != nil {
					return err
				}
			}
		}
		return keys.Err()
	}
	var err error
	switch rdb := c.rdb.(type) {
	case *redis.ClusterClient:
		err = rdb.ForEachMaster(ctx, each)
	case *redis.Client:
		err = each(ctx, rdb)
	}
	if err != nil {
		return fmt.Errorf("remove keys from Redis: %w", err)
	}
	return nil
}

// escapeGlob returns a pattern that matches only s.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}

// Close unregisters this instance and closes the connections. Close feeds first.
func (c *Client) Close() error {
	c.stop()
	<-c.done
	return c.rdb.Close()
}

// wakeSettler has local decisions sent to Redis soon.
func (c *Client) wakeSettler() {
	select {
	case c.settleSoon <- struct{}{}:
	default:
	}
}

func (c *Client) observe(task string, err error) {
	if c.opt.Observer != nil {
		c.opt.Observer.Observe(context.Background(), ports.BackgroundFailed{Task: task, Err: err})
	}
}

type nopLogger struct{}

func (nopLogger) Printf(context.Context, string, ...any) {}
