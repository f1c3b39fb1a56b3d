package telemetry

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// newLogger returns the logger, and what has to be done before the process
// ends. Nobody who looks at a terminal should wait for a line.
func newLogger(o Options, level slog.Leveler, lost prometheus.Counter) (*slog.Logger, func(context.Context) error) {
	opt := &slog.HandlerOptions{Level: level}
	if o.LogFormat == "text" || o.LogFormat != "json" && IsTerminal(o.LogOutput) {
		return slog.New(&contextHandler{Handler: slog.NewTextHandler(o.LogOutput, opt), attrs: o.LogAttrs}), func(context.Context) error { return nil }
	}
	l := newLines(o.LogOutput, lost)
	return slog.New(&contextHandler{Handler: slog.NewJSONHandler(l, opt), attrs: o.LogAttrs, lines: l}), l.close
}

// IsTerminal reports whether somebody is looking.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// contextHandler adds what the context knows to every line: the trace, and
// what the program says besides. It hides secrets itself: a function that a
// handler of slog asks about every attribute makes each line twice as dear.
type contextHandler struct {
	slog.Handler
	attrs func(context.Context) []slog.Attr
	lines *lines // nil: every line is written at once
}

func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
	plain, secrets := look(r)
	if secrets {
		clean := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
		r.Attrs(func(a slog.Attr) bool {
			clean.AddAttrs(hide(a))
			return true
		})
		r = clean
	}
	w := line{to: h.Handler, r: r, trace: trace.SpanContextFromContext(ctx)}
	if h.attrs != nil {
		w.attrs = h.attrs(ctx)
	}
	switch {
	case h.lines == nil:
		return w.write()
	case plain && r.Level <= slog.LevelInfo:
		h.lines.later(w)
		return nil
	default:
		return h.lines.now(w)
	}
}

func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = hide(a)
	}
	return &contextHandler{Handler: h.Handler.WithAttrs(clean), attrs: h.attrs, lines: h.lines}
}

func (h *contextHandler) WithGroup(name string) slog.Handler {
	return &contextHandler{Handler: h.Handler.WithGroup(name), attrs: h.attrs, lines: h.lines}
}

// look reports whether all attributes of a line are plain values, which will be
// the same later, and whether there may be some to hide.
func look(r slog.Record) (plain, secrets bool) {
	plain = true
	r.Attrs(func(a slog.Attr) bool {
		switch a.Value.Kind() {
		case slog.KindString:
			secrets = secrets || secret(a.Key)
		case slog.KindGroup, slog.KindLogValuer:
			plain, secrets = false, true
		case slog.KindAny:
			plain = false
		}
		return true
	})
	return plain, secrets
}

// hide is the second fence: types hide themselves, and a secret that somebody
// turned into a plain string is caught by its name.
func hide(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch {
	case v.Kind() == slog.KindString && secret(a.Key):
		return slog.String(a.Key, "[secret]")
	case v.Kind() == slog.KindGroup:
		inner := make([]slog.Attr, 0, len(v.Group()))
		for _, b := range v.Group() {
			inner = append(inner, hide(b))
		}
		v = slog.GroupValue(inner...)
	}
	return slog.Attr{Key: a.Key, Value: v}
}

// secret reports whether a name is that of a secret.
func secret(key string) bool {
	switch strings.ToLower(key) {
	case "authorization", "cookie", "set-cookie", "password", "secret", "token", "api_key", "dsn", "database_url", "redis_url", "auth_secret":
		return true
	}
	return false
}
