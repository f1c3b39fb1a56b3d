package observe

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/domain/webhook"
)

// metrics are the chat_* metrics. Counters are created at 0 for every label value
// that can occur: one that first appears at 1 has a rate of 0, which would hide the
// first failure.
type metrics struct {
	turns             *prometheus.CounterVec
	turnSeconds       *prometheus.HistogramVec
	firstSeconds      *prometheus.HistogramVec
	outputSpeed       *prometheus.HistogramVec
	wait              prometheus.Histogram
	overhead          *prometheus.HistogramVec
	streams           prometheus.Gauge
	aborts            *prometheus.CounterVec
	tokens            *prometheus.CounterVec
	cost              *prometheus.CounterVec
	cached            *prometheus.CounterVec
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
	webhooks          *prometheus.CounterVec
	webhookSeconds    prometheus.Histogram
	webhookEvents     *prometheus.GaugeVec
	webhookOldest     prometheus.Gauge
	background        *prometheus.CounterVec
	feedback          *prometheus.CounterVec
	files             *prometheus.CounterVec
	fileBytes         prometheus.Counter
	filesSwept        *prometheus.CounterVec
	auditLag          prometheus.Gauge
	auditSeq          prometheus.Gauge
	requests          *prometheus.CounterVec
	statements        *prometheus.HistogramVec

	models sync.Map // pair -> *modelMetrics

	// Those of overhead, looked up once.
	stage map[string]prometheus.Observer
}

// modelMetrics are the metrics of the turns of one model, looked up once.
type modelMetrics struct {
	turns          map[string]prometheus.Counter // by outcome
	seconds, first prometheus.Observer
	speed          prometheus.Observer
	tokens         []prometheus.Counter // as tokenKinds; none for turns that reached no provider
	cost, unpriced prometheus.Counter
	cached         prometheus.Counter
}

// model returns the metrics of a pair of label values, created at 0.
func (m *metrics) model(p pair) *modelMetrics {
	if known, ok := m.models.Load(p); ok {
		return known.(*modelMetrics)
	}
	by := &modelMetrics{
		turns:   map[string]prometheus.Counter{},
		seconds: m.turnSeconds.WithLabelValues(p.provider, p.model),
		first:   m.firstSeconds.WithLabelValues(p.provider, p.model),
		speed:   m.outputSpeed.WithLabelValues(p.provider, p.model),
	}
	for _, o := range outcomes {
		by.turns[o] = m.turns.WithLabelValues(p.provider, p.model, o)
	}
	if p != (pair{"none", "none"}) {
		for _, k := range tokenKinds {
			by.tokens = append(by.tokens, m.tokens.WithLabelValues(p.provider, p.model, k))
		}
		by.cached = m.cached.WithLabelValues(p.provider, p.model)
		by.cost = m.cost.WithLabelValues(p.provider, p.model)
		by.unpriced = m.unpriced.WithLabelValues(p.provider, p.model)
	}
	m.models.Store(p, by)
	return by
}

var (
	outcomes     = []string{"ok", "client_cancel", "provider_error", "provider_auth", "timeout", "breaker_open", "internal_error"}
	tokenKinds   = []string{"input", "output", "cache_read", "cache_write", "reasoning"}
	ratings      = []string{string(chat.Up), string(chat.Down)}
	fileKinds    = []string{"image", "pdf", "text", "json", other}
	sweepReasons = []string{"expired", "deleted", "orphan", "lost", "found"}

	decisions = []string{"allow", "deny", "fallback_allow", "fallback_deny"}
	refusals  = []fault.Kind{fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Invalid, fault.Limited, fault.OverBudget, fault.TooManyStreams, fault.Disabled, fault.Overloaded, fault.Unavailable, fault.Internal}
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	byModel := []string{"provider", "model"}
	m := &metrics{
		turns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_turns_total", Help: "Turns by outcome.",
		}, []string{"provider", "model", "outcome"}),
		turnSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chat_turn_duration_seconds", Help: "From the acceptance of a message to the durable end of its reply.",
			Buckets: []float64{.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320},
		}, byModel),
		firstSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chat_turn_time_to_first_event_seconds", Help: "From the acceptance of a message to the first event of its reply.",
			Buckets: []float64{.1, .25, .5, .75, 1, 1.5, 2.5, 4, 6.5, 10, 20, 40, 80, 120, 180},
		}, byModel),
		outputSpeed: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chat_output_tokens_per_second", Help: "Output tokens of a reply per second, from its first chunk to its end.",
			Buckets: []float64{.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640},
		}, byModel),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chat_run_wait_seconds", Help: "From the acceptance of a message until an instance starts its reply.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 30},
		}),
		overhead: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chat_overhead_seconds", Help: "Latency added by Parley: from the request to the call of the provider (admit), from a chunk of the provider to its event (emit).",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"stage"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chat_streams_active", Help: "Open event streams.",
		}),
		aborts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_stream_aborts_total", Help: "Event streams that ended before their reply.",
		}, []string{"reason"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_tokens_total", Help: "Tokens; input includes the cached ones, output the reasoning.",
		}, []string{"provider", "model", "kind"}),
		cost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_cost_usd_total", Help: "Cost of replies in US dollars, where prices are known.",
		}, byModel),
		unpriced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_unpriced_requests_total", Help: "Replies of models whose price is not known.",
		}, byModel),
		cached: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_replies_cached_total", Help: "Replies that were taken from the response cache.",
		}, byModel),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_provider_attempts_total", Help: "Requests to providers by kind (first, retry, fallback) and result.",
		}, []string{"provider", "model", "kind", "result"}),
		skips: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_provider_skips_total", Help: "Requests not sent to a provider, by reason.",
		}, []string{"provider", "model", "reason"}),
		headroom: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "chat_provider_ratelimit_remaining_ratio", Help: "Remaining part of a provider's own rate limit, from its last response.",
		}, []string{"provider", "kind"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_breaker_transitions_total", Help: "Transitions of a breaker into a state.",
		}, []string{"breaker", "state"}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_breaker_rejections_total", Help: "Requests rejected by an open breaker.",
		}, []string{"breaker"}),
		recovered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chat_runs_recovered_total", Help: "Replies taken over from an instance that stopped or crashed.",
		}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chat_runs_fenced_total", Help: "Replies of this instance that a newer attempt took over.",
		}),
		checkpointSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chat_checkpoint_seconds", Help: "Duration of recording the output of all live replies of an instance.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}),
		checkpointBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chat_checkpoint_bytes_total", Help: "Bytes of output recorded before replies ended.",
		}),
		limits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_ratelimit_decisions_total", Help: "Decisions of the rate limiter; fallback_ when Redis did not answer.",
		}, []string{"scope", "decision"}),
		limitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chat_ratelimit_backend_seconds", Help: "Duration of a decision of the rate limiter.",
			Buckets: []float64{.00001, .0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25},
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_refusals_total", Help: "Requests refused before a reply was started, by kind of error.",
		}, []string{"kind"}),
		feedback: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_feedback_total", Help: "Ratings of replies by users; a rating that is changed counts again.",
		}, []string{"provider", "model", "rating"}),
		files: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_files_uploaded_total", Help: "Files that were stored, by kind.",
		}, []string{"kind"}),
		fileBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chat_file_bytes_uploaded_total", Help: "Bytes of files that were stored.",
		}),
		filesSwept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_files_swept_total", Help: "What the sweep of files found: expired uploads, deleted files, blobs without a row, lost and found blobs.",
		}, []string{"reason"}),
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_webhook_deliveries_total", Help: "Attempts to deliver an event by webhook, by what became of the event.",
		}, []string{"outcome"}),
		webhookSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chat_webhook_delivery_seconds", Help: "Duration of an attempt to deliver an event.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		webhookEvents: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "chat_webhook_events", Help: "Events that wait to be delivered or have been given up, as of the last check by this instance.",
		}, []string{"state"}),
		webhookOldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chat_webhook_oldest_seconds", Help: "Age of the oldest event that waits to be delivered, as of the last check by this instance.",
		}),
		background: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_background_failures_total", Help: "Failures of background work, by task.",
		}, []string{"task"}),
		auditLag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chat_audit_seal_lag_seconds", Help: "Age of the oldest unsealed audit entry, as of the last check by this instance.",
		}),
		auditSeq: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chat_audit_sealed_seq", Help: "Sequence number of the last entry that this instance sealed.",
		}),
		// The name of the conventions, with more buckets, without the SDK, which is too slow:
		// each turn has several statements.
		statements: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "db_client_operation_duration_seconds", Help: "Duration of SQL statements.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2, 3, 5, 10},
		}, []string{"db_system_name", "db_operation_name", "error_type"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chat_api_requests_total", Help: "Requests that count for the API's service level: those of users, without streams and sends.",
		}, []string{"result"}),
	}
	m.begin(newLabels(nil))
	var errs []error
	for _, c := range []prometheus.Collector{
		m.turns, m.turnSeconds, m.firstSeconds, m.outputSpeed, m.wait, m.overhead, m.streams, m.aborts, m.tokens, m.cost, m.cached, m.unpriced,
		m.attempts, m.skips, m.headroom, m.transitions, m.rejections, m.recovered, m.fenced, m.checkpointSeconds, m.checkpointBytes, m.limits, m.limitSeconds, m.refusals, m.background,
		m.feedback, m.files, m.fileBytes, m.filesSwept,
		m.webhooks, m.webhookSeconds, m.webhookEvents, m.webhookOldest,
		m.auditLag, m.auditSeq, m.requests, m.statements,
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// begin creates every counter.
func (m *metrics) begin(l labels) {
	m.turns.WithLabelValues("none", "none", "rate_limited")
	m.turns.WithLabelValues("none", "none", "quota")
	m.model(pair{"none", "none"})
	for _, p := range l.pairs {
		m.model(p)
		for _, r := range ratings {
			m.feedback.WithLabelValues(p.provider, p.model, r)
		}
		for _, k := range attemptKinds {
			for _, r := range []string{"ok", "error", "rate_limited", "canceled"} {
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
	for _, k := range fileKinds {
		m.files.WithLabelValues(k)
	}
	for _, r := range sweepReasons {
		m.filesSwept.WithLabelValues(r)
	}
	for _, o := range webhookOutcomes {
		m.webhooks.WithLabelValues(o)
	}
	for _, s := range []webhook.State{webhook.Pending, webhook.Dead} {
		m.webhookEvents.WithLabelValues(string(s))
	}
	for _, t := range tasks {
		m.background.WithLabelValues(t)
	}
}

// spend counts the tokens and the cost of a reply that reached a provider.
func (by *modelMetrics) spend(usage chat.Usage, costMicros *int64) {
	if by.tokens == nil {
		return
	}
	for i, n := range [...]int64{usage.Input, usage.Output, usage.CacheRead, usage.CacheWrite, usage.Reasoning} {
		if n > 0 {
			by.tokens[i].Add(float64(n))
		}
	}
	switch {
	case costMicros != nil:
		by.cost.Add(float64(*costMicros) / 1e6)
	case usage.Input+usage.Output > 0:
		by.unpriced.Inc()
	}
}

// observeTraced adds the trace as an exemplar if it is sampled.
func observeTraced(sc trace.SpanContext, o prometheus.Observer, v float64) {
	if sc.IsSampled() {
		if e, ok := o.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(v, prometheus.Labels{"trace_id": sc.TraceID().String(), "span_id": sc.SpanID().String()})
			return
		}
	}
	o.Observe(v)
}
