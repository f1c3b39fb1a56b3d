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
	opt := &slog.HandlerOptions{Level: level, ReplaceAttr: hideSecrets}
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
// what the program says besides.
type contextHandler struct {
	slog.Handler
	attrs func(context.Context) []slog.Attr
}

func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.attrs != nil {
		r.AddAttrs(h.attrs(ctx)...)
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &contextHandler{Handler: h.Handler.WithAttrs(attrs), attrs: h.attrs}
}

func (h *contextHandler) WithGroup(name string) slog.Handler {
	return &contextHandler{Handler: h.Handler.WithGroup(name), attrs: h.attrs}
}

// hideSecrets is the second fence: types hide themselves, and a secret that
// somebody turned into a plain string is caught by its name.
func hideSecrets(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindString {
		return a
	}
	switch strings.ToLower(a.Key) {
	case "authorization", "cookie", "set-cookie", "password", "secret", "token", "api_key", "dsn", "database_url", "redis_url", "auth_secret":
		return slog.String(a.Key, "[secret]")
	}
	return a
}
