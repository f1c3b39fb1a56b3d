package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"parley/adapters/memory"
	"parley/platform/testing/testenv"
)

// group is some instances' limiters on one Redis.
type group struct {
	t        *testing.T
	limiters []*Limiter
	next     func(n int) int // which instance a request reaches
}

func newGroup(t *testing.T, server *testenv.Server, n int, opt Options) *group {
	g := &group{t: t}
	for range n {
		g.limiters = append(g.limiters, NewLimiter(open(t, server.URL(), opt), memory.NewLimiter(time.Now), FailLocal))
	}
	g.wait(time.Minute)
	turn := 0
	g.next = func(n int) int { turn++; return turn % n }
	return g
}

// wait sets how long a request waits for a decision of Redis. While Redis answers,
// that is as long as a loaded machine needs: a decision that is too slow is one of
// the faults that these tests inject.
func (g *group) wait(d time.Duration) {
	for _, l := range g.limiters {
		l.timeout = d
	}
}

func (g *group) pause(server *testenv.Server) {
	g.wait(decisionTimeout)
	server.Pause()
}

func (g *group) resume(server *testenv.Server) {
	server.Resume()
	g.wait(time.Minute)
}

// send sends requests to any of the instances and returns how many were admitted.
func (g *group) send(requests, limit int) (admitted int) {
	g.t.Helper()
	for range requests {
		admitted += g.sendTo(g.next(len(g.limiters)), limit)
	}
	return admitted
}

func (g *group) sendTo(i, limit int) int {
	g.t.Helper()
	d, err := g.limiters[i].Take(g.t.Context(), "user", limit)
	if err != nil {
		g.t.Fatal(err)
	}
	if !d.Allowed && d.RetryAfter <= 0 {
		g.t.Errorf("refused without RetryAfter: %+v", d)
	}
	if d.Allowed {
		return 1
	}
	return 0
}

// TestLimiter_RedisDiesSoonAfterStart: instances that have not counted each
// other yet admit no more than the limit together.
func TestLimiter_RedisDiesSoonAfterStart(t *testing.T) {
	t.Parallel()
	const limit = 100
	for _, tt := range []struct {
		name            string
		instances, told int
		before          int // requests before Redis dies
		lives           time.Duration
		random          bool
	}{
		{name: "AtOnce", instances: 4},
		{name: "AtOnceExpected", instances: 4, told: 4},
		{name: "AfterRequests", instances: 4, before: 40},
		{name: "AfterRequestsExpected", instances: 4, told: 4, before: 40},
		{name: "WithinSeconds", instances: 4, before: 40, lives: 2 * time.Second},
		{name: "WhenSpent", instances: 4, told: 4, before: 200, random: true},
		{name: "Eight", instances: 8, before: 50},
		{name: "MoreThanExpected", instances: 4, told: 2, before: 10, lives: 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartRedis(t)
			g := newGroup(t, server, tt.instances, Options{Instances: tt.told})
			if tt.random {
				r := rand.New(rand.NewPCG(1, 2))
				g.next = r.IntN
			}
			time.Sleep(tt.lives)
			admitted := g.send(tt.before, limit)
			server.Kill9()
			admitted += g.send(4*limit, limit)
			if admitted > limit {
				t.Errorf("%d admitted of %d", admitted, limit)
			}
			if admitted < limit/4 {
				t.Errorf("only %d admitted of %d", admitted, limit)
			}
		})
	}
}

// TestLimiter_RedisNeverAnswers: an instance that was started during an outage
// does not take itself for the only one.
func TestLimiter_RedisNeverAnswers(t *testing.T) {
	server := testenv.StartRedis(t)
	server.Kill9()
	if n := newGroup(t, server, 4, Options{}).send(400, 100); n > 100 || n < 25 {
		t.Errorf("%d admitted of 100", n)
	}
	if n := newGroup(t, server, 1, Options{Instances: 1}).send(400, 100); n != 100 {
		t.Errorf("%d admitted of 100 by the only instance", n)
	}
}

// counted returns how many requests Redis counts for the user.
func (g *group) counted() (n int) {
	raw, err := g.limiters[0].client.rdb.Get(context.Background(), "parley:limit:{user}").Result()
	if err != nil {
		return 0
	}
	for i := 4; i < 126; i += 2 {
		n += int(raw[i])<<8 + int(raw[i+1])
	}
	return n
}

func (g *group) settled() bool {
	for _, l := range g.limiters {
		if len(l.callers.owing(1)) > 0 {
			return false
		}
	}
	return true
}

// TestLimiter_LocalAdmissionsCountWhenRedisIsBack: what was admitted while
// Redis was slow counts in the shared window afterwards, exactly once, although
// commands that were given up were carried out later.
func TestLimiter_LocalAdmissionsCountWhenRedisIsBack(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 10, 30} {
		for _, during := range []int{1, 3, 20, 90} {
			t.Run(fmt.Sprintf("%d+%d", before, during), func(t *testing.T) {
				t.Parallel()
				server := testenv.StartRedis(t)
				g := newGroup(t, server, 2, Options{Instances: 2})
				const limit = 100
				admitted := g.send(before, limit)
				g.pause(server)
				for range during {
					admitted += g.sendTo(0, limit)
				}
				g.resume(server)
				eventually(t, "local decisions are sent", g.settled)
				// Another request of the slow ones may be carried out now.
				eventually(t, "Redis has read all that was sent", func() bool {
					return g.limiters[0].client.rdb.Ping(t.Context()).Err() == nil
				})
				if n := g.counted(); n != admitted {
					t.Errorf("Redis counts %d, admitted were %d", n, admitted)
				}
				eventually(t, "the instances admit by the shared count again", func() bool {
					return !g.limiters[0].client.careful() && !g.limiters[1].client.careful()
				})
				for range 2 * limit {
					admitted += g.sendTo(1, limit)
				}
				if admitted != limit {
					t.Errorf("%d admitted of %d", admitted, limit)
				}
			})
		}
	}
}

// TestLimiter_SlowNowAndThen: whichever decisions Redis is too slow for, no
// more than the limit is admitted, and no user loses what was not used.
func TestLimiter_SlowNowAndThen(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	g := newGroup(t, server, 4, Options{Instances: 4})
	const limit = 100
	admitted := 0
	for range 12 {
		admitted += g.send(4, limit)
		g.pause(server)
		admitted += g.sendTo(g.next(4), limit)
		g.resume(server)
		eventually(t, "local decisions are sent", g.settled)
		if n := g.counted(); n != admitted {
			t.Fatalf("Redis counts %d, admitted were %d", n, admitted)
		}
	}
	eventually(t, "the instances admit by the shared count again", func() bool {
		for _, l := range g.limiters {
			if l.client.careful() {
				return false
			}
		}
		return true
	})
	if admitted += g.send(2*limit, limit); admitted != limit {
		t.Errorf("%d admitted of %d", admitted, limit)
	}
}

// TestLimiter_RefusedAlthoughCounted: a request that was refused because Redis
// was slow does not count once the command is carried out.
func TestLimiter_RefusedAlthoughCounted(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	g := newGroup(t, server, 1, Options{Instances: 1})
	l := g.limiters[0]
	l.fail = FailClosed
	eventually(t, "Redis answers", func() bool {
		d, err := l.Take(t.Context(), "user", 100)
		return err == nil && d.Allowed
	})
	g.pause(server)
	for range 5 {
		if _, err := l.Take(t.Context(), "user", 100); err == nil {
			t.Error("admitted")
		}
	}
	g.resume(server)
	eventually(t, "decisions are sent", g.settled)
	if n := g.counted(); n != 1 {
		t.Errorf("Redis counts %d requests, want 1", n)
	}
}

// TestLimiter_RedisLosesItsData: counts that are gone do not admit the limit a
// second time.
func TestLimiter_RedisLosesItsData(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	g := newGroup(t, server, 4, Options{Instances: 4})
	const limit = 100
	admitted := g.send(limit, limit)
	eventually(t, "all are registered", func() bool { return g.limiters[0].client.rdb.ZCard(t.Context(), "parley:instances").Val() == 4 })
	server.Kill9()
	g.send(4, limit)
	server.Restart()
	eventually(t, "all are registered again", func() bool { return g.limiters[0].client.rdb.ZCard(t.Context(), "parley:instances").Val() == 4 })
	admitted += g.send(4*limit, limit)
	if admitted > limit {
		t.Errorf("%d admitted of %d", admitted, limit)
	}
}

func TestPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := presence{instances: unknownInstances}
		steps := []struct {
			after   time.Duration
			counted int // 0: no answer
			want    int
		}{
			{0, 1, 8}, {time.Second, 2, 8}, {time.Second, 12, 12}, {3 * time.Second, 4, 4},
			{time.Second, 0, 4}, {time.Hour, 0, 4}, {time.Second, 1, 4}, {contactForFewer, 2, 2}, {time.Second, 3, 3},
		}
		for i, s := range steps {
			time.Sleep(s.after)
			if s.counted == 0 {
				p.failure()
			} else {
				p.success(s.counted, 0, false)
			}
			if p.instances != s.want {
				t.Errorf("step %d: %d instances, want %d", i, p.instances, s.want)
			}
		}
	})
}
