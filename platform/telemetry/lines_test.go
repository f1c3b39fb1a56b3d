package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// output is where a log goes. It can fall asleep.
type output struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
	asleep chan struct{} // nil: awake
}

func (o *output) Write(p []byte) (int, error) {
	if o.asleep != nil {
		<-o.asleep
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	return o.text.Write(p)
}

func (o *output) said() (lines []string, writes int) {
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
func TestLines_Gather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &output{}
		log, _, stop := logTo(o)
		for i := range 5 {
			log.Info(fmt.Sprint("line ", i), "n", i, "took", time.Second)
		}
		if lines, _ := o.said(); len(lines) > 0 {
			t.Errorf("written at once: %v", lines)
		}
		time.Sleep(linger)
		synctest.Wait()
		if lines, writes := o.said(); len(lines) != 5 || lines[4] != "line 4" || writes != 1 {
			t.Errorf("%d writes of %v", writes, lines)
		}
		log.Info("late")
		if err := stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		log.Info("later")
		if lines, _ := o.said(); len(lines) != 7 || lines[5] != "late" || lines[6] != "later" {
			t.Errorf("at the end: %v", lines)
		}
		if err := stop(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

// What matters, and what may be another thing later, is written at once, behind
// what was said before.
func TestLines_AtOnce(t *testing.T) {
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
			if lines, _ := o.said(); len(lines) != 2 || lines[0] != "first" || lines[1] != "second" {
				t.Errorf("said %v", lines)
			}
		})
	}
}

// A log that nobody takes makes nobody wait, and what is lost is counted.
func TestLines_Asleep(t *testing.T) {
	o := &output{asleep: make(chan struct{})}
	log, lost, stop := logTo(o)
	const said = 3 * mostLines
	for i := range said {
		log.Info("line", "n", i)
	}
	if n := testutil.ToFloat64(lost); n < said-2*mostLines || n > said-mostLines {
		t.Errorf("%v of %d lines are lost", n, said)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := stop(short); err == nil {
		t.Error("it stopped, with lines that nobody took")
	}
	close(o.asleep)
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines, _ := o.said()
	if n := testutil.ToFloat64(lost); len(lines)+int(n) != said {
		t.Errorf("%d lines written, %v lost, of %d", len(lines), n, said)
	}
}

// Many who log at once lose nothing and mix nothing.
func TestLines_AllAtOnce(t *testing.T) {
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
	lines, _ := o.said()
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
