package observe

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"parley/domain/access"
)

// RequestID is the header of a request's id, in requests and responses.
const RequestID = "X-Request-Id"

type requestIDKey struct{}

// RequestAttrs returns the log attributes of the request of a context.
func RequestAttrs(ctx context.Context) []slog.Attr {
	if id, ok := ctx.Value(requestIDKey{}).(string); ok {
		return []slog.Attr{slog.String("request_id", id)}
	}
	return nil
}

// HTTP gives each request an id and a span, counts it by the pattern of its route,
// and logs one line at its end. A valid id of the caller's is kept. sends reports
// whether a route starts a reply.
func (ob *Observer) HTTP(next http.Handler, sends func(method, path string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		id := r.Header.Get(RequestID)
		if !access.ValidRequestID(id) {
			id = rand.Text()
			r.Header.Set(RequestID, id)
		}
		w.Header().Set(RequestID, id)
		if telemetryOff {
			next.ServeHTTP(w, r)
			return
		}

		method := methodLabel(r.Method)
		ctx := ob.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := ob.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer))
		if span.IsRecording() { // which most are not
			span.SetAttributes(keyMethod.String(method), keyPath.String(recordedPath(r.URL.Path)), keyRequest.String(id))
		}
		r = r.WithContext(context.WithValue(ctx, requestIDKey{}, id))
		ob.active.Add(1)
		rec := &recorder{ResponseWriter: w, streams: ob.streamOpened}
		rec.finishLater = func() func(int64) { return ob.finishLater(r.Context(), r.Pattern, rec, method, span, begun) }

		defer func() {
			panicked := recover()
			if rec.detached && panicked == nil {
				return
			}
			if panicked != nil && rec.status == 0 {
				rec.status = http.StatusInternalServerError
			}
			ob.requestFinished(r.Context(), r.Pattern, rec, method, span, begun)
			// Streams and replies are counted as turns.
			if route := routeOf(r.Pattern); strings.HasPrefix(route, "/api/chat/") && !rec.streaming && !sends(method, route) {
				ob.metricBuffer.inc(ob.m.requests.WithLabelValues(resultLabel(rec.status, ob.chatDisabled())))
			}
			if panicked != nil {
				panic(panicked)
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// statusClientGone is nginx' status of a request whose client disconnected before
// the response.
const statusClientGone = 499

// finishLater returns what finishes a request whose response goes on when its
// handler has returned. It keeps nothing of the request and its writer.
func (ob *Observer) finishLater(ctx context.Context, pattern string, rec *recorder, method string, span trace.Span, begun time.Time) func(int64) {
	status, sent, streaming := rec.status, rec.bytes, rec.streaming
	return func(bytes int64) {
		ob.requestFinished(ctx, pattern, &recorder{status: status, bytes: sent + bytes, streaming: streaming}, method, span, begun)
	}
}

func (ob *Observer) requestFinished(ctx context.Context, pattern string, rec *recorder, method string, span trace.Span, begun time.Time) {
	took := time.Since(begun)
	switch {
	case rec.status != 0:
	case ctx.Err() != nil:
		rec.status = statusClientGone
	default:
		rec.status = http.StatusOK
	}
	if rec.streaming {
		ob.m.streams.Dec()
	}
	route := routeOf(pattern)
	if rec.status >= 500 {
		span.SetAttributes(keyErrorType.String(strconv.Itoa(rec.status)))
		span.SetStatus(codes.Error, "")
	}
	ob.active.Add(-1)
	of := requestLabels{method, route, rec.status}
	ob.metricBuffer.do(func() { ob.otel.httpSeconds.Record(ctx, took.Seconds(), ob.requests.of(of)) })
	if span.IsRecording() {
		span.SetName(method + " " + route)
		span.SetAttributes(keyRoute.String(route), keyStatus.Int(rec.status))
	}
	span.End()

	level := slog.LevelInfo
	if route == "/api/health" {
		level = slog.LevelDebug
	}
	ob.logRecord(ctx, level, "request", []slog.Attr{
		slog.String("method", method), slog.String("route", route), slog.Int("status", rec.status),
		slog.Int64("bytes", rec.bytes), slog.Float64("duration_ms", float64(took.Microseconds())/1000),
	})
}

// recordedPath returns a request's path for its span. What follows /share/ is the
// token of a share, a secret, so that the rest is left out.
func recordedPath(path string) string {
	const share = "/share/"
	if i := strings.Index(path, share); i >= 0 {
		return path[:i+len(share)] + "..."
	}
	return path
}

// requestLabels are the labels of the duration of a request.
type requestLabels struct {
	method, route string
	status        int
}

func (r requestLabels) attributes() []attribute.KeyValue {
	attrs := []attribute.KeyValue{keyMethod.String(r.method), keyRoute.String(r.route), keyStatus.Int(r.status)}
	if r.status >= 500 {
		attrs = append(attrs, keyErrorType.String(http.StatusText(r.status)))
	}
	return attrs
}

func (ob *Observer) streamOpened() { ob.m.streams.Inc() }

// routeOf returns the path of a pattern of the router, or "unmatched".
func routeOf(pattern string) string {
	if i := strings.IndexByte(pattern, '/'); i >= 0 && pattern[i:] != "/" {
		return pattern[i:]
	}
	return "unmatched"
}

func methodLabel(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "_OTHER"
}

// recorder records the status and size of a response. http.ResponseController
// unwraps it.
type recorder struct {
	http.ResponseWriter
	status    int
	bytes     int64
	streaming bool
	streams   func()

	finishLater func() func(int64)
	detached    bool // the response goes on when the handler has returned
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Detach says that the response goes on when the handler has returned. The
// returned function must be called at its end, with the bytes sent since.
func (w *recorder) Detach() (finish func(bytes int64)) {
	w.detached = true
	return w.finishLater()
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
		if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
			w.streaming = true
			w.streams()
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}
