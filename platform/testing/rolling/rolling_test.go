//go:build e2e

package rolling_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"parley/adapters/providers/stub"
	"parley/platform/testing/testenv"
	"parley/platform/testing/testworld"
)

// olderReleases are commits since which the migrations have only been added to: the
// first one with them, and one of later. They stand for the two releases before.
var olderReleases = []string{
	"4336e4e6ec8d", // index old messages for the search
	"38f5b66f7e34", // compare a test's panic with errors.Is
}

// build returns the program of a commit, from the repository's history. It is kept
// in bin/rolling.
func build(t *testing.T, commit string) string {
	t.Helper()
	root := testworld.Root(t)
	git := func(args ...string) *exec.Cmd {
		cmd := exec.Command("git", args...)
		cmd.Dir = root
		return cmd
	}
	if out, err := git("cat-file", "-e", commit+"^{commit}").CombinedOutput(); err != nil {
		t.Fatalf("the commit %s is not in this clone: fetch the whole history (git fetch --unshallow; in CI fetch-depth: 0)\n%s", commit, out)
	}
	program := filepath.Join(root, "bin", "rolling", "parley-"+commit)
	if _, err := os.Stat(program); err == nil {
		return program
	}
	source := t.TempDir()
	archive := filepath.Join(t.TempDir(), "source.tar")
	for _, cmd := range []*exec.Cmd{
		git("archive", "--format=tar", "-o", archive, commit),
		exec.Command("tar", "-xf", archive, "-C", source),
		exec.Command("go", "build", "-C", source, "-buildvcs=false", "-trimpath", "-ldflags", "-s -w -X parley/platform/boot.Version="+commit, "-o", program+".new", "."),
	} {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", commit, err, out)
		}
	}
	if err := os.Rename(program+".new", program); err != nil {
		t.Fatal(err)
	}
	return program
}

// world is three instances behind the proxy.
type world struct {
	*testworld.World
	t         *testing.T
	programs  []string // from the oldest to the newest
	instances []*testworld.Instance
	release   []int // of each instance, an index of programs
	proxy     string
}

func startWorld(t *testing.T) *world {
	w := &world{t: t}
	for _, commit := range olderReleases {
		w.programs = append(w.programs, build(t, commit))
	}
	current := os.Getenv("PARLEY")
	if current == "" { // make build has made it
		current = filepath.Join(testworld.Root(t), "bin", "parley")
	}
	w.programs = append(w.programs, current)
	t.Setenv("PARLEY", w.programs[0]) // which makes the tables
	w.World = testworld.Start(t, func(c stub.Call) stub.Reply {
		return stub.Reply{Text: "an answer in a few words of which none is missing", Pace: 10 * time.Millisecond}
	}, "INSTANCES=3", "DRAIN_DELAY=4s", "RATE_LIMIT_AUTHENTICATED=100000", "DB_MAX_CONNS=8", "LOG_LEVEL=warn")
	for range 3 {
		w.instances = append(w.instances, w.NewInstance())
		w.release = append(w.release, 0)
	}
	w.proxy = testenv.FreeAddr()
	config := testworld.ProxyConfig(t, w.proxy, w.instances[0], w.instances[1])
	_, adminPort, _ := strings.Cut(w.instances[2].Admin, ":")
	config += fmt.Sprintf("  server parley-3 %s check port %s\n", w.instances[2].Addr, adminPort)
	testworld.StartProxy(t, w.proxy, config)
	return w
}

// migrate applies the migrations of a release while others serve.
func (w *world) migrate(release int) {
	w.t.Helper()
	w.Program = w.programs[release]
	w.t.Logf("migrate with %s: %s", filepath.Base(w.Program), w.Run("migrate", "up"))
}

// replace stops an instance in an orderly way and starts another release at its
// addresses.
func (w *world) replace(i, release int) {
	w.t.Helper()
	if w.release[i] == release {
		return
	}
	instance := w.instances[i]
	if err := instance.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- instance.Cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			w.t.Errorf("instance %d ended with %v", i+1, err)
		}
	case <-time.After(2 * time.Minute):
		w.t.Fatalf("instance %d still runs 2 minutes after SIGTERM", i+1)
	}
	w.Program = w.programs[release]
	w.StartInstance(instance)
	w.release[i] = release
	time.Sleep(3 * time.Second) // the proxy has noticed it, and users have reached it
}

func (w *world) replaceAll(release int) {
	w.t.Helper()
	w.t.Logf("replace all by %s", filepath.Base(w.programs[release]))
	for i := range w.instances {
		w.replace(i, release)
	}
}

// user sends, streams and reads, one request after another.
type user struct {
	name, token  string
	url          string
	client       *http.Client
	conversation string
	acknowledged []string // ids of messages, in order
	requests     int
}

// call makes a request and returns its body; anything but success is an error.
func (u *user) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.url+path, reader)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+u.token)
	req.Header.Set("Content-Type", "application/json")
	u.requests++
	resp, err := u.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: read: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, raw)
	}
	return raw, nil
}

// exchange sends one message, streams the reply to another, and finds both in
// the history.
func (u *user) exchange(ctx context.Context) error {
	if u.conversation == "" {
		raw, err := u.call(ctx, "POST", "/api/chat/conversations", map[string]any{"title": "rolling"})
		if err != nil {
			return err
		}
		var c struct{ ID string }
		if err := json.Unmarshal(raw, &c); err != nil || c.ID == "" {
			return fmt.Errorf("create conversation: %w in %s", err, raw)
		}
		u.conversation = c.ID
	}
	message := map[string]any{"content": fmt.Sprintf("message %d", len(u.acknowledged)), "conversationId": u.conversation}
	raw, err := u.call(ctx, "POST", "/api/chat/messages", message)
	if err != nil {
		return err
	}
	var sent struct {
		UserMessage, AssistantMessage struct{ ID, Content string }
	}
	if err := json.Unmarshal(raw, &sent); err != nil || !strings.HasSuffix(sent.AssistantMessage.Content, "none is missing") {
		return fmt.Errorf("send: %w in %s", err, raw)
	}
	u.acknowledged = append(u.acknowledged, sent.UserMessage.ID, sent.AssistantMessage.ID)

	message["content"] = fmt.Sprintf("message %d", len(u.acknowledged))
	if raw, err = u.call(ctx, "POST", "/api/chat/stream", message); err != nil {
		return err
	}
	begun, ended := "", ""
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e struct {
			Type                          string
			UserMessage, AssistantMessage struct{ ID, Content string }
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("stream: %w in %s", err, data)
		}
		switch e.Type {
		case "start":
			begun = e.UserMessage.ID
		case "end":
			if strings.HasSuffix(e.AssistantMessage.Content, "none is missing") {
				ended = e.AssistantMessage.ID
			}
		}
	}
	if begun == "" || ended == "" {
		return fmt.Errorf("stream: it did not end with a complete reply: %s", raw)
	}
	u.acknowledged = append(u.acknowledged, begun, ended)
	return u.check(ctx, 8)
}

// check reads the newest n messages and compares them with what was acknowledged.
func (u *user) check(ctx context.Context, n int) error {
	n = min(n, len(u.acknowledged))
	raw, err := u.call(ctx, "GET", fmt.Sprintf("/api/chat/messages?conversationId=%s&limit=%d", u.conversation, n), nil)
	if err != nil {
		return err
	}
	var page struct{ Messages []struct{ ID string } }
	if err := json.Unmarshal(raw, &page); err != nil {
		return err
	}
	var got []string
	for _, m := range page.Messages {
		got = append(got, m.ID)
	}
	if want := u.acknowledged[len(u.acknowledged)-n:]; !slices.Equal(got, want) {
		return fmt.Errorf("history: got %v, acknowledged %v", got, want)
	}
	return nil
}

// load has users make requests until stop is called, which returns their number and
// what failed.
func (w *world) load(users int) (stop func() (list []*user, failed []error)) {
	ctx, cancel := context.WithCancel(context.Background())
	var (
		all      sync.WaitGroup
		mu       sync.Mutex
		failures []error
		list     []*user
		ending   atomic.Bool
	)
	for n := range users {
		u := &user{name: fmt.Sprintf("user-%d", n), url: "http://" + w.proxy, client: &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Minute}}
		u.token = w.Run("token", "--user", u.name)
		list = append(list, u)
		all.Go(func() {
			for !ending.Load() {
				if err := u.exchange(ctx); err != nil {
					mu.Lock()
					failures = append(failures, fmt.Errorf("%s %s: %w", time.Now().Format(time.TimeOnly), u.name, err))
					mu.Unlock()
					return // what it has acknowledged is not known any more
				}
			}
		})
	}
	return func() ([]*user, []error) {
		ending.Store(true) // the requests that were begun are finished
		all.Wait()
		cancel()
		return list, failures
	}
}

// Forward, back and forward again, one instance after another, while users send,
// stream and read: no request fails, and no acknowledged message is lost or there
// twice.
func TestRolling(t *testing.T) {
	w := startWorld(t)
	newest := len(w.programs) - 1
	stop := w.load(6)

	w.migrate(1)
	w.replaceAll(1)
	w.migrate(newest)
	t.Log("three releases at once")
	w.replace(0, newest)
	w.replace(2, 0)
	time.Sleep(5 * time.Second)
	w.replaceAll(newest)
	w.replaceAll(1) // back, on the newest schema
	w.replaceAll(0)
	w.replaceAll(newest)

	users, failed := stop()
	requests := 0
	for _, u := range users {
		requests += u.requests
		if len(failed) == 0 {
			if err := u.check(t.Context(), 100); err != nil {
				t.Errorf("%s: %v", u.name, err)
			}
		}
	}
	for _, err := range failed {
		t.Error(err)
	}
	t.Logf("%d requests of %d users, %d failed", requests, len(users), len(failed))
	if requests < 100 {
		t.Errorf("only %d requests were made", requests)
	}
	w.Program = w.programs[newest]
	if out := w.Run("audit", "verify"); !strings.Contains(out, " 0 findings") {
		t.Errorf("audit verify: %s", out)
	}
}
