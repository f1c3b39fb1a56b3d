package boot

import (
	"time"

	"parley/adapters/memory"
	"parley/adapters/redis"
	"parley/platform/config"
	"parley/ports"
)

// shared is what instances have in common: through Redis, or within the only
// one that there is.
type shared struct {
	feed    ports.Feed
	limiter ports.Limiter
	cache   ports.Cache
	check   *check // nil without Redis
	close   func()
}

// cacheBytes bounds the response cache of one instance that is by itself.
const cacheBytes = 64 << 20

// openShared does not wait for Redis: what needs it works without, with less.
func openShared(c config.Config, instance string, observer ports.Observer) (shared, error) {
	feed, limiter := memory.NewFeed(), memory.NewLimiter(time.Now)
	if !c.Store.RedisURL.Set() {
		return shared{feed: feed, limiter: limiter, cache: memory.NewCache(time.Now, cacheBytes), close: func() {}}, nil
	}
	client, err := redis.Open(c.Store.RedisURL.Reveal(), redis.Options{
		Instance: instance, Instances: c.Limits.Instances, Observer: observer,
	})
	if err != nil {
		return shared{}, usageError{err}
	}
	far := redis.NewFeed(client, feed)
	return shared{
		feed:    far,
		limiter: redis.NewLimiter(client, limiter, redis.FailMode(c.Limits.RateLimitFail)),
		cache:   redis.NewCache(client),
		check:   &check{name: "redis", ping: client.Ping},
		close: func() {
			_ = far.Close()
			_ = client.Close()
		},
	}, nil
}
