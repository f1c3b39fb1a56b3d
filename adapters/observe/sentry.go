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

// Reports sends what went wrong on our side to a Sentry server: panics, and
// requests that were answered with a 5xx. A report says what kind of error it
// was, where, and under which request and trace it can be found in the logs.
// It holds no header, no body, no address and no user, and of an error its
// types, not its text.
type Reports struct {
	client *sentry.Client
}

// NewReports returns nil for an empty DSN: nothing is reported.
func NewReports(dsn, release, instance string) (*Reports, error) {
	if dsn == "" {
		return nil, nil //nolint:nilnil // no reports is what was asked for
	}
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn: dsn, Release: release, ServerName: instance,
		// The SDK's own integrations add the environment of the process.
		Integrations: func([]sentry.Integration) []sentry.Integration { return nil },
	})
	if err != nil {
		return nil, errors.New("SENTRY_DSN cannot be used") // its error may hold the DSN
	}
	return &Reports{client: client}, nil
}

// Close waits a moment for reports to be sent.
func (r *Reports) Close() {
	if r != nil {
		r.client.Flush(2 * time.Second)
	}
}

func (r *Reports) send(ctx context.Context, where, kind string, err error) {
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
	event.Fingerprint = []string{where, kind, types(err)}
	exception := sentry.Exception{Type: types(err), Value: kind + " at " + where}
	var p ports.Panic
	if errors.As(err, &p) {
		event.Level = sentry.LevelFatal
		event.Contexts = map[string]sentry.Context{"panic": {"stack": string(p.Stack)}}
	}
	event.Exception = []sentry.Exception{exception}
	r.client.CaptureEvent(event, nil, nil)
}

// types names the types in an error's chain, which say what it is and hold
// nothing that was typed.
func types(err error) string {
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
