package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"parley/platform/config"
)

const (
	// reservedFiles is how many file descriptors are left for everything but
	// clients, databases and providers: the log, the admin listener, files of the
	// embedded database, Redis, and connections that are being refused.
	reservedFiles = 96
	// maxRefused is how many refused connections are open at the same time; for a
	// further one the oldest is answered and closed.
	maxRefused = 16
	// refusalTimeout bounds how long a refused connection waits for the client's
	// request, and then for the client to close it.
	refusalTimeout = time.Second
	// refusalLogInterval is how often refusals and accept errors are logged.
	refusalLogInterval = 10 * time.Second
	// maxAdminConnections bounds the private listener.
	maxAdminConnections = 32
)

// maxConnections returns how many clients may be connected at once, so that
// file descriptors are left for the database and the providers; limit is the
// process's limit of open files.
func maxConnections(c config.Config, limit uint64) int {
	reserved := uint64(reservedFiles + c.Store.DBMaxConns + c.AI.MaxConcurrency)
	if limit > reserved && limit-reserved > limit/4 {
		return int(min(limit-reserved, 1<<20))
	}
	return int(max(limit/4, 1)) // too few for everything: requests wait for what is left
}

// openFilesLimit returns the process's limit of open files (RLIMIT_NOFILE).
func openFilesLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return limit.Cur
}

// boundListener accepts up to max connections at once. Further ones get a 503
// with Retry-After. Accept errors, such as "too many open files", are logged.
type boundListener struct {
	net.Listener
	name string
	max  int64
	log  *slog.Logger

	open    atomic.Int64
	refused atomic.Int64      // since the start
	closing chan *refusedConn // the refused connections that are open, the oldest first
	crowded func(bool)        // receives whether few places are left; may be nil

	mu        sync.Mutex
	isCrowded bool
	logged    time.Time
}

// Accept implements net.Listener. Only one goroutine may call it at a time.
func (l *boundListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.warn("cannot accept connections", "error", err.Error())
			}
			return nil, err
		}
		n := l.open.Add(1)
		l.noteCrowd(n)
		if n <= l.max {
			return &boundConn{Conn: conn, release: sync.OnceFunc(func() { l.noteCrowd(l.open.Add(-1)) })}, nil
		}
		l.open.Add(-1)
		l.refused.Add(1)
		l.warn("too many connections: refused with 503", "max", l.max, "refused", l.refused.Load())
		l.refuse(conn)
	}
}

// noteCrowd reports when nine of ten places are taken, and when a third is free
// again.
func (l *boundListener) noteCrowd(open int64) {
	if l.crowded == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	crowded := l.isCrowded
	switch {
	case open*10 >= l.max*9:
		crowded = true
	case open*3 <= l.max*2:
		crowded = false
	}
	if crowded != l.isCrowded {
		l.isCrowded = crowded
		go l.crowded(crowded) // it may close connections
	}
}

// warn logs at most once in refusalLogInterval.
func (l *boundListener) warn(message string, attrs ...any) {
	l.mu.Lock()
	now := time.Now()
	quiet := now.Sub(l.logged) < refusalLogInterval
	if !quiet {
		l.logged = now
	}
	l.mu.Unlock()
	if !quiet {
		l.log.Warn(message, append([]any{"listener", l.name}, attrs...)...)
	}
}

const refusal = "HTTP/1.1 503 Service Unavailable\r\n" +
	"Content-Type: application/problem+json\r\nCache-Control: no-store\r\nRetry-After: 1\r\n" +
	"Connection: close\r\nContent-Length: 241\r\n\r\n" + refusalBody

const refusalBody = `{"type":"urn:parley:problem:overloaded","title":"Service Unavailable","status":503,` +
	`"detail":"Too many connections","message":"Too many connections",` +
	`"error":{"code":"OVERLOADED","message":"Too many connections"},"requestId":"","retryAfter":1}`

// refusedConn is a connection that gets the refusal and nothing else.
type refusedConn struct {
	net.Conn
	answer func() // writes the refusal, once
}

// refuse answers a connection in the background, once the client has sent
// something or refusalTimeout is over. It does not wait.
func (l *boundListener) refuse(conn net.Conn) {
	if len(l.closing) == cap(l.closing) {
		oldest := <-l.closing
		oldest.answer()
		_ = oldest.Close()
	}
	c := &refusedConn{Conn: conn, answer: sync.OnceFunc(func() { writeAtOnce(conn, refusal) })}
	l.closing <- c
	go c.serve()
}

// serve answers, and reads what the client sends: closing the connection before
// could discard the answer.
func (c *refusedConn) serve() {
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(refusalTimeout))
	_, _ = c.Read(make([]byte, 1))
	c.answer()
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_ = c.SetReadDeadline(time.Now().Add(refusalTimeout))
	_, _ = io.Copy(io.Discard, io.LimitReader(c.Conn, 1<<20))
}

// writeAtOnce writes as much of text as the send buffer takes without waiting.
// That of a new connection takes more than a refusal.
func writeAtOnce(conn net.Conn, text string) {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sys.SyscallConn(); err == nil {
		_ = raw.Write(func(fd uintptr) bool {
			_, _ = syscall.Write(int(fd), []byte(text))
			return true
		})
	}
}

type boundConn struct {
	net.Conn
	release func()
}

// NetConn returns the connection below.
func (c *boundConn) NetConn() net.Conn { return c.Conn }

func (c *boundConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}

// listen opens a listener that accepts up to max connections. Its log must be
// set before it is served.
func listen(ctx context.Context, name, addr string, max int) (*boundListener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, usageError{fmt.Errorf("another program listens on %s; stop it, or set %s", addr, name)}
	case errors.Is(err, syscall.EACCES):
		return nil, usageError{fmt.Errorf("this user may not listen on %s; set %s to a port above 1023", addr, name)}
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", name, err)
	}
	return &boundListener{
		Listener: l, name: name, max: int64(max), log: slog.New(slog.DiscardHandler),
		closing: make(chan *refusedConn, maxRefused),
	}, nil
}

func newServer(h http.Handler, l *boundListener, log *slog.Logger) *http.Server {
	l.log = log
	s := &http.Server{
		Handler: h,
		// A stream has no end that could be foreseen, so there is no WriteTimeout:
		// the API sets a deadline for each write and for each body.
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
	}
	// Proxies that have HTTP/2 to their servers carry many streams on one
	// connection. Browsers do not: they need TLS for it.
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	// Idle connections take no place that a request needs.
	l.crowded = func(crowded bool) { s.SetKeepAlivesEnabled(!crowded) }
	return s
}
