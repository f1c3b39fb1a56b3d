// Package httpapi is Parley over HTTP: JSON for requests and answers,
// server-sent events for replies in the making, problem details for refusals.
// A route is one row of the table in routes.go; go-kit runs each row behind one
// generic handle. What is refused, it refuses in this order: who are you, is
// chat open, how often, what do you want.
package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/app/conversations"
	"parley/app/gate"
	"parley/app/replies"
	"parley/domain/fault"
	"parley/ports"
)

// Config is what the API is made of. All of the first block and Health are
// required.
type Config struct {
	Replies       *replies.Service
	Conversations *conversations.Service
	Gate          *gate.Gate
	Catalogue     ports.Catalogue
	Observer      ports.Observer
	Erase         func(ctx context.Context, user string) error // everything of a user
	Now           ports.Clock

	// Health says how Parley and its parts are. Anybody may ask, as often as they
	// like, so it should remember its answer for a while.
	Health  func(context.Context) Health
	Version string

	// AllowedOrigins are the web apps that may send requests with a session
	// cookie, as https://app.example.com; of a longer URL the origin counts.
	AllowedOrigins []string
	Proxies        Proxies

	// StreamPadding hides how long the pieces of a stream are; see events.pad.
	StreamPadding bool

	// CheckInterval is the time after which a stream presents its credential
	// again, at the latest; 15 s. It does so at each heartbeat as well.
	CheckInterval time.Duration

	MaxBody      int64         // bytes of a request's body; 128 KiB
	ReadTimeout  time.Duration // for a request's body; 15 s
	WriteTimeout time.Duration // for one write to a client before it is dropped; 15 s
}

// Proxies says how far X-Forwarded-For can be trusted.
type Proxies struct {
	Hops int            // how many proxies of ours stand in front; 0 ignores the header
	From []netip.Prefix // whose header is read; none: anybody's
}

// API is the HTTP handler.
type API struct {
	Config
	rows    []row
	mux     *http.ServeMux
	csrf    *http.CrossOriginProtection
	origins []string

	description func() (json.RawMessage, error) // OpenAPI, made when it is first asked for
}

// New returns the handler. It fails on an origin that is none.
func New(cfg Config) (*API, error) {
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 128 << 10
	}
	if cfg.ReadTimeout <= 0 {
		cfg.ReadTimeout = 15 * time.Second
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = 15 * time.Second
	}
	if cfg.CheckInterval <= 0 {
		cfg.CheckInterval = 15 * time.Second
	}
	a := &API{Config: cfg, mux: http.NewServeMux(), csrf: http.NewCrossOriginProtection()}
	for _, raw := range cfg.AllowedOrigins {
		origin, err := originOf(raw)
		if err == nil {
			err = a.csrf.AddTrustedOrigin(origin)
		}
		if err != nil {
			return nil, fmt.Errorf("allowed origin %q: %w", raw, err)
		}
		a.origins = append(a.origins, origin)
	}
	a.rows = a.table()
	a.description = sync.OnceValues(a.makeDescription)
	byPath := map[string]methods{}
	for _, r := range a.rows {
		if byPath[r.Path] == nil {
			byPath[r.Path] = methods{}
		}
		byPath[r.Path][r.Method] = r.handler
		if r.Method == http.MethodGet && !r.Stream {
			byPath[r.Path][http.MethodHead] = r.handler
		}
	}
	for p, m := range byPath {
		a.mux.Handle(p, m)
	}
	a.mux.HandleFunc("/", unknown)
	return a, nil
}

// originOf cuts a URL down to its origin, as browsers write it.
func originOf(raw string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil {
		return "", err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("not an http or https URL")
	}
	host := strings.ToLower(u.Host)
	host = strings.TrimSuffix(host, map[string]string{"http": ":80", "https": ":443"}[u.Scheme])
	return u.Scheme + "://" + host, nil
}

// methods is one path's handlers by method.
type methods map[string]http.Handler

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := m[r.Method]; ok {
		h.ServeHTTP(w, r)
		return
	}
	allow := []string{http.MethodOptions}
	for method := range m {
		allow = append(allow, method)
	}
	slices.Sort(allow)
	w.Header().Set("Allow", strings.Join(allow, ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	problem(w, fault.New(fault.Method, "Method not allowed"))
}

func unknown(w http.ResponseWriter, _ *http.Request) {
	problem(w, fault.New(fault.NotFound, "There is nothing at this address"))
}

// ServeHTTP answers one request. It leaves the pattern of the route in
// r.Pattern, for whoever counts outside; a request id that is already in the
// answer's header is kept.
func (a *API) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &writer{ResponseWriter: rw, timeout: a.WriteTimeout}
	h := w.Header()
	if h.Get(requestID) == "" {
		id := r.Header.Get(requestID)
		if !validRequestID(id) {
			id = rand.Text()
		}
		h.Set(requestID, id)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	defer a.recover(w, r)
	if r.Body != nil && r.Body != http.NoBody {
		// For refused requests too: the server reads a body before it answers.
		_ = http.NewResponseController(rw).SetReadDeadline(time.Now().Add(a.ReadTimeout))
	}

	if a.cors(w, r) {
		return
	}
	// The router would answer these with a redirect in HTML.
	if p := r.URL.EscapedPath(); r.Method == http.MethodConnect || !strings.HasPrefix(p, "/") ||
		path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/" {
		unknown(w, r)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// recover turns a panic into an answer if there is none yet; otherwise the
// connection is cut, so that half an answer is not taken for a whole one.
func (a *API) recover(w *writer, r *http.Request) {
	value := recover()
	if value == nil {
		return
	}
	if value == http.ErrAbortHandler { //nolint:errorlint // it is compared by net/http in the same way
		panic(value)
	}
	a.Observer.Observe(r.Context(), ports.RequestFailed{
		Route: r.Pattern, Sends: a.Sends(r.Method, r.Pattern), Kind: fault.Internal, Err: ports.Panic{Value: value, Stack: debug.Stack()},
	})
	if w.wrote {
		panic(http.ErrAbortHandler)
	}
	problem(w, fault.New(fault.Internal, "Internal server error"))
}
