package httpapi

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/domain/access"
	"parley/domain/fault"
	"parley/ports"
)

// Parked is what follows a silent stream. Wake must be called, and then Resume or
// Close.
type Parked[E any] interface {
	Wake(f func()) // f is called once when there may be an event
	Resume(ctx context.Context) iter.Seq2[E, error]
	Close()
}

// detached is a stream whose handler has returned. It has taken over the
// connection, and holds no goroutine and no buffer while it is parked.
type detached[E any] struct {
	relay[E]
	out    *chunked
	route  string
	cancel context.CancelFunc
	stop   func()   // ends the wait for the client to go
	finish []func() // at the end

	mu      sync.Mutex
	waiting Parked[E] // nil: events are being written, or the stream has ended
}

// detach takes the connection of a stream over, and reports whether it could:
// a connection of HTTP/2 is shared, and HTTP/1.0 has no chunks.
func detach[E any](r relay[E], w *Response, waiting Parked[E]) bool {
	if !r.closes {
		return false
	}
	conn, _, err := r.conn.Hijack()
	if err != nil {
		return false
	}
	d := &detached[E]{out: &chunked{conn: conn, timeout: r.api.WriteTimeout}, route: w.request.route.Label()}
	// Nothing of the request may be kept: r, its writer and the reader's buffer.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.ctx)) //nolint:gosec // the end of the stream calls it
	d.cancel = cancel
	c := caller{cloneCredential(r.caller.credential), r.caller.principal}
	d.relay = relay[E]{
		Stream: &Stream{ctx: ctx, w: d.out, conn: http.NewResponseController(d.out), api: r.api, caller: c, open: true, checked: r.checked},
		write:  r.write, revoked: r.revoked, parked: r.parked,
	}
	if w.request.stream != nil {
		d.finish = append(d.finish, w.request.stream)
		w.request.stream = nil
	}
	if finish := finishLater(w); finish != nil {
		d.finish = append(d.finish, func() { finish(d.out.bytes) })
	}
	d.api.detached.add()
	d.stop = d.api.departures.await(conn, d.leave)
	d.park(waiting)
	return true
}

// finishLater tells the writers around a response that it goes on.
func finishLater(w http.ResponseWriter) func(bytes int64) {
	for w != nil {
		if d, ok := w.(interface{ Detach() func(int64) }); ok {
			return d.Detach()
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil
		}
		w = u.Unwrap()
	}
	return nil
}

// park waits for what is parked without a goroutine.
func (d *detached[E]) park(waiting Parked[E]) {
	d.buf, d.out.buf = nil, nil
	d.mu.Lock()
	d.waiting = waiting
	d.mu.Unlock()
	waiting.Wake(func() { go d.resume() })
	if d.ctx.Err() != nil { // the client has gone meanwhile
		d.leave()
	}
}

// unpark returns what is parked; nil if it has been taken already.
func (d *detached[E]) unpark() (waiting Parked[E]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	waiting, d.waiting = d.waiting, nil
	return waiting
}

// resume writes what has come, and parks again.
func (d *detached[E]) resume() {
	waiting := d.unpark()
	if waiting == nil { // the client has gone
		return
	}
	again, reason, err := d.proceed(waiting)
	if again == nil {
		d.end(err, reason)
		return
	}
	d.park(again)
}

func (d *detached[E]) proceed(waiting Parked[E]) (again Parked[E], reason string, err error) {
	defer func() {
		if v := recover(); v != nil {
			again, reason, err = nil, "", errPanicked
			d.api.Observer.Observe(d.ctx, ports.RequestFailed{
				Route: d.route, Kind: fault.Internal, Err: ports.Panic{Value: v, Stack: debug.Stack()},
			})
		}
	}()
	return d.events(waiting.Resume(d.ctx))
}

var errPanicked = errors.New("panicked")

// leave ends the stream of a client who has gone: at once if it is parked, or
// else when its events are written no more.
func (d *detached[E]) leave() {
	d.cancel()
	if waiting := d.unpark(); waiting != nil {
		waiting.Close()
		d.end(context.Canceled, "")
	}
}

// end ends the stream. Only the last chunk tells a client that all has come.
func (d *detached[E]) end(err error, reason string) {
	d.cancel()
	d.stop()
	d.recordDisconnect(err, reason)
	for _, f := range d.finish {
		f()
	}
	if err == nil && reason != "" {
		d.out.close()
	}
	_ = d.out.conn.Close()
	d.api.detached.done()
}

// cloneCredential copies a credential, whose strings are parts of the request.
func cloneCredential(c access.Credential) access.Credential {
	out := access.Credential{Bearer: strings.Clone(c.Bearer)}
	for _, cookie := range c.Cookies {
		out.Cookies = append(out.Cookies, access.Cookie{Name: strings.Clone(cookie.Name), Value: strings.Clone(cookie.Value)})
	}
	return out
}

// chunked writes the body of a response of HTTP/1.1 whose head has been sent.
type chunked struct {
	conn    net.Conn
	timeout time.Duration
	bytes   int64
	buf     []byte
}

func (c *chunked) Header() http.Header { return http.Header{} }
func (c *chunked) WriteHeader(int)     {}

// FlushError does nothing: nothing is held back.
func (c *chunked) FlushError() error { return nil }

// Write sends p as one chunk.
func (c *chunked) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.buf = strconv.AppendInt(c.buf[:0], int64(len(p)), 16)
	c.buf = append(c.buf, "\r\n"...)
	c.buf = append(c.buf, p...)
	c.buf = append(c.buf, "\r\n"...)
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.timeout))
	if _, err := c.conn.Write(c.buf); err != nil {
		return 0, err
	}
	c.bytes += int64(len(p))
	return len(p), nil
}

func (c *chunked) close() {
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.timeout))
	_, _ = io.WriteString(c.conn, "0\r\n\r\n")
}

// Detached returns how many streams there are whose handlers have returned.
func (a *API) Detached() int { return a.detached.count() }

// Wait waits until the streams have ended whose handlers have returned: a server
// that shuts down does not know of them.
func (a *API) Wait(ctx context.Context) error {
	select {
	case <-a.detached.wait():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
