package observe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/getsentry/sentry-go"
	"go.opentelemetry.io/otel/trace"

	"parley/domain/fault"
	"parley/ports"
)

// SentryReporter sends internal errors to a Sentry server: panics, and requests
// that were answered with a 5xx. A report has the kind of the error, its place,
// and the ids of its request and trace, by which the logs can be searched. It has
// no header, body, address or user, and of the error its types, not its text.
type SentryReporter struct {
	client *sentry.Client
}

// NewSentryReporter returns nil, which reports nothing, for an empty DSN.
func NewSentryReporter(dsn, release, instance string) (*SentryReporter, error) {
	if dsn == "" {
		return nil, nil //nolint:nilnil // nil is a reporter
	}
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn: dsn, Release: release, ServerName: instance,
		// The SDK's own integrations add the environment of the process.
		Integrations: func([]sentry.Integration) []sentry.Integration { return nil },
	})
	if err != nil {
		return nil, errors.New("SENTRY_DSN cannot be used") // its error may hold the DSN
	}
	return &SentryReporter{client: client}, nil
}

// Close waits a moment for reports to be sent.
func (r *SentryReporter) Close() {
	if r != nil {
		r.client.Flush(2 * time.Second)
	}
}

func (r *SentryReporter) send(ctx context.Context, where, kind string, err error) {
	if r == nil {
		return
	}
	event := sentry.NewEvent()
	event.Level = sentry.LevelError
	event.Tags = map[string]string{"where": where, "kind": kind}
	for _, a := range RequestAttrs(ctx) {
		event.Tags[a.Key] = a.Value.String()
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		event.Tags["trace_id"] = sc.TraceID().String()
	}
	event.Fingerprint = []string{where, kind, errorTypes(err)}
	exception := sentry.Exception{Type: errorTypes(err), Value: kind + " at " + where}
	var p ports.Panic
	if errors.As(err, &p) {
		event.Level = sentry.LevelFatal
		event.Contexts = map[string]sentry.Context{"panic": {"stack": string(p.Stack)}}
	}
	event.Exception = []sentry.Exception{exception}
	r.client.CaptureEvent(event, nil, nil)
}

// errorTypes returns the types in an error's chain, which hold no text of users.
func errorTypes(err error) string {
	text := ""
	for ; err != nil; err = errors.Unwrap(err) {
		if text != "" {
			text += " < "
		}
		if f, ok := err.(*fault.Error); ok { //nolint:errorlint // this link of the chain alone
			text += string(f.Kind)
			continue
		}
		text += fmt.Sprintf("%T", err)
	}
	return text
}
