package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

// Client says how to reach one provider.
type Client struct {
	Limits Limits
	Conns  int // kept open between requests
	// Wrap, if set, goes around the transport, nearest to the wire.
	Wrap func(http.RoundTripper) http.RoundTripper
	// Seen, if set, gets the headers of every response.
	Seen func(ctx context.Context, h http.Header)
}

// HTTP returns a client that keeps the limits: requests made with the context
// of a Watch are timed, and no response can be larger than a stream of events
// may be. It follows no redirects, because a redirect would carry the key along.
func (c Client) HTTP() *http.Client {
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
		Transport:     &guard{next: next, max: l.MaxEvent, seen: c.Seen},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type guard struct {
	next http.RoundTripper
	max  int
	seen func(context.Context, http.Header)
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	w := watchOf(req.Context())
	if w != nil {
		trace := &httptrace.ClientTrace{ // a request is sent again when a kept connection turns out to be closed
			GetConn: func(string) { w.connected(false) },
			GotConn: func(httptrace.GotConnInfo) { w.connected(true) },
		}
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
	}
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if g.seen != nil {
		g.seen(req.Context(), resp.Header)
	}
	resp.Body = &body{rc: resp.Body, watch: w, max: g.max, events: resp.StatusCode == http.StatusOK}
	return resp, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (g *guard) CloseIdleConnections() {
	if c, ok := g.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// errTooLong is a line, an event or an error page beyond the limit.
var errTooLong = errors.New("line or event too long")

// readError is what broke while a body was read.
type readError struct{ cause error }

func (e *readError) Error() string { return "read body: " + e.cause.Error() }
func (e *readError) Unwrap() error { return e.cause }

// body limits what can be read between two empty lines, or altogether when
// the response is not a stream of events.
type body struct {
	rc     io.ReadCloser
	watch  *Watch
	max    int
	events bool
	run    int  // bytes since the last empty line
	line   int  // bytes since the last line feed
	eof    bool // the end has been read
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.rc.Read(p)
	if n > 0 && b.watch != nil {
		b.watch.alive()
	}
	if !b.fits(p[:n]) {
		return 0, errTooLong
	}
	switch {
	case err == io.EOF:
		b.eof = true
	case err != nil:
		err = &readError{cause: err}
	}
	return n, err
}

// fits counts what was read, and reports whether it is within the limit.
func (b *body) fits(p []byte) bool {
	for len(p) > 0 {
		segment, rest, ended := p, []byte(nil), false
		if b.events {
			segment, rest, ended = bytes.Cut(p, lineFeed)
		}
		b.run += len(segment)
		b.line += len(segment) - bytes.Count(segment, carriageReturn)
		if b.run > b.max {
			return false
		}
		if ended {
			if b.line == 0 {
				b.run = 0
			}
			b.line = 0
		}
		p = rest
	}
	return true
}

var lineFeed, carriageReturn = []byte("\n"), []byte("\r")

// Close reads the few bytes that end a whole reply, so that the connection
// can serve the next one.
func (b *body) Close() error {
	if b.watch != nil && !b.eof {
		if _, whole := b.watch.state(); whole {
			limit := time.AfterFunc(100*time.Millisecond, func() { b.watch.cancel(context.Canceled) })
			_, _ = io.CopyN(io.Discard, b.rc, 4<<10)
			limit.Stop()
		}
	}
	return b.rc.Close()
}

// Stream refuses a response that promises success without being a stream:
// the page of a proxy, or a whole JSON document.
func Stream(resp *http.Response) error {
	if resp == nil {
		return Fail(Lost, errors.New("no response"))
	}
	if resp.StatusCode >= 300 {
		return Fail(NotAStream, fmt.Errorf("status %d", resp.StatusCode))
	}
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind {
	case "text/html", "application/json", "application/xhtml+xml", "text/xml", "application/xml":
		return Fail(NotAStream, fmt.Errorf("content type %s", kind))
	}
	return nil
}

// Broken is the fault of a request that did not get a response, or of a
// stream that could not be read on.
func Broken(ctx context.Context, err error) error {
	if ended := Ended(ctx); ended != nil {
		return ended
	}
	reached := true
	if w := watchOf(ctx); w != nil {
		reached, _ = w.state()
	}
	var network net.Error
	var read *readError
	switch {
	case errors.Is(err, errTooLong):
		return Fail(LineTooLong, errTooLong)
	case !reached:
		return Fail(Unreachable, plain(err))
	case errors.As(err, &read), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Fail(Lost, plain(err))
	}
	return Fail(NotAStream, fmt.Errorf("%T", err))
}

// Garbled is the fault of an event that is not JSON.
func Garbled() error { return Fail(NotAStream, errors.New("garbled event")) }

// Unfinished is the fault of a stream that ended cleanly and too soon.
func Unfinished() error {
	return Fail(Incomplete, errors.New("the stream ended without a terminal marker"))
}

// CutShort is the fault of a stream that ended without its terminal marker,
// with the error of reading it, if any. Only the marker says that a reply is whole.
func CutShort(ctx context.Context, err error) error {
	if err != nil {
		return Broken(ctx, err)
	}
	if ended := Ended(ctx); ended != nil {
		return ended
	}
	return Unfinished()
}

// plain drops the URL from a transport's error: a base URL may hold a secret.
func plain(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		var op *net.OpError
		if o, ok := err.(*net.OpError); ok { //nolint:errorlint // the outermost one
			op = o
			return op
		}
		err = next
	}
}
