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
	// maxRefusals is how many connections are refused at the same time; further
	// ones are closed without an answer.
	maxRefusals = 16
	// refusalTimeout bounds how long a refused connection stays open.
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

	open     atomic.Int64
	refusing atomic.Int64
	refused  atomic.Int64 // since it was last logged
	crowded  func(bool)   // receives whether few places are left; may be nil

	mu        sync.Mutex
	isCrowded bool
	logged    time.Time
}

// Accept implements net.Listener.
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
		if l.refusing.Add(1) > maxRefusals {
			l.refusing.Add(-1)
			_ = conn.Close()
			continue
		}
		go func() {
			defer l.refusing.Add(-1)
			refuse(conn)
		}()
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

// refuse answers without looking at the request, and reads what the client has
// sent, for else closing the connection would discard the answer.
func refuse(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(refusalTimeout))
	if _, err := io.WriteString(conn, refusal); err != nil {
		return
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<20))
}

type boundConn struct {
	net.Conn
	release func()
}

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
	return &boundListener{Listener: l, name: name, max: int64(max), log: slog.New(slog.DiscardHandler)}, nil
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
	}
	// Idle connections take no place that a request needs.
	l.crowded = func(crowded bool) { s.SetKeepAlivesEnabled(!crowded) }
	return s
}
