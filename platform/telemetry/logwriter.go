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

const (
	// flushInterval is how long a log line may wait for others to be written with
	// it. Formatted and written one by one, between two waits for the network, the
	// two lines of a turn cost several times what they do together with those of
	// others.
	flushInterval = 50 * time.Millisecond
	// maxPendingLines and maxPendingBytes bound what waits for a reader of the log
	// that does not read.
	maxPendingLines = 10_000
	maxPendingBytes = 8 << 20
	// writeNowTimeout is how long a request waits for its line to be written.
	writeNowTimeout = 100 * time.Millisecond
)

// asyncLogWriter writes the log, in order, from one goroutine. Lines of level
// info and below whose attributes are plain values wait for up to
// flushInterval; any other is written at once, behind those that wait. A log
// reader that blocks, or that has gone, never blocks requests: lines that
// cannot be written are counted. What waits is lost when the process is killed.
type asyncLogWriter struct {
	out  io.Writer
	lost prometheus.Counter

	mu      sync.Mutex
	closed  bool
	pending []logLine
	spare   []logLine // for the next ones, while pending is formatted

	formatting sync.Mutex // held from taking pending lines to their text: lines stay in order
	text       bytes.Buffer
	spareText  bytes.Buffer
	formatted  int64 // lines formatted so far

	writing  sync.Mutex // held during a write
	progress struct {
		sync.Mutex
		written int64         // lines written or lost so far
		changed chan struct{} // closed when written changes
		blocked bool          // a line has waited in vain, and nothing was written since
	}

	wake, urgent, stop, done chan struct{}
}

// logLine is a line of the log with what its context knows.
type logLine struct {
	to    slog.Handler
	r     slog.Record
	attrs []slog.Attr
	trace trace.SpanContext
}

func newAsyncLogWriter(out io.Writer, lost prometheus.Counter) *asyncLogWriter {
	l := &asyncLogWriter{
		out: out, lost: lost, wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	l.progress.changed = make(chan struct{})
	go l.writeLoop()
	return l
}

// Write implements io.Writer for the handlers that format.
func (l *asyncLogWriter) Write(p []byte) (int, error) { return l.text.Write(p) }

// writeLater writes a line with others, or drops it when too many wait.
func (l *asyncLogWriter) writeLater(line logLine) {
	l.mu.Lock()
	n, closed := len(l.pending), l.closed
	if n < maxPendingLines && !closed {
		l.pending = append(l.pending, line)
	}
	l.mu.Unlock()
	switch {
	case closed: // the goroutine that writes has ended
		l.writeNow(line)
	case n >= maxPendingLines:
		l.lost.Inc()
	case n == 0:
		signal(l.wake)
	}
}

// writeNow writes a line, behind all that wait. It returns when that is done,
// or after writeNowTimeout.
func (l *asyncLogWriter) writeNow(line logLine) {
	l.formatting.Lock()
	if l.text.Len() > maxPendingBytes {
		l.formatting.Unlock()
		l.lost.Inc()
		return
	}
	l.formatPending()
	l.format(line)
	last := l.formatted
	l.formatting.Unlock()

	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		l.flush()
		return
	}
	signal(l.urgent)
	l.awaitWritten(last)
}

// awaitWritten waits until a line has been written, unless the reader of the
// log is known not to read.
func (l *asyncLogWriter) awaitWritten(line int64) {
	timeout := time.NewTimer(writeNowTimeout)
	defer timeout.Stop()
	for {
		l.progress.Lock()
		over, changed := l.progress.written >= line || l.progress.blocked, l.progress.changed
		l.progress.Unlock()
		if over {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			l.progress.Lock()
			l.progress.blocked = l.progress.written < line
			l.progress.Unlock()
			return
		}
	}
}

func (l *asyncLogWriter) writeLoop() {
	defer close(l.done)
	for {
		select {
		case <-l.wake:
			select {
			case <-time.After(flushInterval):
			case <-l.urgent:
			case <-l.stop:
			}
		case <-l.urgent:
		case <-l.stop:
			l.flush()
			return
		}
		l.flush()
	}
}

// flush writes what waits.
func (l *asyncLogWriter) flush() {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.formatting.Lock()
	l.formatPending()
	last := l.formatted
	l.text, l.spareText = l.spareText, l.text
	l.formatting.Unlock()

	if text := l.spareText.Bytes(); len(text) > 0 {
		if n, err := l.out.Write(text); err != nil {
			l.lost.Add(float64(bytes.Count(text[min(max(n, 0), len(text)):], []byte("\n"))))
		}
	}
	l.spareText.Reset()

	l.progress.Lock()
	defer l.progress.Unlock()
	l.progress.written, l.progress.blocked = last, false
	close(l.progress.changed)
	l.progress.changed = make(chan struct{})
}

// formatPending formats the lines that wait. The caller holds formatting.
func (l *asyncLogWriter) formatPending() {
	l.mu.Lock()
	batch := l.pending
	l.pending = l.spare
	l.mu.Unlock()
	for _, line := range batch {
		l.format(line)
	}
	clear(batch)
	l.spare = batch[:0]
}

func (l *asyncLogWriter) format(line logLine) {
	_ = line.write() // into memory
	l.formatted++
}

// close writes what waits, and has every later line written by its caller.
func (l *asyncLogWriter) close(ctx context.Context) error {
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

func (line logLine) write() error {
	line.r.AddAttrs(line.attrs...)
	if line.trace.IsValid() {
		line.r.AddAttrs(slog.String("trace_id", line.trace.TraceID().String()), slog.String("span_id", line.trace.SpanID().String()))
	}
	return line.to.Handle(context.Background(), line.r)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// countingWriter writes at once and counts lines that could not be written.
type countingWriter struct {
	out  io.Writer
	lost prometheus.Counter
}

func (w countingWriter) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	if err != nil {
		w.lost.Inc()
	}
	return n, err
}
