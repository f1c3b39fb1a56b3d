//go:build e2e

package e2e_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"parley/adapters/providers/stub"
	"parley/platform/testing/testenv"
)

// world is a Parley behind the server of the pages.
type world struct {
	program  string
	env      []string
	api      string // URL of Parley
	pages    string // URL of the pages
	browser  context.Context
	provider *provider

	mu   sync.Mutex
	held map[string]chan struct{} // chats whose streams are not forwarded until it is closed
}

// startWorld starts a Parley with the settings of make run and those given, and
// the server of the pages. bundles is the directory of their scripts.
func startWorld(t *testing.T, bundles string, browser context.Context, settings ...string) *world {
	w := &world{browser: browser, held: map[string]chan struct{}{}}
	var err error
	if w.program = os.Getenv("PARLEY"); w.program == "" { // make build has made it
		if w.program, err = filepath.Abs("../../../bin/parley"); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "DATA_DIR=" + t.TempDir(), "ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "LOG_LEVEL=error",
	}, settings...)
	w.api = w.serve(t)
	w.pages = servePages(t, w, bundles)
	return w
}

var listens = regexp.MustCompile(`listens on (http://\S+\d)`)

// serve starts Parley and returns its URL.
func (w *world) serve(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(w.program, "serve")
	cmd.Env, cmd.Stderr = w.env, os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	address := make(chan string, 1)
	go func() {
		defer close(address)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if m := listens.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	found, ok := <-address
	if !ok {
		t.Fatal("parley ended before it listened")
	}
	return found
}

// cookie returns the session cookie of a user, as the app would set it.
func (w *world) cookie(user string) (name, value string, err error) {
	cmd := exec.Command(w.program, "token", "--user", user, "--cookie")
	cmd.Env = w.env
	out, err := cmd.Output()
	name, value, _ = strings.Cut(strings.TrimSpace(string(out)), "=")
	return name, value, err
}

// servePages starts the server of the pages, which forwards /api to Parley as the
// rewrites of Next.js do, and returns its URL. /session?user=U&next=/P signs a
// user in.
func servePages(t *testing.T, w *world, bundles string) string {
	api, err := url.Parse(w.api)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(api)
		r.SetXForwarded()
	}, ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }}
	forward := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// Else the server closes the request's body with the first bytes of the answer,
		// which breaks the connection to Parley if the proxy has not seen its end yet.
		_ = http.NewResponseController(rw).EnableFullDuplex()
		proxy.ServeHTTP(rw, r)
	})
	mux.Handle("/api/", forward)
	mux.HandleFunc("GET /api/chat/{id}/stream", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		held := w.held[r.PathValue("id")]
		w.mu.Unlock()
		if held != nil {
			select {
			case <-held:
			case <-r.Context().Done():
			}
		}
		forward.ServeHTTP(rw, r)
	})
	mux.Handle("/bundles/", http.StripPrefix("/bundles/", http.FileServer(http.Dir(bundles))))
	mux.HandleFunc("GET /session", func(rw http.ResponseWriter, r *http.Request) {
		name, value, err := w.cookie(r.FormValue("user"))
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		http.SetCookie(rw, &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(rw, r, r.FormValue("next"), http.StatusSeeOther)
	})
	mux.HandleFunc("GET /pages/{page}", func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, `<!doctype html><title>%[1]s</title><div id="root"></div><script type="module" src="/bundles/%[1]s.js"></script>`, r.PathValue("page"))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// holdResume holds back requests to follow the reply of a chat until release is
// called.
func (w *world) holdResume(chat string) (release func()) {
	held := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held[chat] = held
	return func() { close(held) }
}

// installPackages installs the packages of testdata, unless they are.
func installPackages(t *testing.T) {
	locked, err := os.Stat("testdata/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	installed, err := os.Stat("testdata/node_modules/.package-lock.json")
	if err != nil || installed.ModTime().Before(locked.ModTime()) {
		run(t, testenv.Binary(t, "npm"), "ci", "--no-audit", "--no-fund", "--loglevel=error")
	}
}

// bundle makes one script of a page and all that it imports. options are further
// ones of esbuild.
func bundle(t *testing.T, source, react, out string, options ...string) {
	t.Helper()
	run(t, "node_modules/.bin/esbuild", append([]string{source, "--bundle", "--format=esm", "--jsx=automatic", "--log-level=warning",
		"--alias:@ai-sdk/react=" + react, `--define:process.env.NODE_ENV="production"`, "--outfile=" + out}, options...)...)
}

// run runs a program in testdata.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "testdata"
	cmd.Env = append(os.Environ(), "NODE_PATH=node_modules")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// startBrowser starts Chromium, without a page.
func startBrowser(t *testing.T) context.Context {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testenv.Binary(t, "chromium")), chromedp.NoSandbox, chromedp.WSURLReadTimeout(2*time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("chromium: %v", err)
	}
	return ctx
}

// provider replies with the messages of the user that it was sent, so that a
// page shows what the model has seen: "one + two #1", and #2 when it is asked
// again with the same.
type provider struct {
	*stub.Server

	mu    sync.Mutex
	asked map[string]int
	moods map[string]stub.Reply // by user; without a status, the text is added
	sent  map[string]int        // images, by user
}

func startProvider(t *testing.T) *provider {
	p := &provider{asked: map[string]int{}, moods: map[string]stub.Reply{}, sent: map[string]int{}}
	var err error
	if p.Server, err = stub.Start(p.script); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// behave sets how a user is answered from now on. A reply with a text or parts
// of its own is given as it is.
func (p *provider) behave(user string, mood stub.Reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moods[user] = mood
}

func (p *provider) script(c stub.Call) stub.Reply {
	var texts []string
	user := ""
	for _, m := range c.Messages {
		if m.Role != "user" {
			continue
		}
		for _, text := range strings.Split(m.Text, "\n\n") { // messages without a reply between them come as one
			text, marked := splitMark(text)
			user = cmp.Or(marked, user) // a request to go on is not the user's own message
			texts = append(texts, text)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.moods[user]
	p.sent[user] += strings.Count(fmt.Sprint(c.Body), "data:image/png;base64,")
	if r.Status != 0 || r.Text != "" || r.Output != nil {
		return r
	}
	seen := strings.Join(texts, " + ")
	p.asked[user+seen]++
	r.Text = fmt.Sprintf("%s #%d", seen, p.asked[user+seen])
	return r
}

// images returns how many images were sent in the calls for a user.
func (p *provider) images(user string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent[user]
}

// Every message of a user ends with the user's name, by which the provider knows
// whom it answers; the name is taken off again where messages are compared.

func mark(text, user string) string { return text + " @" + user }

func splitMark(text string) (plain, user string) {
	if i := strings.LastIndex(text, " @"); i >= 0 {
		return text[:i], text[i+2:]
	}
	return text, ""
}
