package boot_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"parley/adapters/providers/stub"
	"parley/platform/testing/testenv"
)

// The benchmarks of streams measure the built program as a process of its own,
// with the scripted provider in this one:
//
//	go test -run xxx -bench Streams -benchtime 1x ./platform/boot
//
// PARLEY_BINARIES compares builds in one run: name=path, separated by commas.
// PARLEY_BENCH_ENV adds settings, separated by spaces; "sqlite" among them
// leaves out the PostgreSQL.

// measured is a process of the program under measurement.
type measured struct {
	b     *testing.B
	pid   int
	url   string
	admin string
	token string
	begun time.Time
}

// builds runs a benchmark on every build that is to be compared.
func builds(b *testing.B, run func(b *testing.B, bin string)) {
	eachBuild(b, func(name, bin string) { b.Run(name, func(b *testing.B) { run(b, bin) }) })
}

// eachBuild calls with for every build that is to be compared.
func eachBuild(b *testing.B, with func(name, bin string)) {
	list := os.Getenv("PARLEY_BINARIES")
	if list == "" {
		bin := filepath.Join(b.TempDir(), "parley")
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "parley")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("build: %v\n%s", err, out)
		}
		list = "parley=" + bin
	}
	for entry := range strings.SplitSeq(list, ",") {
		name, bin, _ := strings.Cut(entry, "=")
		with(name, bin)
	}
}

// measure starts a build whose provider answers by a script.
func measure(b *testing.B, bin string, script stub.Script) *measured {
	b.Helper()
	provider, err := stub.Start(script)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(provider.Close)
	return measureServe(b, bin, "OPENAI_BASE_URL="+provider.OpenAIURL(), "OPENAI_API_KEY=key", "OPENAI_MODEL=gpt-4o-mini", "AI_PROVIDERS=openai")
}

// measureServe starts a build with the settings of a provider.
func measureServe(b *testing.B, bin string, settings ...string) *measured {
	b.Helper()
	dir := b.TempDir()
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	m := &measured{b: b}
	addr, admin := free(), free()
	m.url, m.admin = "http://"+addr, "http://"+admin
	env := slices.Concat(strings.Fields(os.Getenv("PARLEY_BENCH_ENV")), settings, []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "DATA_DIR=" + dir, "ADDR=" + addr, "ADMIN_ADDR=" + admin, "AUTH_SECRET=" + testSecret,
		"AI_MAX_CONCURRENCY=1000", "RATE_LIMIT_AUTHENTICATED=1000000", "MAX_STREAMS=0", "MAX_CONCURRENT_REPLIES=0", "LOG_FORMAT=json", "AI_FIRST_TOKEN_TIMEOUT=10m",
	})
	if !slices.Contains(env, "sqlite") {
		env = append(env, "DATABASE_URL="+testenv.Postgres(b), "MIGRATE_ON_START=true")
	}
	mint := exec.Command(bin, "token", "--user", "ann")
	mint.Env = env
	token, err := mint.Output()
	if err != nil {
		b.Fatal(err)
	}
	m.token = strings.TrimSpace(string(token))
	cmd, log := exec.Command(bin, "serve"), &output{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it must not outlive us
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	m.begun = time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	m.pid = cmd.Process.Pid
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if b.Failed() {
			text := log.String()
			b.Log(text[max(0, len(text)-2000):])
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if resp, err := http.Get(m.admin + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return m
			}
		}
		if time.Now().After(deadline) {
			b.Fatalf("not ready\n%s", log)
		}
	}
}

// do makes a request as the user, again and again while the process is too busy.
func (m *measured) do(method, path string, body []byte) *http.Response {
	for {
		req, err := http.NewRequest(method, m.url+path, bytes.NewReader(body))
		if err != nil {
			m.b.Error(err)
			return &http.Response{Body: http.NoBody}
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+m.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			m.b.Error(err)
			return &http.Response{Body: http.NoBody}
		}
		if resp.StatusCode < 300 {
			return resp
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			m.b.Errorf("status %d: %s", resp.StatusCode, text)
			return &http.Response{Body: http.NoBody}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// conversation makes a conversation and returns its id.
func (m *measured) conversation() string {
	resp := m.do(http.MethodPost, "/api/chat/conversations", []byte(`{}`))
	defer resp.Body.Close()
	var made struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil {
		m.b.Error(err)
	}
	return made.ID
}

// stream posts a message to a conversation and reads the reply to its end; first
// is called at the first piece of text.
func (m *measured) stream(conversation string, first func()) (events int) {
	body, _ := json.Marshal(map[string]any{"content": "Hello", "conversationId": conversation})
	resp := m.do(http.MethodPost, "/api/chat/stream", body)
	defer resp.Body.Close()
	scan, ended := bufio.NewScanner(resp.Body), false
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		line := scan.Bytes()
		switch {
		case bytes.Contains(line, []byte(`"type":"chunk"`)):
			if events == 0 && first != nil {
				first()
			}
			events++
		case bytes.Contains(line, []byte(`"type":"end"`)):
			ended = true
		}
	}
	if !ended {
		m.b.Error("a stream ended early: ", scan.Err())
	}
	return events
}

// cpu is the processor time that the process has used. The kernel counts it in
// nanoseconds for each thread, and Go ends none while it serves.
func (m *measured) cpu() (total time.Duration) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", m.pid))
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		ns, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.ParseInt(ns, 10, 64)
		total += time.Duration(n)
	}
	return total
}

// rss is the resident memory of the process in bytes.
func (m *measured) rss() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", m.pid))
	if err != nil {
		m.b.Fatal(err)
	}
	pages, _ := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	return pages * float64(os.Getpagesize())
}

// profile fetches a profile of the process into the directory of
// PARLEY_PROFILES, if there is one, while the rest goes on.
func (m *measured) profile(kind string, seconds int) {
	dir := os.Getenv("PARLEY_PROFILES")
	if dir == "" {
		return
	}
	url := m.admin + "/debug/pprof/" + kind
	if seconds > 0 {
		url += fmt.Sprint("?seconds=", seconds)
	}
	resp, err := http.Get(url)
	if err != nil {
		m.b.Error(err)
		return
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	_ = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(m.b.Name(), "/", "-")+"."+kind), data, 0o600)
}

// words are a reply of n words.
func words(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("word%d ", i))
	}
	return out
}

// BenchmarkStreamsRelay measures the processor time of a word of a reply, from
// the provider's bytes to the socket, storing and ending included, and what the
// process uses without any reply taken off.
func BenchmarkStreamsRelay(b *testing.B) {
	for _, load := range []struct {
		streams, words int
		pace           time.Duration
	}{{1, 2000, 5 * time.Millisecond}, {100, 500, 20 * time.Millisecond}, {100, 2000, 5 * time.Millisecond}} {
		b.Run(fmt.Sprintf("streams=%d/pace=%v", load.streams, load.pace), func(b *testing.B) {
			builds(b, func(b *testing.B, bin string) {
				m := measure(b, bin, stub.Always(stub.Reply{Chunks: words(load.words), Pace: load.pace}))
				all := func() (events int) {
					var wg sync.WaitGroup
					var mu sync.Mutex
					for range load.streams {
						wg.Go(func() {
							n := m.stream(m.conversation(), nil)
							mu.Lock()
							defer mu.Unlock()
							events += n
						})
					}
					wg.Wait()
					return events
				}
				all() // warm up
				before, begun := m.cpu(), time.Now()
				time.Sleep(2 * time.Second)
				idle := float64(m.cpu()-before) / float64(time.Since(begun))
				var cpu time.Duration
				events, took := 0, time.Duration(0)
				for range b.N {
					before, begun = m.cpu(), time.Now()
					go m.profile("profile", 4)
					events += all()
					cpu += m.cpu() - before
					took += time.Since(begun)
				}
				n := float64(b.N * load.words * load.streams)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(cpu.Nanoseconds())/1000/n, "µs/word")
				b.ReportMetric((float64(cpu)-idle*float64(took))/1000/n, "net-µs/word")
				b.ReportMetric(100*idle, "idle-%")
				b.ReportMetric(n/float64(events), "words/event")
			})
		})
	}
}

// BenchmarkStreamsFollowers measures the memory of a follower of a run that is
// silent, and what is left of it when all have gone.
func BenchmarkStreamsFollowers(b *testing.B) {
	followers := 10_000
	if n, err := strconv.Atoi(os.Getenv("PARLEY_FOLLOWERS")); err == nil {
		followers = n
	}
	builds(b, func(b *testing.B, bin string) {
		m := measure(b, bin, stub.Always(stub.Reply{Hang: true}))
		resp := m.do(http.MethodPost, "/api/chat/stream", []byte(`{"content":"Hello"}`))
		defer resp.Body.Close()
		run := ""
		for scan := bufio.NewScanner(resp.Body); run == "" && scan.Scan(); {
			if data, ok := strings.CutPrefix(scan.Text(), "data: "); ok {
				var start struct{ RunID string }
				_ = json.Unmarshal([]byte(data), &start)
				run = start.RunID
			}
		}
		time.Sleep(2 * time.Second)
		before := m.rss()
		request := fmt.Sprintf("GET /api/chat/messages/%s/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n"+
			"Accept: text/event-stream\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36\r\n\r\n", run, m.token)
		conns := make([]net.Conn, 0, followers)
		first := make([]byte, 4096)
		for range followers {
			// Ports of one address are too few for many connections.
			from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+len(conns)/20_000))}
			conn, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", strings.TrimPrefix(m.url, "http://"))
			if err != nil {
				b.Fatal(err)
			}
			conns = append(conns, conn)
			if _, err := io.WriteString(conn, request); err != nil {
				b.Fatal(err)
			}
			n, err := conn.Read(first)
			if err != nil || !bytes.HasPrefix(first[:n], []byte("HTTP/1.1 200")) {
				b.Fatalf("%v: %q", err, first[:n])
			}
		}
		settle := func(until func(rss float64) bool) float64 {
			rss := m.rss()
			for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && !until(rss); rss = m.rss() {
				time.Sleep(time.Second)
			}
			return rss
		}
		time.Sleep(5 * time.Second)
		with := m.rss()
		m.profile("heap", 0)
		m.profile("goroutine", 0)
		cpu, begun := m.cpu(), time.Now()
		time.Sleep(20 * time.Second)
		used := float64(m.cpu()-cpu) / float64(time.Since(begun))
		later := m.rss()
		for _, c := range conns {
			c.Close()
		}
		left := settle(func(rss float64) bool { return rss < before*1.1 })
		b.ReportMetric(0, "ns/op")
		b.ReportMetric((with-before)/1024/float64(followers), "KiB/follower")
		b.ReportMetric((later-before)/1024/float64(followers), "KiB/follower-later")
		b.ReportMetric(100*used, "cpu-%")
		b.ReportMetric(before/1e6, "MB-before")
		b.ReportMetric(left/1e6, "MB-after")
	})
}

// BenchmarkStreamsMemory measures the memory of the process without load and
// with 64 callers who send one message after another, and the time from its start
// to the end of the first reply.
func BenchmarkStreamsMemory(b *testing.B) {
	builds(b, func(b *testing.B, bin string) {
		m := measure(b, bin, stub.Say("A short reply."))
		m.stream(m.conversation(), nil)
		first := time.Since(m.begun)
		time.Sleep(5 * time.Second)
		idle := m.rss()
		m.profile("heap", 0)
		begun, peak := time.Now(), 0.0
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for c := m.conversation(); time.Since(begun) < 10*time.Second; {
					m.stream(c, nil)
				}
			})
		}
		for time.Since(begun) < 10*time.Second {
			time.Sleep(100 * time.Millisecond)
			peak = math.Max(peak, m.rss())
		}
		wg.Wait()
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(first.Milliseconds()), "ms-to-first-reply")
		b.ReportMetric(idle/1e6, "MB-idle")
		b.ReportMetric(peak/1e6, "MB-64-callers")
	})
}

// BenchmarkStreamsFirstToken measures what is added to the time from a request to
// the first piece of its reply by 16 callers, beyond what the provider takes.
func BenchmarkStreamsFirstToken(b *testing.B) {
	const delay, callers, turns = 20 * time.Millisecond, 16, 100
	builds(b, func(b *testing.B, bin string) {
		m := measure(b, bin, stub.Always(stub.Reply{Delay: delay, Chunks: words(20), Pace: 5 * time.Millisecond}))
		var mu sync.Mutex
		var added []time.Duration
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				conversation := m.conversation()
				for i := range turns {
					begun := time.Now()
					m.stream(conversation, func() {
						if i >= 10 {
							mu.Lock()
							added = append(added, time.Since(begun)-delay-5*time.Millisecond)
							mu.Unlock()
						}
					})
				}
			})
		}
		wg.Wait()
		slices.Sort(added)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(added[len(added)/2].Microseconds())/1000, "ms-p50")
		b.ReportMetric(float64(added[len(added)*99/100].Microseconds())/1000, "ms-p99")
	})
}
