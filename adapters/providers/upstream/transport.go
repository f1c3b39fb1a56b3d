package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"syscall"
	"time"
)

// Client configures the HTTP client of one provider.
type Client struct {
	Limits Limits
	Conns  int // idle connections to keep
	// Wrap, if set, wraps the network transport.
	Wrap func(http.RoundTripper) http.RoundTripper
	// OnHeader, if set, receives the headers of every response.
	OnHeader func(ctx context.Context, h http.Header)
}

// newHTTP returns a client that keeps the limits of requests whose context is
// a Watchdog's, and adds query to every request. It follows no redirects,
// because they would carry the key to another server.
func (c Client) newHTTP(query string) *http.Client {
	l := c.Limits.OrDefaults()
	var next http.RoundTripper = &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: l.Connect, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: l.Connect,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        max(c.Conns, 2),
		MaxIdleConnsPerHost: max(c.Conns, 2),
		IdleConnTimeout:     90 * time.Second,
	}
	if c.Wrap != nil {
		next = c.Wrap(next)
	}
	return &http.Client{
		Transport:     &transport{next: next, query: query, max: l.MaxEvent, onHeader: c.OnHeader},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type transport struct {
	next     http.RoundTripper
	query    string // of the base URL
	max      int
	onHeader func(context.Context, http.Header)
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	w := watchdogOf(req.Context())
	var conn net.Conn
	if w != nil {
		trace := &httptrace.ClientTrace{ // a request is sent again when a kept connection turns out to be closed
			GetConn: func(string) { w.connected(false) },
			GotConn: func(info httptrace.GotConnInfo) {
				w.connected(true)
				conn = info.Conn
			},
		}
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
	}
	if t.query != "" {
		req = req.Clone(req.Context())
		if req.URL.RawQuery != "" {
			req.URL.RawQuery = "&" + req.URL.RawQuery
		}
		req.URL.RawQuery = t.query + req.URL.RawQuery
	}
	req, sent := withBodyReleased(req)
	resp, err := t.next.RoundTrip(req)
	sent()
	if err != nil {
		return nil, err
	}
	if t.onHeader != nil {
		t.onHeader(req.Context(), resp.Header)
	}
	b := &body{rc: resp.Body, ctx: req.Context(), watchdog: w, left: -1}
	if resp.ProtoMajor == 1 { // else other requests share it
		b.socket = rawSocket(conn)
	}
	if resp.StatusCode != http.StatusOK {
		b.left = t.max
	}
	resp.Body = b
	return resp, nil
}

// withBodyReleased returns a copy of a request that lets go of its body when it
// was sent, because the network transport keeps the request until the end of the
// response. done must be called when the response has come.
func withBodyReleased(req *http.Request) (released *http.Request, done func()) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, func() {}
	}
	released = req.WithContext(req.Context())
	released.Body = &requestBody{rc: req.Body}
	again := req.GetBody
	if again == nil {
		return released, func() {}
	}
	var mu sync.Mutex
	released.GetBody = func() (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		if again == nil {
			return nil, errors.New("the request was answered")
		}
		rc, err := again()
		if err != nil {
			return nil, err
		}
		return &requestBody{rc: rc}, nil
	}
	return released, func() {
		mu.Lock()
		defer mu.Unlock()
		again = nil
	}
}

// requestBody is a body that is let go of when it is closed.
type requestBody struct {
	mu sync.Mutex
	rc io.ReadCloser // nil: closed
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rc == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.rc.Read(p)
}

func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rc == nil {
		return nil
	}
	err := b.rc.Close()
	b.rc = nil
	return err
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// readError is an error of reading a body.
type readError struct{ cause error }

func (e *readError) Error() string { return "read body: " + e.cause.Error() }
func (e *readError) Unwrap() error { return e.cause }

// body reports what is read to the watchdog, and bounds an error page. It reads
// at intervals what comes in small pieces; see Watchdog.pause.
type body struct {
	rc       io.ReadCloser
	ctx      context.Context // of the request
	watchdog *Watchdog
	left     int  // bytes that may still be read; negative: any number
	eof      bool // the end has been read
	drained  bool // the last read has taken all that had come
	timer    *time.Timer
	socket   syscall.RawConn // of this response alone; nil: it is shared, or not known
}

// wholeRead is a read that may have left something behind, in bytes.
const wholeRead = 2 << 10

func (b *body) Read(p []byte) (int, error) {
	if b.drained && b.watchdog != nil {
		b.wait(b.watchdog.pause(time.Now()))
	}
	n, err := b.rc.Read(p)
	b.drained = n < min(wholeRead, len(p))
	if n > 0 && b.watchdog != nil {
		b.watchdog.KeepAlive()
	}
	if b.left >= 0 {
		if n > b.left {
			return 0, errTooLong
		}
		b.left -= n
	}
	switch {
	case err == io.EOF:
		b.eof = true
	case err != nil:
		err = &readError{cause: err}
	}
	return n, err
}

// wait waits for d, or until the request has ended.
func (b *body) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	if b.timer == nil {
		b.timer = time.NewTimer(d)
	} else {
		b.timer.Reset(d)
	}
	if b.socket != nil {
		wakeAt(b.socket, quietBytes)
		defer wakeAt(b.socket, 1)
	}
	select {
	case <-b.timer.C:
	case <-b.ctx.Done():
		b.timer.Stop()
	}
}

// Close reads the few bytes that end a complete reply, so that the connection
// can serve the next request.
func (b *body) Close() error {
	if b.watchdog != nil && !b.eof {
		if _, complete := b.watchdog.state(); complete {
			limit := time.AfterFunc(100*time.Millisecond, func() { b.watchdog.cancel(context.Canceled) })
			_, _ = io.CopyN(io.Discard, b.rc, 4<<10)
			limit.Stop()
		}
	}
	return b.rc.Close()
}

// checkResponse refuses a response with status 200 that cannot be a reply: a
// redirect, or a web page of a proxy.
func checkResponse(resp *http.Response) error {
	if resp == nil {
		return Fail(Lost, errors.New("no response"))
	}
	if resp.StatusCode >= 300 {
		return Fail(NotAStream, fmt.Errorf("status %d", resp.StatusCode))
	}
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind {
	case "text/html", "application/xhtml+xml", "text/xml", "application/xml":
		return Fail(NotAStream, fmt.Errorf("content type %s", kind))
	}
	return nil
}

// Broken returns the fault of a request that got no response, or of a body
// that could not be read to its end.
func Broken(ctx context.Context, err error) error {
	if ended := Ended(ctx); ended != nil {
		return ended
	}
	reached := true
	if w := watchdogOf(ctx); w != nil {
		reached, _ = w.state()
	}
	var network net.Error
	var read *readError
	switch {
	case errors.Is(err, errTooLong):
		return Fail(LineTooLong, errTooLong)
	case !reached:
		return Fail(notReached(err), withoutURL(err))
	case errors.As(err, &read), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Fail(Lost, withoutURL(err))
	}
	return Fail(NotAStream, fmt.Errorf("%T", err))
}

// notReached returns the reason of an error before there was a connection.
func notReached(err error) Reason {
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return DNSFailed
	case errors.As(err, &certificate), errors.As(err, &alert), errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return TLSFailed
	}
	return Unreachable
}

// withoutURL drops the URL from a transport's error: a base URL may hold a secret.
func withoutURL(err error) error {
	for {
		if op, ok := err.(*net.OpError); ok { //nolint:errorlint // the outermost one
			return op
		}
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
