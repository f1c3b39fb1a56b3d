// Package telemetry sets up logs, metrics and traces: one slog logger, one
// Prometheus registry behind one /metrics, and one tracer provider that exports
// over OTLP when the standard OpenTelemetry variables name an endpoint.
// adapters/observe records into them.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
)

// Options name the service and configure its log.
type Options struct {
	Service  string // service.name, unless OTEL_SERVICE_NAME is set
	Version  string
	Instance string // service.instance.id

	LogOutput io.Writer
	LogFormat string // json, text, or auto: text when LogOutput is a terminal
	LogLevel  slog.Level
	// LogAttrs, if set, adds what a context knows to every line.
	LogAttrs func(context.Context) []slog.Attr

	// Getenv reads the OTEL_* variables that decide whether to export; the SDK
	// reads the others from the process's environment by itself.
	Getenv func(string) string
}

// Telemetry is the result of Setup. It uses no global state.
type Telemetry struct {
	Log      *slog.Logger
	Level    *slog.LevelVar // may be changed at any time
	Registry *prometheus.Registry
	Meters   metric.MeterProvider
	Tracers  trace.TracerProvider
	// Propagator reads and writes W3C trace context.
	Propagator propagation.TextMapPropagator
	// Exporting reports whether traces are exported.
	Exporting bool

	shutdown []func(context.Context) error
}

// Setup starts telemetry. Shutdown must be called.
func Setup(ctx context.Context, o Options) (*Telemetry, error) {
	t := &Telemetry{
		Level:      new(slog.LevelVar),
		Registry:   prometheus.NewRegistry(),
		Propagator: propagation.TraceContext{},
	}
	t.Level.Set(o.LogLevel)
	dropped := newDropped(t.Registry)
	log, closeLog := newLogger(o, t.Level, dropped.WithLabelValues("logs"))
	t.Log = log
	t.shutdown = append(t.shutdown, closeLog)

	res, err := describe(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("describe this service: %w", err)
	}

	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		t.Log.Warn("telemetry failed", "error", err)
	}))
	if err := t.meters(o, res); err != nil {
		return nil, err
	}
	if err := t.tracers(ctx, o, res, dropped); err != nil {
		return nil, err
	}
	return t, nil
}

// describe returns the resource of this process. All its keys are of the version of
// the conventions that adapters/observe uses; the SDK's own detectors would mix in
// another one.
func describe(ctx context.Context, o Options) (*resource.Resource, error) {
	env, err := resource.New(ctx, resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, err
	}
	attrs := append([]attribute.KeyValue{
		semconv.ServiceName(o.Service), semconv.ServiceVersion(o.Version), semconv.ServiceInstanceID(o.Instance),
		semconv.TelemetrySDKName("opentelemetry"), semconv.TelemetrySDKLanguageGo, semconv.TelemetrySDKVersion(sdk.Version()),
	}, env.Attributes()...) // last: it overrides the others
	return resource.NewWithAttributes(semconv.SchemaURL, attrs...), nil
}

func (t *Telemetry) meters(o Options, res *resource.Resource) error {
	exporter, err := register(t.Registry, o)
	if err != nil {
		return fmt.Errorf("set up metrics: %w", err)
	}
	provider := sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(exporter), sdkmetric.WithResource(res), sdkmetric.WithView(views()...))
	t.Meters = provider
	t.shutdown = append(t.shutdown, provider.Shutdown)
	return nil
}

func (t *Telemetry) tracers(ctx context.Context, o Options, res *resource.Resource, dropped *prometheus.CounterVec) error {
	exporter, err := newTraceExporter(ctx, o.Getenv)
	if err != nil {
		return fmt.Errorf("set up traces: %w", err)
	}
	if exporter == nil { // only ids for the log
		provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()), sdktrace.WithResource(res))
		t.Tracers = provider
		t.shutdown = append(t.shutdown, provider.Shutdown)
		return nil
	}
	t.Exporting = true
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(newCountingProcessor(exporter, queueSize(o.Getenv), dropped.WithLabelValues("traces"))),
		sdktrace.WithResource(res))
	t.Tracers = provider
	t.shutdown = append(t.shutdown, provider.Shutdown)
	return nil
}

// Metrics serves the registry.
func (t *Telemetry) Metrics() http.Handler {
	return promhttp.InstrumentMetricHandler(t.Registry, promhttp.HandlerFor(t.Registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, // carries exemplars
		Registry:          t.Registry,
		ErrorLog:          slog.NewLogLogger(t.Log.Handler(), slog.LevelWarn),
		ErrorHandling:     promhttp.ContinueOnError,
	}))
}

// Shutdown sends what is pending until ctx is over.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var errs []error
	for _, f := range slices.Backward(t.shutdown) { // the log last: the others may write to it
		errs = append(errs, f(ctx))
	}
	return errors.Join(errs...)
}
