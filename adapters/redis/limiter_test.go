package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"parley/adapters/memory"
	"parley/domain/access"
	"parley/platform/testing/testenv"
	"parley/ports"
	"parley/ports/portstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a new client, as each instance has one.
func open(t testing.TB, url string, opt Options) *Client {
	t.Helper()
	c, err := Open(url, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// patientLimiter returns a limiter with a long timeout, for tests of counting on
// a busy machine.
func patientLimiter(t testing.TB, url string, clock ports.Clock) *Limiter {
	const timeout = 20 * time.Second
	l := NewLimiter(open(t, url, Options{callTimeout: timeout}), memory.NewLimiter(time.Now), FailClosed)
	l.timeout, l.clock = timeout, clock
	return l
}

func TestLimiter(t *testing.T) {
	portstest.Limiter(t, func(t testing.TB, now ports.Clock, n int) []ports.Limiter {
		url := testenv.Redis(t)
		limiters := make([]ports.Limiter, n)
		for i := range limiters {
			limiters[i] = patientLimiter(t, url, now)
		}
		return limiters
	})
}

// TestLimiter_FourInstancesAdmitTheLimit runs on the clock of Redis itself.
func TestLimiter_FourInstancesAdmitTheLimit(t *testing.T) {
	url := testenv.Redis(t)
	const limit, instances, each = 100, 4, 60
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range instances {
		l := patientLimiter(t, url, nil)
		wg.Go(func() {
			for range each {
				if d, err := l.Take(t.Context(), "user", limit); err != nil {
					t.Error(err)
				} else if d.Allowed {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != limit {
		t.Errorf("%d admitted, want %d", n, limit)
	}
}

func TestLimiter_OneRoundTripAndLittleMemory(t *testing.T) {
	now := time.Now()
	l := patientLimiter(t, testenv.Redis(t), func() time.Time { return now })
	rdb := l.client.rdb
	calls := func() (n int) {
		info := rdb.InfoMap(t.Context(), "commandstats").Val()
		_, err := fmt.Sscanf(info["Commandstats"]["cmdstat_evalsha"], "calls=%d", &n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	take := func() {
		t.Helper()
		if _, err := l.Take(t.Context(), "user", 1000); err != nil {
			t.Fatal(err)
		}
	}
	take()
	before := calls()
	for range 120 {
		now = now.Add(time.Second)
		take()
	}
	// The list of instances may have been renewed meanwhile.
	if n := calls() - before; n < 120 || n > 130 {
		t.Errorf("%d commands for 120 decisions", n)
	}
	if n := rdb.MemoryUsage(t.Context(), "parley:limit:{user}").Val(); n == 0 || n > 1024 {
		t.Errorf("%d bytes for a caller, want at most 1024", n)
	}
	if life := rdb.PTTL(t.Context(), "parley:limit:{user}").Val(); life <= 0 || life > 61*time.Second {
		t.Errorf("the count lives for %v", life)
	}
}

func TestLimiter_WithoutRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	limiter := func(t *testing.T, fail FailMode) *Limiter {
		return NewLimiter(open(t, server.URL(), Options{Instances: 4}), memory.NewLimiter(time.Now), fail)
	}
	server.Kill9()

	t.Run("local", func(t *testing.T) {
		l, admitted := limiter(t, FailLocal), 0
		for range 40 {
			d, err := l.Take(t.Context(), "user", 40)
			if err != nil || !d.Fallback {
				t.Fatalf("got %+v, %v", d, err)
			}
			if d.Allowed {
				admitted++
			} else if d.RetryAfter <= 0 {
				t.Errorf("refused without RetryAfter")
			}
		}
		if admitted != 10 {
			t.Errorf("%d admitted of a limit of 40 among 4 instances, want 10", admitted)
		}
		if d, _ := l.Take(t.Context(), "low", 1); !d.Allowed {
			t.Error("a limit below the number of instances admits nothing")
		}
		if d, _ := l.Take(t.Context(), "none", 0); d.Allowed {
			t.Error("a limit of 0 admits a request")
		}
	})
	t.Run("open", func(t *testing.T) {
		d, err := limiter(t, FailOpen).Take(t.Context(), "user", 5)
		if err != nil || !d.Allowed || !d.Fallback {
			t.Errorf("got %+v, %v", d, err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		d, err := limiter(t, FailClosed).Take(t.Context(), "user", 5)
		if err == nil || d.Allowed {
			t.Errorf("got %+v, %v", d, err)
		}
	})
}

// TestLimiter_FrozenRedis: a server that accepts connections and does not answer
// delays no decision beyond its timeout, and is used again when it answers.
func TestLimiter_FrozenRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	c := open(t, server.URL(), Options{callTimeout: time.Hour}) // a decision has a timeout of its own
	l := NewLimiter(c, memory.NewLimiter(time.Now), FailLocal)
	take := func() access.Decision {
		t.Helper()
		d, err := l.Take(t.Context(), "user", 1000)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	until := func(fallback bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); take().Fallback != fallback; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no decision with fallback %v", fallback)
			}
		}
	}
	until(false)
	server.Pause()
	until(true)
	for range 20 {
		take()
	}
	if c.Ping(t.Context()) == nil {
		t.Error("a frozen Redis answers a ping")
	}
	server.Resume()
	until(false)
	if err := c.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.rdb.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	until(false)
}

// TestLimiter_RepliesAreNotMixedUp cancels calls at random times and looks for
// replies that belong to another caller.
func TestLimiter_RepliesAreNotMixedUp(t *testing.T) {
	c := open(t, testenv.Redis(t), Options{})
	l := NewLimiter(c, memory.NewLimiter(time.Now), FailClosed)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			limit := 1000 * (n + 1) // so far apart that a reply shows whose it is
			for range 300 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(800))*time.Microsecond)
				d, err := l.Take(ctx, fmt.Sprint("user", n), limit)
				cancel()
				if err == nil && (!d.Allowed || d.Remaining < limit-300) {
					t.Errorf("limit %d: %+v", limit, d)
				}
			}
			got := 0
			if raw, err := c.rdb.Get(t.Context(), fmt.Sprintf("parley:limit:{user%d}", n)).Result(); err == nil {
				for i := 4; i < 126; i += 2 { // the buckets; tickets follow them
					got += int(raw[i])<<8 + int(raw[i+1])
				}
			}
			if got > 300 {
				t.Errorf("user%d: counted %d of 300", n, got)
			}
		})
	}
	wg.Wait()
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c circuit
		for range maxFailures - 1 {
			c.failure()
		}
		if !c.allow() {
			t.Error("open after too few failures")
		}
		c.failure()
		if c.allow() {
			t.Error("closed after as many failures as open it")
		}
		time.Sleep(retryInterval)
		if !c.allow() || c.allow() {
			t.Error("want one request to try, and the others to be spared")
		}
		c.success()
		if !c.allow() {
			t.Error("a success does not close it")
		}
	})
}

func TestClient_CountsInstances(t *testing.T) {
	url := testenv.Redis(t)
	first := open(t, url, Options{})
	eventually(t, "the first is counted", func() bool {
		return first.rdb.ZCard(t.Context(), "parley:instances").Val() == 1
	})
	second := open(t, url, Options{})
	eventually(t, "both are counted", func() bool { return second.Instances() == 2 })
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if n := first.rdb.ZCard(t.Context(), "parley:instances").Val(); n != 1 {
		t.Errorf("%d instances after one has left, want 1", n)
	}
}

func TestOpen_HidesThePassword(t *testing.T) {
	for _, url := range []string{"redis://u:canary@[::1", "http://u:canary@h", "redis://u:canary@h/x", "redis://u:canary@h?addr=h2&nonsense=1"} {
		c, err := Open(url, Options{})
		if err == nil {
			c.Close()
			t.Errorf("%s: no error", url)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func BenchmarkLimiter(b *testing.B) {
	l := NewLimiter(open(b, testenv.Redis(b), Options{}), memory.NewLimiter(time.Now), FailLocal)
	for b.Loop() {
		if d, err := l.Take(b.Context(), "user", 1<<30); err != nil || d.Fallback && !d.Allowed {
			b.Fatal(d, err)
		}
	}
}
