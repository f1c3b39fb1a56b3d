// Package redis lets instances of Parley share what adapters/memory keeps in
// one process: the limiter's counts and the feed of live replies. Neither is
// the truth about anything, so every call is bounded, a Redis that is slow or
// gone costs accuracy and speed but no request, and a Redis that comes back
// empty is filled again by what happens next.
//
// Every key and channel begins with a prefix; what belongs to one run or one
// limited caller carries a hash tag, so that Redis Cluster serves as it is.
// Redis 5 or newer.
package redis

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"parley/ports"
)

const (
	// patience bounds a round trip that no request waits for.
	patience = 500 * time.Millisecond
	// presence is how often an instance says that it lives; after three times
	// that it counts no more.
	presence = 5 * time.Second
	// idle is how many connections stay open after a burst.
	idle = 4
)

// Options of Open. The zero value will do for one deployment on its own Redis.
type Options struct {
	// Instance names this process among those that share the Redis, as nothing
	// else; a random name when empty.
	Instance string
	// Instances is how many there are at least. More are counted as they show up.
	Instances int
	// Prefix of keys and channels; "parley:" when empty. Deployments that share
	// a Redis need different ones: databases do not separate channels.
	Prefix string
	// Observer is told of failures in the background; may be nil.
	Observer ports.Observer

	patience time.Duration // of tests
}

// Client is a connection pool and this instance's place among the others.
type Client struct {
	rdb       redis.UniversalClient
	opt       Options
	instances atomic.Int64
	stop      context.CancelFunc
	done      chan struct{}
}

//go:embed present.lua
var presentLua string

var present = redis.NewScript(presentLua)

// Open prepares a client for redis://user:password@host:port/db, or rediss://
// for TLS. With at least one &addr=host:port in its query, the URL names the
// nodes of a cluster. Redis need not be up: Open only fails on a bad URL.
func Open(rawURL string, opt Options) (*Client, error) {
	redis.SetLogger(quiet{}) // what goes wrong is returned, or told to the Observer
	if opt.patience == 0 {
		opt.patience = patience
	}
	rdb, err := dial(rawURL, opt.patience)
	if err != nil {
		return nil, err
	}
	if opt.Prefix == "" {
		opt.Prefix = "parley:"
	}
	if opt.Instance == "" {
		opt.Instance = rand.Text()
	}
	opt.Instances = max(opt.Instances, 1)
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{rdb: rdb, opt: opt, stop: stop, done: make(chan struct{})}
	c.instances.Store(int64(opt.Instances))
	go c.attend(ctx)
	return c, nil
}

func dial(rawURL string, patience time.Duration) (redis.UniversalClient, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("the Redis URL cannot be parsed") // it may hold a password
	}
	// Without ContextTimeoutEnabled a deadline is ignored, and a frozen server
	// costs seconds a call.
	if u.Query().Has("addr") {
		o, err := redis.ParseClusterURL(rawURL)
		if err != nil {
			return nil, fmt.Errorf("the URL of the Redis cluster: %w", err)
		}
		o.ContextTimeoutEnabled, o.MaxRetries, o.MaxRedirects = true, -1, 3
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience, patience
		o.MaxIdleConns, o.ConnMaxIdleTime, o.PipelinePoolSize = idle, time.Minute, -1
		o.DialerRetries, o.DisableIdentity = 1, true
		return redis.NewClusterClient(o), nil
	}
	o, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("the Redis URL: %w", err)
	}
	o.ContextTimeoutEnabled, o.MaxRetries = true, -1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience, patience
	o.MaxIdleConns, o.ConnMaxIdleTime, o.PipelinePoolSize = idle, time.Minute, -1
	o.DialerRetries, o.DisableIdentity = 1, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(o), nil
}

// Ping returns nil when Redis answers, within a quarter of a second.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	if err := c.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping Redis: %w", err)
	}
	return nil
}

// unlink removes every key that begins like this and is wanted. It looks at all
// keys of Redis, a page at a time: for what is rare, and no index is worth it.
func (c *Client) unlink(ctx context.Context, begin string, want func(key string) bool) error {
	each := func(ctx context.Context, node *redis.Client) error {
		keys := node.Scan(ctx, 0, escapeGlob(begin)+"*", 1000).Iterator()
		for keys.Next(ctx) {
			if key := keys.Val(); want(key) {
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
		return fmt.Errorf("forget in Redis: %w", err)
	}
	return nil
}

// escapeGlob makes a pattern that matches s and nothing else.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}

// Instances returns how many instances share this Redis, as far as is known.
func (c *Client) Instances() int { return int(c.instances.Load()) }

// Close leaves the others and closes the connections. Feeds are closed first.
func (c *Client) Close() error {
	c.stop()
	<-c.done
	return c.rdb.Close()
}

// attend keeps this instance on the list of those that are present, and counts
// them. While Redis is down, the last count holds.
func (c *Client) attend(ctx context.Context) {
	defer close(c.done)
	key := c.opt.Prefix + "instances"
	tick := time.NewTicker(presence)
	defer tick.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, patience)
		n, err := present.Run(call, c.rdb, []string{key}, c.opt.Instance, (3 * presence).Milliseconds()).Int64()
		cancel()
		if err == nil {
			c.instances.Store(max(n, int64(c.opt.Instances)))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			call, cancel := context.WithTimeout(context.Background(), patience)
			c.rdb.ZRem(call, key, c.opt.Instance) // best effort: it expires
			cancel()
			return
		}
	}
}

func (c *Client) observe(task string, err error) {
	if c.opt.Observer != nil {
		c.opt.Observer.Observe(context.Background(), ports.BackgroundFailed{Task: task, Err: err})
	}
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
