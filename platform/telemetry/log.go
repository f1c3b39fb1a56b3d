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

// newLogger returns the logger, and what must be called before the process ends.
// On a terminal every line is written at once.
func newLogger(o Options, level slog.Leveler, lost prometheus.Counter) (*slog.Logger, func(context.Context) error) {
	opt := &slog.HandlerOptions{Level: level}
	terminal := IsTerminal(o.LogOutput)
	text := o.LogFormat == "text" || o.LogFormat != "json" && terminal
	if terminal {
		out := countingWriter{out: o.LogOutput, lost: lost}
		return slog.New(&contextHandler{Handler: newHandler(out, text, opt), attrs: o.LogAttrs}), func(context.Context) error { return nil }
	}
	out := newAsyncLogWriter(o.LogOutput, lost)
	return slog.New(&contextHandler{Handler: newHandler(out, text, opt), attrs: o.LogAttrs, out: out}), out.close
}

func newHandler(out io.Writer, text bool, opt *slog.HandlerOptions) slog.Handler {
	if text {
		return slog.NewTextHandler(out, opt)
	}
	return slog.NewJSONHandler(out, opt)
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// contextHandler adds what the context knows to every line: the trace, and
// the attributes of Options.LogAttrs. It hides secrets itself: a function that a
// handler of slog asks about every attribute makes each line twice as dear.
type contextHandler struct {
	slog.Handler
	attrs func(context.Context) []slog.Attr
	out   *asyncLogWriter // nil: every line is written at once
}

func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
	plain, secrets := inspect(r)
	if secrets {
		clean := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
		r.Attrs(func(a slog.Attr) bool {
			clean.AddAttrs(hide(a))
			return true
		})
		r = clean
	}
	line := logLine{to: h.Handler, r: r, trace: trace.SpanContextFromContext(ctx)}
	if h.attrs != nil {
		line.attrs = h.attrs(ctx)
	}
	switch {
	case h.out == nil:
		return line.write()
	case plain && r.Level <= slog.LevelInfo:
		h.out.writeLater(line)
		return nil
	default:
		h.out.writeNow(line)
		return nil
	}
}

func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = hide(a)
	}
	return &contextHandler{Handler: h.Handler.WithAttrs(clean), attrs: h.attrs, out: h.out}
}

func (h *contextHandler) WithGroup(name string) slog.Handler {
	return &contextHandler{Handler: h.Handler.WithGroup(name), attrs: h.attrs, out: h.out}
}

// inspect reports whether all attributes of a line are plain values, which will be
// the same later, and whether there may be some to hide.
func inspect(r slog.Record) (plain, secrets bool) {
	plain = true
	r.Attrs(func(a slog.Attr) bool {
		switch a.Value.Kind() {
		case slog.KindString:
			secrets = secrets || isSecretName(a.Key)
		case slog.KindGroup, slog.KindLogValuer:
			plain, secrets = false, true
		case slog.KindAny:
			plain = false
		}
		return true
	})
	return plain, secrets
}

// hide replaces secrets by their names: types of secrets hide themselves, but a
// secret may have been converted to a plain string.
func hide(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch {
	case v.Kind() == slog.KindString && isSecretName(a.Key):
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
func isSecretName(key string) bool {
	switch strings.ToLower(key) {
	case "authorization", "cookie", "set-cookie", "password", "secret", "token", "api_key", "dsn", "database_url", "redis_url", "auth_secret":
		return true
	}
	return false
}
