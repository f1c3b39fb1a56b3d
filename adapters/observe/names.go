package observe

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// This file has all names of the semantic conventions: those of GenAI are not
// stable, and v1.41.0 is the last Go package with them.

var (
	keyErrorType       = semconv.ErrorTypeKey
	keyMethod          = semconv.HTTPRequestMethodKey
	keyRoute           = semconv.HTTPRouteKey
	keyStatus          = semconv.HTTPResponseStatusCodeKey
	keyPath            = semconv.URLPathKey
	keyUser            = semconv.UserIDKey
	keyDBSystem        = semconv.DBSystemNameKey
	keyDBOperation     = semconv.DBOperationNameKey
	keyDBCollection    = semconv.DBCollectionNameKey
	keyDBSummary       = semconv.DBQuerySummaryKey
	keyDBBatch         = semconv.DBOperationBatchSizeKey
	keyServerAddress   = semconv.ServerAddressKey
	keyServerPort      = semconv.ServerPortKey
	keyGenOperation    = semconv.GenAIOperationNameKey
	keyGenProvider     = semconv.GenAIProviderNameKey
	keyGenConversation = semconv.GenAIConversationIDKey
	keyGenModel        = semconv.GenAIRequestModelKey
	keyGenStream       = semconv.GenAIRequestStreamKey
	keyGenMaxTokens    = semconv.GenAIRequestMaxTokensKey
	keyGenTemp         = semconv.GenAIRequestTemperatureKey
	keyGenAnswered     = semconv.GenAIResponseModelKey
	keyGenFinish       = semconv.GenAIResponseFinishReasonsKey
	keyGenFirst        = semconv.GenAIResponseTimeToFirstChunkKey
	keyGenInput        = semconv.GenAIUsageInputTokensKey
	keyGenOutput       = semconv.GenAIUsageOutputTokensKey
	keyGenCacheRead    = semconv.GenAIUsageCacheReadInputTokensKey
	keyGenCacheMade    = semconv.GenAIUsageCacheCreationInputTokensKey
	keyGenReasoning    = semconv.GenAIUsageReasoningOutputTokensKey
	keyGenTokenType    = semconv.GenAITokenTypeKey

	keyRun     = attribute.Key("parley.run.id")
	keyRequest = attribute.Key("parley.request.id")

	keyStoreCall  = attribute.Key("parley.store.call")       // the method of the store that a statement belongs to
	keyCallKind   = attribute.Key("parley.provider.call")    // first, retry, fallback
	keyCallNumber = attribute.Key("parley.provider.number")  // of the call, among those for one reply
	keyReason     = attribute.Key("parley.provider.reason")  // why a provider was not called
	keyOutcome    = attribute.Key("parley.outcome")          // of a turn, as in chat_turns_total
	keyAllowed    = attribute.Key("parley.limiter.allowed")  // the decision
	keyFallback   = attribute.Key("parley.limiter.fallback") // decided without Redis
)

// schemaURL is the version of the conventions that all keys are of.
const schemaURL = semconv.SchemaURL

// chatOperation is the operation of requests to providers in the GenAI conventions.
const chatOperation = "chat"

// instruments are those with names of the conventions. Their buckets are set by
// views in platform/telemetry.
type instruments struct {
	httpSeconds metric.Float64Histogram
	genSeconds  metric.Float64Histogram
	genFirst    metric.Float64Histogram
	genTokens   metric.Int64Histogram
}

// newInstruments returns them. active returns the number of requests in progress.
func newInstruments(m metric.Meter, active func() int64) (in instruments, err error) {
	seconds := func(name, help string) metric.Float64Histogram {
		h, failed := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(help))
		if failed != nil {
			err = failed
		}
		return h
	}
	in.httpSeconds = seconds("http.server.request.duration", "Duration of requests.")
	in.genSeconds = seconds("gen_ai.client.operation.duration", "Duration of requests to AI providers.")
	in.genFirst = seconds("gen_ai.client.operation.time_to_first_chunk", "From the request to an AI provider to the first chunk of its reply.")
	var failed error
	if _, failed = m.Int64ObservableUpDownCounter("http.server.active_requests", metric.WithUnit("{request}"),
		metric.WithDescription("Requests in progress."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(active())
			return nil
		})); failed != nil {
		err = failed
	}
	if in.genTokens, failed = m.Int64Histogram("gen_ai.client.token.usage", metric.WithUnit("{token}"),
		metric.WithDescription("Tokens of one request to an AI provider.")); failed != nil {
		err = failed
	}
	return in, err
}
