package boot_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/adapters/identity"
)

// The benchmarks of requests measure what one request costs the built program, as
// a process of its own with all features on: the bytes and objects that it
// allocates, which hardly depend on what else the machine does, and its processor
// time. MB is its resident memory in the end.
//
//	go test -run xxx -bench Requests -benchtime 4000x ./platform/boot
//
// The builds of PARLEY_BINARIES take turns, so that they are measured within the
// same seconds. PARLEY_PROFILES names a directory for profiles of the allocations.

// requestBuilds measures b.N requests of each build, by callers at once. prepare is
// called once for each caller, request for each request.
func requestBuilds(b *testing.B, callers int, prepare, request func(c *requestCaller)) {
	type build struct {
		name           string
		m              *measured
		callers        []*requestCaller
		cpu            time.Duration
		bytes, objects float64
	}
	var list []*build
	eachBuild(b, func(name, bin string) {
		m := measureServe(b, bin, "AI_PROVIDERS=demo", "DEMO_DELAY=0s",
			"BUDGET_TOKENS_DAY=1000000000000", "BUDGET_TOKENS_MONTH=1000000000000", "BUDGET_USD_DAY=1000000", "BUDGET_USD_MONTH=1000000")
		made := &build{name: name, m: m}
		for i := range callers {
			c := newRequestCaller(b, m, fmt.Sprint("caller-", i))
			prepare(c)
			made.callers = append(made.callers, c)
		}
		list = append(list, made)
	})
	drive := func(l *build, n int) {
		var left atomic.Int64
		left.Store(int64(n))
		var group sync.WaitGroup
		for _, c := range l.callers {
			group.Go(func() {
				for left.Add(-1) >= 0 && !b.Failed() {
					request(c)
				}
			})
		}
		group.Wait()
	}
	for _, l := range list {
		drive(l, max(1000, 10*callers)) // warm connections, plans and caches
	}
	const rounds = 8
	b.ResetTimer()
	for i := range rounds {
		n := b.N*(i+1)/rounds - b.N*i/rounds
		for _, l := range list {
			first := l.m.allocated()
			before, cpu := l.m.allocated(), l.m.cpu()
			drive(l, n)
			l.cpu += l.m.cpu() - cpu
			after := l.m.allocated()
			l.bytes += after.bytes - 2*before.bytes + first.bytes // without what the question itself takes
			l.objects += after.objects - 2*before.objects + first.objects
		}
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op")
	for _, l := range list {
		n := float64(b.N)
		b.ReportMetric(l.bytes/n, l.name+"-B")
		b.ReportMetric(l.objects/n, l.name+"-allocs")
		b.ReportMetric(float64(l.cpu.Microseconds())/n, l.name+"-µs")
		b.ReportMetric(l.m.rss()/1e6, l.name+"-MB")
		l.m.profile("allocs", 0)
		l.m.profile("heap", 0)
		if os.Getenv("PARLEY_PROFILES") != "" {
			done := make(chan struct{})
			go func() { defer close(done); drive(l, 4*b.N) }()
			l.m.profile("profile", 10)
			<-done
		}
	}
}

// allocation is what a process has allocated since it started.
type allocation struct{ bytes, objects float64 }

func (m *measured) allocated() (a allocation) {
	resp, err := http.Get(m.admin + "/metrics")
	if err != nil {
		m.b.Fatal(err)
	}
	defer resp.Body.Close()
	found := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case "go_memstats_alloc_bytes_total":
			a.bytes, err = strconv.ParseFloat(value, 64)
		case "go_memstats_mallocs_total":
			a.objects, err = strconv.ParseFloat(value, 64)
		default:
			continue
		}
		if found++; err != nil {
			m.b.Fatal(err)
		}
	}
	if found != 2 {
		m.b.Fatal("the process does not say what it has allocated")
	}
	return a
}

// requestCaller is a user who sends one request after another.
type requestCaller struct {
	b            *testing.B
	m            *measured
	client       *http.Client
	token        string
	conversation string
	turns        int // of a conversation, before the next one is made
	sent         int
}

func newRequestCaller(b *testing.B, m *measured, user string) *requestCaller {
	b.Helper()
	token, err := identity.Mint(testSecret, identity.Grant{UserID: user, TTL: time.Hour, Now: time.Now()})
	if err != nil {
		b.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	b.Cleanup(transport.CloseIdleConnections)
	return &requestCaller{b: b, m: m, client: &http.Client{Transport: transport}, token: token, turns: 20}
}

// do makes a request, again while the process is too busy, and returns the body of
// the answer.
func (c *requestCaller) do(method, path, key, body string) []byte {
	for {
		req, err := http.NewRequest(method, c.m.url+path, strings.NewReader(body))
		if err != nil {
			c.b.Error(err)
			return nil
		}
		req.Header.Set("Authorization", "Bearer "+c.token)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		status, text, err := c.send(req)
		switch {
		case err == nil && status < 300:
			return text
		case err != nil || status != http.StatusServiceUnavailable:
			c.b.Errorf("%s %s: status %d, %v: %s", method, path, status, err, text)
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *requestCaller) send(req *http.Request) (status int, text []byte, err error) {
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// turn sends a message of 570 bytes and waits for the reply, which is as long.
func (c *requestCaller) turn() {
	if c.sent%c.turns == 0 {
		var made struct{ ID string }
		if err := json.Unmarshal(c.do("POST", "/api/chat/conversations", "", "{}"), &made); err != nil {
			c.b.Error(err)
			return
		}
		c.conversation = made.ID
	}
	c.sent++
	content := strings.Repeat("How do I keep a sourdough starter alive while I am away? ", 10)
	answer := c.do("POST", "/api/chat/messages", fmt.Sprint("key-", c.sent), fmt.Sprintf(`{"content":%q,"conversationId":%q}`, content, c.conversation))
	if !bytes.Contains(answer, []byte(`"assistantMessage"`)) {
		c.b.Errorf("no reply: %s", answer)
	}
}

// BenchmarkRequestsTurn measures a message with its complete reply, in conversations
// of up to 40 messages.
func BenchmarkRequestsTurn(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			requestBuilds(b, callers, func(*requestCaller) {}, (*requestCaller).turn)
		})
	}
}

// BenchmarkRequestsRead measures the newest 50 messages of a conversation of 60, by
// 16 callers.
func BenchmarkRequestsRead(b *testing.B) {
	requestBuilds(b, 16, func(c *requestCaller) {
		for c.turns = 30; c.sent < c.turns; {
			c.turn()
		}
	}, func(c *requestCaller) {
		c.do("GET", "/api/chat/messages?limit=50&conversationId="+c.conversation, "", "")
	})
}
