package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// output is where a log goes. It can block, and it can fail.
type output struct {
	mu      sync.Mutex
	err     error
	text    bytes.Buffer
	writes  int
	blocked chan struct{} // nil: not
}

func (o *output) Write(p []byte) (int, error) {
	if o.blocked != nil {
		<-o.blocked
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	if o.err != nil {
		return 0, o.err
	}
	return o.text.Write(p)
}

func (o *output) messages() (lines []string, writes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for l := range strings.Lines(o.text.String()) {
		_, l, _ = strings.Cut(l, `"msg":"`)
		msg, _, _ := strings.Cut(l, `"`)
		lines = append(lines, msg)
	}
	return lines, o.writes
}

func logTo(o *output) (*slog.Logger, prometheus.Counter, func(context.Context) error) {
	lost := prometheus.NewCounter(prometheus.CounterOpts{Name: "lost"})
	log, stop := newLogger(Options{LogOutput: o}, slog.LevelDebug, lost)
	return log, lost, stop
}

// Plain lines wait for each other, and are written together.
func TestLog_LinesAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &output{}
		log, _, stop := logTo(o)
		for i := range 5 {
			log.Info(fmt.Sprint("line ", i), "n", i, "took", time.Second)
		}
		if lines, _ := o.messages(); len(lines) > 0 {
			t.Errorf("written at once: %v", lines)
		}
		time.Sleep(flushInterval)
		synctest.Wait()
		if lines, writes := o.messages(); len(lines) != 5 || lines[4] != "line 4" || writes != 1 {
			t.Errorf("%d writes of %v", writes, lines)
		}
		log.Info("late")
		if err := stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		log.Info("later")
		if lines, _ := o.messages(); len(lines) != 7 || lines[5] != "late" || lines[6] != "later" {
			t.Errorf("at the end: %v", lines)
		}
		if err := stop(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

// Warnings, and lines whose attributes may change later, are written at once,
// behind earlier ones.
func TestLog_WarningsAreWrittenAtOnce(t *testing.T) {
	for name, say := range map[string]func(*slog.Logger){
		"Warning": func(l *slog.Logger) { l.Warn("second") },
		"Any":     func(l *slog.Logger) { l.Info("second", "error", errors.New("x")) },
		"Group":   func(l *slog.Logger) { l.Info("second", slog.Group("g", "a", 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			o := &output{}
			log, _, stop := logTo(o)
			defer stop(t.Context())
			log.Info("first")
			say(log)
			if lines, _ := o.messages(); len(lines) != 2 || lines[0] != "first" || lines[1] != "second" {
				t.Errorf("said %v", lines)
			}
		})
	}
}

// A blocked reader of the log never blocks requests, and what is lost is counted.
func TestLog_BlockedReaderBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &output{blocked: make(chan struct{})}
		log, lost, stop := logTo(o)
		const written = 3 * maxPendingLines
		for i := range written {
			log.Info("line", "n", i)
		}
		begun := time.Now()
		for range 100 {
			log.Warn("at once") // only the first one waits, for a moment
		}
		if took := time.Since(begun); took != writeNowTimeout {
			t.Errorf("100 warnings took %v", took)
		}
		if n := testutil.ToFloat64(lost); n < written-2*maxPendingLines || n > written-maxPendingLines {
			t.Errorf("%v of %d lines are lost", n, written)
		}
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := stop(short); err == nil {
			t.Error("it stopped, with lines that nobody took")
		}
		close(o.blocked)
		if err := stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		lines, _ := o.messages()
		if n := testutil.ToFloat64(lost); len(lines)+int(n) != written+100 {
			t.Errorf("%d lines written, %v lost, of %d", len(lines), n, written+100)
		}
	})
}

// Many who log at once lose nothing and mix nothing.
func TestLog_ConcurrentLinesStayWhole(t *testing.T) {
	o := &output{}
	log, _, stop := logTo(o)
	var all sync.WaitGroup
	for i := range 8 {
		mine := log.With("who", i)
		all.Go(func() {
			for n := range 200 {
				if n%50 == 0 {
					mine.Warn("loud")
				} else {
					mine.Info("quiet", "n", n)
				}
			}
		})
	}
	all.Wait()
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines, _ := o.messages()
	loud := 0
	for _, l := range lines {
		if l == "loud" {
			loud++
		}
	}
	if len(lines) != 1600 || loud != 32 {
		t.Errorf("%d lines, %d of them loud", len(lines), loud)
	}
}

// Lines that cannot be written are counted, whatever their level.
func TestLog_LinesThatFailAreCounted(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		o := &output{err: io.ErrClosedPipe}
		lost := prometheus.NewCounter(prometheus.CounterOpts{Name: "lost"})
		log, stop := newLogger(Options{LogOutput: o, LogFormat: format}, slog.LevelDebug, lost)
		for range 10 {
			log.Info("line")
			log.Warn("line")
		}
		if err := stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := testutil.ToFloat64(lost); n != 20 {
			t.Errorf("%s: %v of 20 lines are counted as lost", format, n)
		}
	}
}

// Warnings that a blocked reader does not take are bounded in memory.
func TestLog_BlockedReaderBoundsMemory(t *testing.T) {
	o := &output{blocked: make(chan struct{})}
	log, lost, stop := logTo(o)
	large := strings.Repeat("x", 1<<20)
	for range 30 {
		log.Warn(large)
	}
	if n := testutil.ToFloat64(lost); n < 10 {
		t.Errorf("%v lines of 1 MiB are lost of 30", n)
	}
	close(o.blocked)
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}
