package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// linger is how long a line of the log may wait for others to be written with
// it. Formatted and written one by one, between two waits for the network, the
// two lines of a turn cost several times what they do together with those of
// others.
const linger = 50 * time.Millisecond

// mostLines is how many may wait. A reader of the log who has fallen asleep
// must not make requests wait, or fill the memory.
const mostLines = 10_000

// lines writes the log. Lines of level info and below whose attributes are
// plain values wait for up to linger; any other is written at once, behind
// those that wait. What waits is lost when the process is killed.
type lines struct {
	out  io.Writer
	lost prometheus.Counter

	mu      sync.Mutex
	closed  bool
	waiting []line
	spare   []line // for the next ones, while waiting is written
	wake    chan struct{}

	writing sync.Mutex // held from draining to flushing: lines stay in order
	text    bytes.Buffer

	stop, done chan struct{}
}

// line is one of the log, with what its context knows.
type line struct {
	to    slog.Handler
	r     slog.Record
	attrs []slog.Attr
	trace trace.SpanContext
}

func newLines(out io.Writer, lost prometheus.Counter) *lines {
	l := &lines{out: out, lost: lost, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

// Write implements io.Writer for the handlers that format.
func (l *lines) Write(p []byte) (int, error) { return l.text.Write(p) }

// later writes a line with others, or drops it when too many wait.
func (l *lines) later(w line) {
	l.mu.Lock()
	n, closed := len(l.waiting), l.closed
	if n < mostLines && !closed {
		l.waiting = append(l.waiting, w)
	}
	l.mu.Unlock()
	switch {
	case closed: // nobody gathers lines any more
		_ = l.now(w)
	case n >= mostLines:
		l.lost.Inc()
	case n == 0:
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// now writes a line, behind all that wait.
func (l *lines) now(w line) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.drain()
	if err := w.write(); err != nil {
		return err
	}
	return l.flush()
}

func (l *lines) run() {
	defer close(l.done)
	for {
		select {
		case <-l.wake:
		case <-l.stop:
			l.sync()
			return
		}
		select {
		case <-time.After(linger):
		case <-l.stop:
		}
		l.sync()
	}
}

// sync writes what waits.
func (l *lines) sync() {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.drain()
	_ = l.flush() // there is nobody to tell
}

func (l *lines) drain() {
	l.mu.Lock()
	batch := l.waiting
	l.waiting = l.spare
	l.mu.Unlock()
	for _, w := range batch {
		_ = w.write() // into memory
	}
	clear(batch)
	l.spare = batch[:0]
}

func (l *lines) flush() error {
	if l.text.Len() == 0 {
		return nil
	}
	_, err := l.out.Write(l.text.Bytes())
	l.text.Reset()
	return err
}

// close writes what waits, and has every later line written at once.
func (l *lines) close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.stop)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w line) write() error {
	w.r.AddAttrs(w.attrs...)
	if w.trace.IsValid() {
		w.r.AddAttrs(slog.String("trace_id", w.trace.TraceID().String()), slog.String("span_id", w.trace.SpanID().String()))
	}
	return w.to.Handle(context.Background(), w.r)
}
