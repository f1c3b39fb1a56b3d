package boot

import (
	"time"

	"parley/adapters/memory"
	"parley/adapters/redis"
	"parley/platform/config"
	"parley/ports"
)

// backends are the feed, the limiter and the cache: in Redis, backends by all
// instances, or in the memory of the only one.
type backends struct {
	feed    ports.Feed
	limiter ports.Limiter
	cache   ports.Cache
	check   *check // nil without Redis
	close   func()
}

// cacheBytes bounds the response cache in memory.
const cacheBytes = 64 << 20

// openBackends does not wait for Redis. While Redis does not answer, limits and
// live replies are those of each instance.
func openBackends(c config.Config, instance string, observer ports.Observer) (backends, error) {
	feed, limiter := memory.NewFeed(), memory.NewLimiter(time.Now)
	if !c.Store.RedisURL.Set() {
		return backends{feed: feed, limiter: limiter, cache: memory.NewCache(time.Now, cacheBytes), close: func() {}}, nil
	}
	client, err := redis.Open(c.Store.RedisURL.Reveal(), redis.Options{
		Instance: instance, Instances: c.Limits.Instances, Observer: observer,
	})
	if err != nil {
		return backends{}, usageError{err}
	}
	redisFeed := redis.NewFeed(client, feed)
	return backends{
		feed:    redisFeed,
		limiter: redis.NewLimiter(client, limiter, redis.FailMode(c.Limits.RateLimitFail)),
		cache:   redis.NewCache(client),
		check:   &check{name: "redis", ping: client.Ping},
		close: func() {
			_ = redisFeed.Close()
			_ = client.Close()
		},
	}, nil
}
