package telemetry

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

func newLogger(o Options, level slog.Leveler) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level}
	var h slog.Handler
	if o.LogFormat == "text" || o.LogFormat != "json" && IsTerminal(o.LogOutput) {
		h = slog.NewTextHandler(o.LogOutput, opt)
	} else {
		h = slog.NewJSONHandler(o.LogOutput, opt)
	}
	return slog.New(&contextHandler{Handler: h, attrs: o.LogAttrs})
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
}

func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
	if tells(r) {
		clean := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
		r.Attrs(func(a slog.Attr) bool {
			clean.AddAttrs(hide(a))
			return true
		})
		r = clean
	}
	if h.attrs != nil {
		r.AddAttrs(h.attrs(ctx)...)
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = hide(a)
	}
	return &contextHandler{Handler: h.Handler.WithAttrs(clean), attrs: h.attrs}
}

func (h *contextHandler) WithGroup(name string) slog.Handler {
	return &contextHandler{Handler: h.Handler.WithGroup(name), attrs: h.attrs}
}

// tells reports whether a line has an attribute to hide, or one that must be
// looked into.
func tells(r slog.Record) (yes bool) {
	r.Attrs(func(a slog.Attr) bool {
		switch a.Value.Kind() {
		case slog.KindString:
			yes = secret(a.Key)
		case slog.KindGroup, slog.KindLogValuer:
			yes = true
		}
		return !yes
	})
	return yes
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
