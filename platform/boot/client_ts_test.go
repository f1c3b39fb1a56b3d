//go:build e2e

package boot_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/adapters/providers/stub"
	"parley/platform/testing/testenv"
)

// TestTypeScriptClient compiles the client and its example with tsc --strict, and
// runs the example against a running Parley, through a proxy that cuts streams.
func TestTypeScriptClient(t *testing.T) {
	npm := testenv.Binary(t, "npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../adapters/httpapi/client-ts")); err != nil {
		t.Fatal(err)
	}
	in := func(env []string, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	in(nil, npm, "ci", "--no-audit", "--no-fund")
	in(nil, npm, "run", "build")

	const reply = "One two three four five six seven eight nine ten."
	words := strings.SplitAfter(reply, " ")
	openai := provider(t, func(stub.Call) stub.Reply { return stub.Reply{Chunks: words, Pace: 200 * time.Millisecond} })
	env := []string{"DATA_DIR=" + dataDir(t), "OPENAI_MODEL=scripted", "OPENAI_API_KEY=key", "OPENAI_BASE_URL=" + openai.OpenAIURL()}
	p := start(t, env...)
	_, token, _ := strings.Cut(bearer(t, env, "ann"), "Bearer ")
	proxy := &cutting{to: p.url}
	server := httptest.NewServer(proxy)
	defer server.Close()

	out := in([]string{"PARLEY_URL=" + server.URL, "PARLEY_TOKEN=" + token}, "node", "dist/example/example.js", "Count")
	want := reply + "\n[completed]\nuser, assistant\n404 NOT_FOUND: Conversation not found or access denied\n"
	if out != want {
		t.Errorf("the example printed %q, want %q", out, want)
	}
	if proxy.cuts.Load() < 3 {
		t.Errorf("only %d streams were cut", proxy.cuts.Load())
	}
}

// cutting forwards requests, and cuts the first streams after some events: one in
// the middle of an event.
type cutting struct {
	to   string
	cuts atomic.Int64
}

func (c *cutting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to, err := url.Parse(c.to)
	if err != nil {
		panic(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(resp *http.Response) error {
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
			if n := c.cuts.Load(); n < 3 {
				resp.Body = &cutBody{resp.Body, c, []int{900, 10, 130}[n]}
			}
		}
		return nil
	}
	proxy.ServeHTTP(w, r)
}

// cutBody fails after so many bytes.
type cutBody struct {
	io.ReadCloser
	by   *cutting
	left int
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.by.cuts.Add(1)
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
