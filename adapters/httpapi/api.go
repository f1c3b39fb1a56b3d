// Package httpapi is the transport of Parley's HTTP API: it routes requests,
// reads their inputs, authenticates and limits them, and writes JSON,
// server-sent events and problem details. What the routes are stands in the
// packages below it, one for each wire: a wire maps requests to the inputs of
// the use cases, and their results to its own format.
package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/app/gate"
	"parley/domain/access"
	"parley/domain/fault"
	"parley/ports"
)

// Config configures an API. Gate, Observer, Now and Health are required.
type Config struct {
	Gate     *gate.Gate
	Observer ports.Observer
	Now      ports.Clock

	// Health returns the state of Parley and its dependencies. The route is
	// public and not limited, so it should cache its answer for a while.
	Health  func(context.Context) Health
	Version string

	// Reference serves a page that describes the API at /docs.
	Reference bool

	// AllowedOrigins are the web apps that may send requests with a session
	// cookie, as https://app.example.com; of a longer URL the origin counts.
	AllowedOrigins []string
	Proxies        Proxies

	// StreamPadding hides the lengths of a stream's pieces; see Stream.pad.
	StreamPadding bool

	// CheckInterval is the maximum time between two checks of the credential of
	// an open stream; 15 s. It is checked at each heartbeat as well.
	CheckInterval time.Duration

	MaxBody      int64         // bytes of a request's body; 128 KiB
	ReadTimeout  time.Duration // for a request's body; 15 s
	WriteTimeout time.Duration // for one write to a client before it is dropped; 15 s
}

// API is the HTTP handler.
type API struct {
	Config
	routes  []Route
	router  router
	csrf    *http.CrossOriginProtection
	origins []string

	detached   streamCount // streams whose handlers have returned
	departures departures  // of their clients

	description func() (json.RawMessage, error) // OpenAPI, made when it is first asked for
}

// New returns a handler for the routes of the given wires, and for those of
// the transport itself. It fails on an invalid origin.
func New(cfg Config, wires ...[]Endpoint) (*API, error) {
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
	a := &API{Config: cfg, csrf: http.NewCrossOriginProtection()}
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
	a.description = sync.OnceValues(a.makeDescription)
	endpoints := append(slices.Concat(wires...), a.systemRoutes()...)
	if cfg.Reference {
		endpoints = append(endpoints, a.referenceRoutes()...)
	}
	for _, e := range endpoints {
		a.routes = append(a.routes, e.Route)
		handler := e.handler(a)
		a.router.handle(e.Method, e.Path, handler)
		if e.Method == http.MethodGet && !e.Stream {
			a.router.handle(http.MethodHead, e.Path, handler)
		}
	}
	return a, nil
}

// Routes lists every route.
func (a *API) Routes() []Route { return slices.Clone(a.routes) }

// Sends reports whether a route asks for a reply. path is its pattern.
func (a *API) Sends(method, path string) bool {
	for i := range a.routes { // a Route is large
		if r := &a.routes[i]; r.Access == Sends && r.Method == method && r.Path == path {
			return true
		}
	}
	return false
}

// originOf returns the origin of a URL, as browsers write it.
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

// ServeHTTP answers one request. It leaves the pattern of the route in
// r.Pattern, for middleware outside; a request id that is already in the
// answer's header is kept.
func (a *API) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &responseWriter{ResponseWriter: rw, timeout: a.WriteTimeout}
	h := w.Header()
	if h.Get(requestID) == "" {
		id := r.Header.Get(requestID)
		if !access.ValidRequestID(id) {
			id = rand.Text()
		}
		h.Set(requestID, id)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	defer a.recoverPanic(w, r)
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
		notFound(w, r)
		return
	}
	a.router.ServeHTTP(w, r)
}

// recoverPanic answers a panic with a problem if nothing has been written yet;
// otherwise it cuts the connection, so that a part of an answer is not taken
// for a complete one.
func (a *API) recoverPanic(w *responseWriter, r *http.Request) {
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
	write := writeProblem
	if a.plainRefusals(r.Method, r.Pattern) {
		write = writePlainRefusal
	}
	write(w, fault.New(fault.Internal, "Internal server error"))
}

func (a *API) plainRefusals(method, path string) bool {
	return slices.ContainsFunc(a.routes, func(r Route) bool { return r.PlainRefusals && r.Method == method && r.Path == path })
}
