package observe

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"parley/domain/fault"
	"parley/ports"
)

// metrics are the chat_* metrics. A counter begins at 0 for every label value
// that can occur: one that is first seen at 1 has no rate, and the first
// failure would be invisible.
type metrics struct {
	turns             *prometheus.CounterVec
	turnSeconds       *prometheus.HistogramVec
	firstSeconds      *prometheus.HistogramVec
	wait              prometheus.Histogram
	overhead          *prometheus.HistogramVec
	streams           prometheus.Gauge
	aborts            *prometheus.CounterVec
	tokens            *prometheus.CounterVec
	cost              *prometheus.CounterVec
	unpriced          *prometheus.CounterVec
	attempts          *prometheus.CounterVec
	skips             *prometheus.CounterVec
	headroom          *prometheus.GaugeVec
	transitions       *prometheus.CounterVec
	rejections        *prometheus.CounterVec
	recovered         prometheus.Counter
	fenced            prometheus.Counter
	checkpointSeconds prometheus.Histogram
	checkpointBytes   prometheus.Counter
	limits            *prometheus.CounterVec
	limitSeconds      prometheus.Histogram
	refusals          *prometheus.CounterVec
	background        *prometheus.CounterVec
	auditLag          prometheus.Gauge
	auditSeq          prometheus.Gauge
	requests          *prometheus.CounterVec
	statements        *prometheus.HistogramVec

	models sync.Map // pair -> *modelMetrics

	// overhead's, looked up once.
	stage map[string]prometheus.Observer
}

// modelMetrics are those of turns that one model answered, looked up once.
type modelMetrics struct {
	turns          map[string]prometheus.Counter // by outcome
	seconds, first prometheus.Observer
	tokens         []prometheus.Counter // as tokenKinds; none for turns that reached no provider
	cost, unpriced prometheus.Counter
}

// model makes those of a pair of label values begin at 0.
func (m *metrics) model(p pair) *modelMetrics {
	if known, ok := m.models.Load(p); ok {
		return known.(*modelMetrics)
	}
	by := &modelMetrics{
		turns:   map[string]prometheus.Counter{},
		seconds: m.turnSeconds.WithLabelValues(p.provider, p.model),
		first:   m.firstSeconds.WithLabelValues(p.provider, p.model),
	}
	for _, o := range outcomes {
		by.turns[o] = m.turns.WithLabelValues(p.provider, p.model, o)
	}
	if p != (pair{"none", "none"}) {
		for _, k := range tokenKinds {
			by.tokens = append(by.tokens, m.tokens.WithLabelValues(p.provider, p.model, k))
		}
		by.cost = m.cost.WithLabelValues(p.provider, p.model)
		by.unpriced = m.unpriced.WithLabelValues(p.provider, p.model)
	}
	m.models.Store(p, by)
	return by
}

var (
	outcomes   = []string{"ok", "client_cancel", "provider_error", "provider_auth", "timeout", "breaker_open", "internal_error"}
	tokenKinds = []string{"input", "output", "cache_read", "cache_write", "reasoning"}
	decisions  = []string{"allow", "deny", "fallback_allow", "fallback_deny"}
	refusals   = []fault.Kind{fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Invalid, fault.Limited, fault.OverBudget, fault.TooManyStreams, fault.Overloaded, fault.Unavailable, fault.Internal}
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	byModel := []string{"provider", "model"}
	m := &metrics{
		turns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_turns_total", Help: "Turns by how they ended.",
		}, []string{"provider", "model", "outcome"}),
		turnSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chat_turn_duration_seconds", Help: "From the acceptance of a message to the durable end of its reply.",
			Buckets: []float64{.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320},
		}, byModel),
		firstSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chat_turn_time_to_first_event_seconds", Help: "From the acceptance of a message to the first piece of its reply that could be shown.",
			Buckets: []float64{.1, .25, .5, .75, 1, 1.5, 2.5, 4, 6.5, 10, 20, 40},
		}, byModel),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chat_run_wait_seconds", Help: "From the acceptance of a message until an instance begins its reply.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 30},
		}),
		overhead: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chat_overhead_seconds", Help: "What Parley itself adds: from a request to the call of the provider (admit), from a piece of the reply to its event (emit).",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"stage"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chat_streams_active", Help: "Event streams that are open.",
		}),
		aborts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_stream_aborts_total", Help: "Event streams that ended before what they followed did.",
		}, []string{"reason"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_tokens_total", Help: "Tokens; input includes the cached ones, output the reasoning.",
		}, []string{"provider", "model", "kind"}),
		cost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_cost_usd_total", Help: "What replies cost, as far as prices are known.",
		}, byModel),
		unpriced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_unpriced_requests_total", Help: "Replies of models whose price is not known.",
		}, byModel),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_provider_attempts_total", Help: "Requests to providers, by why they were made and what came of them.",
		}, []string{"provider", "model", "kind", "result"}),
		skips: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_provider_skips_total", Help: "Requests that a provider was spared, by why.",
		}, []string{"provider", "model", "reason"}),
		headroom: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "chat_provider_ratelimit_remaining_ratio", Help: "What is left of a provider's own limit, by its last answer.",
		}, []string{"provider", "kind"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_breaker_transitions_total", Help: "Changes of a breaker into a state.",
		}, []string{"breaker", "state"}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_breaker_rejections_total", Help: "Requests that a breaker did not let through.",
		}, []string{"breaker"}),
		recovered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chat_runs_recovered_total", Help: "Replies begun again after their instance was gone.",
		}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chat_runs_fenced_total", Help: "Replies that this instance lost to a newer attempt.",
		}),
		checkpointSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chat_checkpoint_seconds", Help: "How long it takes to record the output of the live replies.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}),
		checkpointBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chat_checkpoint_bytes_total", Help: "Output recorded while replies were being made.",
		}),
		limits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_ratelimit_decisions_total", Help: "What the limiter said; fallback_ when it had to decide alone.",
		}, []string{"scope", "decision"}),
		limitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chat_ratelimit_backend_seconds", Help: "How long the limiter took to say it.",
			Buckets: []float64{.00001, .0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25},
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_refusals_total", Help: "Requests turned away before they became a reply.",
		}, []string{"kind"}),
		background: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_background_failures_total", Help: "Failures of work that belongs to no request.",
		}, []string{"task"}),
		auditLag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chat_audit_seal_lag_seconds", Help: "How long the oldest audit entry had waited to be sealed when this instance last looked.",
		}),
		auditSeq: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chat_audit_sealed_seq", Help: "Number of the link of the audit chain that this instance made last.",
		}),
		// The conventions' name and buckets for what the SDK takes too long to record:
		// every turn has a handful.
		statements: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "db_client_operation_duration_seconds", Help: "Duration of statements.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10},
		}, []string{"db_system_name", "db_operation_name", "error_type"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_api_requests_total", Help: "Requests that the API's promise is about: those of users, but for streams and what makes a reply.",
		}, []string{"result"}),
	}
	m.begin(newLabels(nil))
	var errs []error
	for _, c := range []prometheus.Collector{
		m.turns, m.turnSeconds, m.firstSeconds, m.wait, m.overhead, m.streams, m.aborts, m.tokens, m.cost, m.unpriced,
		m.attempts, m.skips, m.headroom, m.transitions, m.rejections, m.recovered, m.fenced, m.checkpointSeconds, m.checkpointBytes, m.limits, m.limitSeconds, m.refusals, m.background,
		m.auditLag, m.auditSeq, m.requests, m.statements,
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// begin makes every counter exist.
func (m *metrics) begin(l labels) {
	m.turns.WithLabelValues("none", "none", "rate_limited")
	m.turns.WithLabelValues("none", "none", "quota")
	m.model(pair{"none", "none"})
	for _, p := range l.pairs {
		m.model(p)
		for _, k := range attemptKinds {
			for _, r := range []string{"ok", "error", "canceled"} {
				m.attempts.WithLabelValues(p.provider, p.model, string(k), r)
			}
		}
		for _, r := range skipReasons {
			m.skips.WithLabelValues(p.provider, p.model, r)
		}
		for _, s := range breakerStates {
			m.transitions.WithLabelValues(l.breaker(p.provider, p.model), s)
		}
		m.rejections.WithLabelValues(l.breaker(p.provider, p.model))
	}
	if m.stage == nil {
		m.stage = map[string]prometheus.Observer{}
		for _, s := range stages {
			m.stage[s] = m.overhead.WithLabelValues(s)
		}
	}
	for _, r := range []string{"client_gone", "write_timeout", "shutdown", "revoked"} {
		m.aborts.WithLabelValues(r)
	}
	for _, s := range []string{"coarse", "send"} {
		for _, d := range decisions {
			m.limits.WithLabelValues(s, d)
		}
	}
	for _, k := range refusals {
		m.refusals.WithLabelValues(string(k))
	}
	for _, r := range []string{"ok", "error"} {
		m.requests.WithLabelValues(r)
	}
	for _, t := range tasks {
		m.background.WithLabelValues(t)
	}
}

// spend counts tokens and money of a reply that reached a provider.
func (by *modelMetrics) spend(f ports.RunFinished) {
	if by.tokens == nil || f.Cached {
		return
	}
	for i, n := range [...]int64{f.Usage.Input, f.Usage.Output, f.Usage.CacheRead, f.Usage.CacheWrite, f.Usage.Reasoning} {
		if n > 0 {
			by.tokens[i].Add(float64(n))
		}
	}
	switch {
	case f.CostMicros != nil:
		by.cost.Add(float64(*f.CostMicros) / 1e6)
	case f.Usage.Input+f.Usage.Output > 0:
		by.unpriced.Inc()
	}
}

// observeTraced adds the trace as an exemplar, when one is recorded.
func observeTraced(sc trace.SpanContext, o prometheus.Observer, v float64) {
	if sc.IsSampled() {
		if e, ok := o.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(v, prometheus.Labels{"trace_id": sc.TraceID().String(), "span_id": sc.SpanID().String()})
			return
		}
	}
	o.Observe(v)
}
