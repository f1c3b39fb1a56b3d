package doctor

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis checks the server at a URL: role, eviction, memory, persistence, clock. With
// a cluster the node that answers is checked.
func (r *Report) Redis(ctx context.Context, rawURL string) {
	opt, err := redis.ParseURL(strings.Split(rawURL, ",")[0])
	if err != nil {
		r.Fail("redis.connect", "set REDIS_URL to a URL such as redis://host:6379/0", "REDIS_URL cannot be read")
		return
	}
	client := redis.NewClient(opt)
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := client.Ping(ctx).Err(); err != nil {
		switch text := err.Error(); {
		case strings.Contains(text, "NOAUTH"), strings.Contains(text, "WRONGPASS"):
			r.Fail("redis.connect", "set user and password in REDIS_URL", "Redis refuses the password")
		default:
			r.Fail("redis.connect", "start Redis, or correct host, port and scheme (redis, rediss) in REDIS_URL", "Redis does not answer")
		}
		return
	}
	r.OK("redis.connect", "answers")
	text, err := client.Info(ctx, "everything").Result()
	if err != nil {
		r.Warn("redis.role", "permit INFO to the user of REDIS_URL", "Redis does not say how it is set up")
		return
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(info[name], 10, 64)
		return n
	}
	writes := client.Set(ctx, "parley:doctor", "1", time.Second).Err()
	switch {
	case info["role"] == "slave":
		r.Fail("redis.role", "let REDIS_URL name the primary", "Redis is a replica, which refuses writes")
	case writes != nil && !strings.HasPrefix(writes.Error(), "OOM") && !strings.HasPrefix(writes.Error(), "MISCONF"):
		r.Fail("redis.role", "permit all commands on all keys to the user of REDIS_URL", "Redis refuses writes: %s", redisCode(writes))
	default:
		r.OK("redis.role", "a primary")
	}
	policy := info["maxmemory_policy"]
	switch {
	case strings.HasPrefix(policy, "allkeys-") && number("maxmemory") > 0:
		r.Fail("redis.eviction", "run: redis-cli CONFIG SET maxmemory-policy volatile-ttl, and set it in redis.conf", "maxmemory-policy is %s: counters of limits can be evicted, and users then send more than they may", policy)
	default:
		r.OK("redis.eviction", "maxmemory-policy is %s", policy)
	}
	used, most := number("used_memory"), number("maxmemory")
	switch {
	case writes != nil && strings.HasPrefix(writes.Error(), "OOM"), most > 0 && used*10 > most*9:
		r.Fail("redis.memory", "raise maxmemory of Redis", "%d of %d MiB are used", used>>20, most>>20)
	case most == 0:
		r.OK("redis.memory", "%d MiB are used; maxmemory is not set", used>>20)
	default:
		r.OK("redis.memory", "%d of %d MiB are used", used>>20, most>>20)
	}
	switch {
	case writes != nil && strings.HasPrefix(writes.Error(), "MISCONF"), info["rdb_last_bgsave_status"] == "err", info["aof_last_write_status"] == "err":
		r.Fail("redis.persistence", "make room on the disk of Redis, or correct its dir, and run: redis-cli BGSAVE", "Redis cannot save its data, and may refuse writes")
	case info["loading"] == "1":
		r.Warn("redis.persistence", "wait until Redis has loaded its data", "Redis is loading its data")
	default:
		r.OK("redis.persistence", "no errors (append-only file: %s)", map[string]string{"1": "on"}[info["aof_enabled"]]+map[bool]string{true: "", false: "off"}[info["aof_enabled"] == "1"])
	}
	before := time.Now()
	there, err := client.Time(ctx).Result()
	if err != nil {
		r.Fail("redis.clock", "permit TIME to the user of REDIS_URL", "Redis does not say its time")
		return
	}
	r.compareClocks("redis.clock", there, before, time.Now())
}

// redisCode is the first word of an error of Redis.
func redisCode(err error) string {
	var known redis.Error
	if errors.As(err, &known) {
		code, _, _ := strings.Cut(known.Error(), " ")
		return code
	}
	return "no answer"
}
