package testworld

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// User calls the API with a token of one user.
type User struct {
	Name  string
	Token string
}

// User returns a user with a fresh token; more are flags of parley token.
func (w *World) User(name string, more ...string) *User {
	w.T.Helper()
	return &User{Name: name, Token: w.Run(append([]string{"token", "--user", name}, more...)...)}
}

// Answer is a response of the API; Status is 0 when there was none.
type Answer struct {
	Status int
	Body   map[string]any
}

// At returns a member by its path, as "assistantMessage.id".
func (a Answer) At(path string) string {
	var v any = a.Body
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	s, _ := v.(string)
	return s
}

// Request sends a request to the API at url; a nil body is none.
func (u *User) Request(ctx context.Context, url, method, path string, body any) (*http.Response, error) {
	raw, _ := json.Marshal(body)
	if body == nil {
		raw = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+u.Token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return http.DefaultClient.Do(req)
}

// Do sends a request and reads the JSON object of its response.
func (u *User) Do(url, method, path string, body any) Answer {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	resp, err := u.Request(ctx, url, method, path, body)
	if err != nil {
		return Answer{}
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode}
	_ = json.NewDecoder(resp.Body).Decode(&a.Body)
	return a
}

// Send sends a message and waits for its reply. more are further members of the body:
// names and values in turn.
func (u *User) Send(url, text string, more ...any) Answer {
	body := map[string]any{"content": text}
	for i := 0; i+1 < len(more); i += 2 {
		body[more[i].(string)] = more[i+1]
	}
	return u.Do(url, http.MethodPost, "/api/chat/messages", body)
}

// Concurrently does something n times at once, and counts the answers by status and
// error code.
func Concurrently(n int, do func() Answer) map[string]int {
	var all sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	for range n {
		all.Go(func() {
			a := do()
			mu.Lock()
			defer mu.Unlock()
			answers[fmt.Sprint(a.Status, " ", a.At("error.code"))]++
		})
	}
	all.Wait()
	return answers
}

// Until repeats done until it reports true, and fails the test after limit.
func Until(t testing.TB, what string, limit time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// StreamSlowly connects to an instance, asks for the reply to a message as a stream,
// and reads nothing of it. Segments and buffers are small, so that little is on the
// way.
func (u *User) StreamSlowly(addr, message string) (net.Conn, error) {
	// The sender's buffer grows with the segments.
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536)
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		})
	}}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	body := fmt.Sprintf(`{"content":%q}`, message)
	fmt.Fprintf(conn, "POST /api/chat/stream HTTP/1.1\r\nHost: parley\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", u.Token, len(body), body)
	return conn, nil
}
