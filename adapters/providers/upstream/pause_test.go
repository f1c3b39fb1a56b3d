package upstream

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// every returns a Prompt.Due of output that is recorded every d.
func every(d time.Duration) func(time.Time) time.Time {
	return func(after time.Time) time.Time { return after.Truncate(d).Add(d) }
}

func TestWatchdog_Pause(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, int(time.Millisecond), time.UTC)
	for name, c := range map[string]struct {
		w    *Watchdog
		want time.Duration
	}{
		"BeforeTheFirstWord": {&Watchdog{due: every(time.Second)}, 0},
		"NobodySaysWhen":     {&Watchdog{begun: true, since: now.Add(-time.Minute)}, 0},
		"ReplyIsComplete":    {&Watchdog{due: every(time.Second), begun: true, complete: true, since: now.Add(-time.Minute)}, 0},
		"ReplyIsYoung":       {&Watchdog{due: every(time.Second), begun: true, since: now.Add(-time.Millisecond)}, 0},
		"ShareOfTheReply":    {&Watchdog{due: every(time.Second), begun: true, since: now.Add(-pauseShare * 100 * time.Millisecond)}, 100 * time.Millisecond},
		"UntilItIsDue":       {&Watchdog{due: every(125 * time.Millisecond), begun: true, since: now.Add(-time.Minute)}, 124*time.Millisecond - lead},
		"DueTooSoon":         {&Watchdog{due: every(10 * time.Millisecond), begun: true, since: now.Add(-time.Minute)}, 29*time.Millisecond - lead},
		"SlowStore":          {&Watchdog{due: every(time.Minute), begun: true, since: now.Add(-time.Hour)}, maxPause},
		"ShortIdleTimeout":   {&Watchdog{limits: Limits{Idle: 100 * time.Millisecond}, due: every(time.Minute), begun: true, since: now.Add(-time.Hour)}, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			c.w.limits = c.w.limits.OrDefaults()
			if got := c.w.pause(now); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// arrivals is a body to which bytes come while nobody reads.
type arrivals struct {
	mu    sync.Mutex
	more  *sync.Cond
	text  string
	ended bool
	reads int
}

func (a *arrivals) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads++
	for a.text == "" && !a.ended {
		a.more.Wait()
	}
	if a.text == "" {
		return 0, io.EOF
	}
	n := copy(p, a.text)
	a.text = a.text[n:]
	return n, nil
}

func (a *arrivals) Close() error { return nil }

func (a *arrivals) add(text string, ended bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text, a.ended = a.text+text, ended
	a.more.Signal()
}

// What comes word by word is read once for each time that output is recorded; a
// reply takes at most a sixteenth longer, and every word arrives.
func TestBody_ReadsWordsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const words, pace = 2000, 5 * time.Millisecond
		ctx, w := NewWatchdog(t.Context(), Limits{}.OrDefaults())
		defer w.Stop()
		w.due = every(125 * time.Millisecond)
		a := &arrivals{}
		a.more = sync.NewCond(&a.mu)
		go func() {
			for range words {
				time.Sleep(pace)
				a.add("a word of fifty bytes, as servers make of each word\n", false)
			}
			a.add("", true)
		}()
		begun, got := time.Now(), 0
		b := &body{rc: a, ctx: ctx, watchdog: w, left: -1}
		for p := make([]byte, 4096); ; {
			n, err := b.Read(p)
			got += strings.Count(string(p[:n]), "\n")
			w.Begin()
			if err != nil {
				break
			}
		}
		if got != words {
			t.Errorf("%d of %d words", got, words)
		}
		if a.reads > words/8 {
			t.Errorf("%d reads for %d words", a.reads, words)
		}
		if took, most := time.Since(begun), words*pace*(pauseShare+1)/pauseShare; took > most {
			t.Errorf("took %v, at most %v", took, most)
		}
	})
}

// A reply that comes faster than it is recorded is not held up.
func TestBody_ReadsMuchAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, w := NewWatchdog(t.Context(), Limits{}.OrDefaults())
		defer w.Stop()
		w.due = every(125 * time.Millisecond)
		w.Begin()
		time.Sleep(10 * time.Second)
		a := &arrivals{text: strings.Repeat("x", 1<<20), ended: true}
		begun := time.Now()
		if n, err := io.Copy(io.Discard, &body{rc: a, ctx: ctx, watchdog: w, left: -1}); n != 1<<20 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestBody_PauseEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := &body{ctx: ctx}
		time.AfterFunc(time.Millisecond, cancel)
		begun := time.Now()
		b.wait(time.Hour)
		if took := time.Since(begun); took != time.Millisecond {
			t.Errorf("paused for %v", took)
		}
	})
}

// What comes during a pause is there when it ends, and the connection is as
// before.
func TestBody_PauseOfASocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	b := &body{rc: client, ctx: t.Context(), socket: rawSocket(client), left: -1}
	if b.socket == nil {
		t.Fatal("a TCP connection has a socket")
	}
	p := make([]byte, 10)
	for range 3 {
		go func() { _, _ = server.Write([]byte("word")) }()
		b.wait(20 * time.Millisecond)
		if n, err := b.Read(p); string(p[:n]) != "word" || err != nil {
			t.Fatalf("%q, %v", p[:n], err)
		}
		go func() { // nobody waits for it yet
			time.Sleep(10 * time.Millisecond)
			_, _ = server.Write([]byte("late"))
		}()
		if n, err := b.Read(p); string(p[:n]) != "late" || err != nil {
			t.Fatalf("%q, %v", p[:n], err)
		}
	}
	if rawSocket(struct{ net.Conn }{client}) != nil {
		t.Error("a connection without a socket has none")
	}
}
