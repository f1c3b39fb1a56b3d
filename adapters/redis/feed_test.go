package redis

import (
	"context"
	"strings"
	"testing"
	"time"

	"parley/adapters/memory"
	"parley/domain/chat"
	"parley/platform/testing/testenv"
	"parley/ports"
	"parley/ports/portstest"
)

func openFeed(t testing.TB, url string) *Feed {
	t.Helper()
	f := NewFeed(open(t, url, Options{}), memory.NewFeed())
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFeed(t *testing.T) {
	portstest.Feed(t, func(t testing.TB) (ports.Feed, ports.Feed) {
		url := testenv.Redis(t)
		return openFeed(t, url), openFeed(t, url)
	})
}

// TestFeed_Cluster runs the contract on a cluster of one node, which is as
// strict about slots as any.
func TestFeed_Cluster(t *testing.T) {
	server := testenv.StartRedis(t, "--cluster-enabled", "yes")
	c := open(t, server.URL(), Options{})
	if err := c.rdb.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster is up", func() bool {
		return strings.Contains(c.rdb.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	url := server.URL()[:len(server.URL())-len("/0")] + "?addr=" + server.Addr()
	portstest.Feed(t, func(t testing.TB) (ports.Feed, ports.Feed) {
		return openFeed(t, url), openFeed(t, url)
	})
	l := patientLimiter(t, url, nil)
	if d, err := l.Take(t.Context(), "user", 3); err != nil || !d.Allowed || d.Remaining != 2 {
		t.Errorf("limiter: %+v, %v", d, err)
	}
}

func running(text string) ports.Progress {
	return ports.Progress{UserID: "u", RunID: "r", Attempt: 1, State: chat.Running, Output: chat.TextOutput(text)}
}

// shows waits until a watch shows text; "-" stands for nothing at all.
func shows(t *testing.T, w ports.Watch, text string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		p, ok := w.Latest(t.Context())
		if ok && p.Output.Text() == text || !ok && text == "-" {
			return
		}
		select {
		case <-w.Changed():
		case <-deadline:
			t.Fatalf("shows %.40q (held: %v), want %.40q", p.Output.Text(), ok, text)
		}
	}
}

// TestFeed_WaitsForNoCall: while the publisher waits for a frozen Redis, here for
// an hour, no method of the feed does.
func TestFeed_WaitsForNoCall(t *testing.T) {
	server := testenv.StartRedis(t)
	f := NewFeed(open(t, server.URL(), Options{callTimeout: time.Hour}), memory.NewFeed())
	defer f.Close()
	defer server.Resume()
	w := f.Watch(t.Context(), "u", "r")
	f.Publish(t.Context(), running("one"))
	shows(t, w, "one")

	server.Pause()
	f.Publish(t.Context(), running("one two"))
	// Of this, or still of what came before.
	eventually(t, "the publisher is in a call", func() bool {
		pool := f.client.rdb.PoolStats()
		return pool.TotalConns > pool.IdleConns
	})
	f.Publish(t.Context(), running("one two three"))
	shows(t, w, "one two three")
	f.Notify(t.Context(), "topic")
	f.Watch(t.Context(), "u", "other").Close()
	_, stop := f.Listen("other")
	stop()
	f.Forget(t.Context(), "u", "other")
	w.Close()
}

func TestFeed_SurvivesItsRedis(t *testing.T) {
	for name, fault := range map[string]struct{ inject, repair func(*testenv.Server) }{
		"Frozen": {(*testenv.Server).Pause, (*testenv.Server).Resume},
		"Killed": {(*testenv.Server).Kill9, (*testenv.Server).Restart},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartRedis(t)
			here, there := openFeed(t, server.URL()), openFeed(t, server.URL())
			local, remote := here.Watch(t.Context(), "u", "r"), there.Watch(t.Context(), "u", "r")
			defer local.Close()
			defer remote.Close()
			wake, stop := there.Listen("topic")
			defer stop()
			here.Publish(t.Context(), running("one"))
			shows(t, remote, "one")

			fault.inject(server)
			here.Publish(t.Context(), running("one two"))
			shows(t, local, "one two") // at once, and throughout the outage
			shows(t, remote, "-")      // so that followers read the store
			shows(t, local, "one two")
			here.Notify(t.Context(), "topic")
			there.Watch(t.Context(), "u", "other").Close()
			_, leave := there.Listen("other")
			leave()
			here.Forget(t.Context(), "u", "other")
			remote.Latest(t.Context())

			for len(wake) > 0 {
				<-wake
			}
			fault.repair(server)
			shows(t, remote, "one two") // without being published again
			select {
			case <-wake:
			case <-time.After(time.Minute):
				t.Error("a listener did not receive although it may have missed a notification")
			}
			here.Publish(t.Context(), running("one two three"))
			shows(t, remote, "one two three")
		})
	}
}

// TestFeed_TakenOverUnseen: an instance that publishes a run loses its subscription,
// and another one takes the run over before it is back.
func TestFeed_TakenOverUnseen(t *testing.T) {
	url := testenv.StartRedis(t).URL()
	here, there := openFeed(t, url), openFeed(t, url)
	w := here.Watch(t.Context(), "u", "r")
	defer w.Close()
	here.Publish(t.Context(), running("one"))
	late := there.Watch(t.Context(), "u", "r")
	defer late.Close()
	shows(t, late, "one")

	if err := here.client.rdb.Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	next := running("one two")
	next.Attempt = 2
	there.Publish(t.Context(), next)
	shows(t, w, "one two")
}

// TestFeed_FollowAgain leaves a run and follows it again faster than the
// subscription can end, as a reload of the page does.
func TestFeed_FollowAgain(t *testing.T) {
	url := testenv.Redis(t)
	here, there := openFeed(t, url), openFeed(t, url)
	here.Publish(t.Context(), running("one"))
	for range 100 {
		w := there.Watch(t.Context(), "u", "r")
		shows(t, w, "one")
		w.Close()
	}
}

func TestFeed_FlushedMidRun(t *testing.T) {
	url := testenv.StartRedis(t).URL()
	here, there := openFeed(t, url), openFeed(t, url)
	w := there.Watch(t.Context(), "u", "r")
	defer w.Close()
	here.Publish(t.Context(), running("one"))
	shows(t, w, "one")
	if err := here.client.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	here.client.rdb.ScriptFlush(t.Context())
	here.Publish(t.Context(), running("one two"))
	shows(t, w, "one two")
	late := openFeed(t, url).Watch(t.Context(), "u", "r") // sees all of it, which is stored again
	defer late.Close()
	shows(t, late, "one two")
}

func TestFeed_ValuesAreBounded(t *testing.T) {
	url := testenv.Redis(t)
	here, there := openFeed(t, url), openFeed(t, url)
	rdb, channel := here.client.rdb, here.channel(key{"u", "r"})
	w := there.Watch(t.Context(), "u", "r")
	defer w.Close()

	here.Publish(t.Context(), running("one"))
	shows(t, w, "one")
	if life := rdb.PTTL(t.Context(), channel).Val(); life <= endedTTL || life > liveTTL {
		t.Errorf("a live run is kept for %v", life)
	}
	here.Publish(t.Context(), running(strings.Repeat("x", maxOutputBytes+1)))
	shows(t, w, "-")
	if n := rdb.Exists(t.Context(), channel).Val(); n != 0 {
		t.Error("a very long reply is kept")
	}
	end := running("one, stopped")
	end.State = chat.Stopped
	here.Publish(t.Context(), end)
	shows(t, w, end.Output.Text())
	if life := rdb.PTTL(t.Context(), channel).Val(); life <= 0 || life > endedTTL {
		t.Errorf("an ended run is kept for %v", life)
	}
}

// TestFeed_SendsOnlyWhatIsNew: publishing a long reply piece by piece sends
// about its length, not its square.
func TestFeed_SendsOnlyWhatIsNew(t *testing.T) {
	url := testenv.StartRedis(t).URL()
	here, there := openFeed(t, url), openFeed(t, url)
	w := there.Watch(t.Context(), "u", "r")
	defer w.Close()
	text := strings.Repeat("0123456789abcdef", 4096)
	const pieces = 64
	for i := 1; i <= pieces; i++ {
		here.Publish(t.Context(), running(text[:i*len(text)/pieces]))
		shows(t, w, text[:i*len(text)/pieces])
	}
	for _, direction := range []string{"total_net_input_bytes", "total_net_output_bytes"} {
		stats := here.client.rdb.InfoMap(t.Context(), "stats").Val()["Stats"]
		if n := len(stats[direction]); n == 0 || n > len("999999") {
			t.Errorf("%s: %s for a text of %d bytes", direction, stats[direction], len(text))
		}
	}
}

func TestFeed_LeavesNothingBehind(t *testing.T) {
	url := testenv.StartRedis(t).URL()
	here, there := openFeed(t, url), openFeed(t, url)
	w := there.Watch(t.Context(), "u", "r")
	_, stop := there.Listen("topic")
	here.Publish(t.Context(), running("one"))
	shows(t, w, "one")
	channels := func() int { return len(here.client.rdb.PubSubChannels(t.Context(), "*").Val()) }
	eventually(t, "both channels are subscribed", func() bool { return channels() == 2 })
	w.Close()
	w.Close()
	stop()
	stop()
	eventually(t, "no channel is subscribed", func() bool { return channels() == 0 })
	there.mu.Lock()
	defer there.mu.Unlock()
	if len(there.subscriptions)+len(there.refs)+len(there.listens) != 0 {
		t.Errorf("left: %v, %v, %v", there.subscriptions, there.refs, there.listens)
	}
	again := there.local.Watch(t.Context(), "u", "r")
	defer again.Close()
	if p, ok := again.Latest(t.Context()); ok {
		t.Errorf("output of another instance is kept without a follower: %q", p.Output.Text())
	}
}

// TestFeed_ClosePublishesTheEnd: what was published last reaches other instances.
func TestFeed_ClosePublishesTheEnd(t *testing.T) {
	url := testenv.Redis(t)
	there := openFeed(t, url)
	w := there.Watch(t.Context(), "u", "r")
	defer w.Close()
	for range 3 {
		client, err := Open(url, Options{})
		if err != nil {
			t.Fatal(err)
		}
		here := NewFeed(client, memory.NewFeed())
		end := running("the end")
		end.State = chat.Completed
		here.Publish(t.Context(), end)
		here.Close()
		client.Close()
	}
	shows(t, w, "the end")
}

func TestFeed_ManyFollowers(t *testing.T) {
	url := testenv.Redis(t)
	here, there := openFeed(t, url), openFeed(t, url)
	var ws []ports.Watch
	for i := range 1000 { // more than fits one round trip
		w := there.Watch(t.Context(), "u", runID(i))
		defer w.Close()
		ws = append(ws, w)
	}
	for i := range ws {
		p := running("text of " + runID(i))
		p.RunID = runID(i)
		here.Publish(context.Background(), p)
	}
	for i, w := range ws {
		shows(t, w, "text of "+runID(i))
	}
}

func runID(i int) string { return "run-" + string(rune('a'+i%26)) + strings.Repeat("z", i/26) }
