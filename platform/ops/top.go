package ops

import (
	"context"
	"io"
	"os"
	"strings"
	"time"
)

// Top shows the state of the instances.
type Top struct {
	Instances  []string // URLs of admin addresses
	Prometheus string   // URL; "": firing alerts are not shown
	Interval   time.Duration
	Once       bool // one screen, without control sequences
}

// Control sequences of a terminal.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // alternate screen, no cursor, long lines are cut
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K\r\n"
	clearBelow  = "\x1b[J"
)

// Run shows screens until ctx is done, or one. Where w is not a terminal, it is one.
func (t Top) Run(ctx context.Context, w io.Writer) error {
	once := t.Once || !isTerminal(w)
	if !once {
		if _, err := io.WriteString(w, enterScreen); err != nil {
			return err
		}
		defer io.WriteString(w, leaveScreen) //nolint:errcheck // the terminal has gone
	}
	before := TakeSnapshots(ctx, t.Instances)
	for {
		if !once {
			if err := t.draw(ctx, w, View{Now: before}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(t.Interval):
		}
		view := View{Before: before, Now: TakeSnapshots(ctx, t.Instances)}
		if ctx.Err() != nil {
			return nil
		}
		if once {
			t.addAlerts(ctx, &view)
			_, err := io.WriteString(w, Screen(view))
			return err
		}
		if err := t.draw(ctx, w, view); err != nil {
			return err
		}
		before = view.Now
	}
}

func (t Top) addAlerts(ctx context.Context, v *View) {
	if v.WithAlerts = t.Prometheus != ""; v.WithAlerts {
		v.Alerts, v.AlertsErr = FiringAlerts(ctx, t.Prometheus)
	}
}

func (t Top) draw(ctx context.Context, w io.Writer, v View) error {
	t.addAlerts(ctx, &v)
	_, err := io.WriteString(w, home+strings.ReplaceAll(Screen(v), "\n", clearLine)+clearBelow)
	return err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
