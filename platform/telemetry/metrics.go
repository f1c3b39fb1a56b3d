package telemetry

import (
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// register registers the metrics of the Go runtime and the process, and returns
// the reader that exports OpenTelemetry's instruments to the registry.
func register(reg *prometheus.Registry, o Options) (sdkmetric.Reader, error) {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "chat_build_info", Help: "Version of the running build; always 1.",
		ConstLabels: prometheus.Labels{"version": o.Version, "revision": revision(), "goversion": runtime.Version()},
	})
	build.Set(1)
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return otelprom.New(otelprom.WithRegisterer(reg), otelprom.WithoutScopeInfo())
}

func newDropped(reg prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "chat_telemetry_dropped_total", Help: "Spans and log lines that could not be delivered.",
	}, []string{"signal"})
	for _, signal := range []string{"traces", "logs"} {
		c.WithLabelValues(signal)
	}
	reg.MustRegister(c)
	return c
}

// Buckets of the semantic conventions, which the SDK does not apply by itself.
// Durations are in seconds. HTTP and GenAI have larger buckets than in the
// conventions, because a streamed reply takes minutes.
var buckets = map[string][]float64{
	"http.server.request.duration": {.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60, 120, 300},
	"gen_ai.client.operation.duration": {
		.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68,
	},
	"gen_ai.client.operation.time_to_first_chunk": {
		.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
	},
	"gen_ai.client.token.usage": {
		1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
	},
}

// callerAttributes have values from callers: as labels they would create an
// unbounded number of series.
var callerAttributes = attribute.NewDenyKeysFilter(
	"server.address", "server.port", "client.address", "network.peer.address", "network.peer.port",
	"user_agent.original", "url.path", "url.full", "url.query", "url.scheme",
)

func views() []sdkmetric.View {
	out := make([]sdkmetric.View, 0, len(buckets))
	for name, bounds := range buckets {
		s := sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: bounds}}
		if strings.HasPrefix(name, "http.") { // only these have such attributes, and filtering costs as much as counting
			s.AttributeFilter = callerAttributes
		}
		out = append(out, sdkmetric.NewView(sdkmetric.Instrument{Name: name}, s))
	}
	return out
}

func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
