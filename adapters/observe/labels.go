package observe

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"parley/ports"
)

// other replaces every value that is not on a list, so that callers cannot create
// time series.
const other = "other"

// maxModels bounds the values of the label model.
const maxModels = 12

type pair struct{ provider, model string }

// labels maps names of providers and models to values of labels.
type labels struct {
	pairs  []pair // in the order configured
	known  map[pair]bool
	vendor map[string]bool
}

// currentLabels holds the labels of the registered models.
type currentLabels struct{ now atomic.Pointer[labels] }

func (c *currentLabels) set(l labels) { c.now.Store(&l) }
func (c *currentLabels) of(provider, model string) (string, string) {
	return c.now.Load().of(provider, model)
}
func (c *currentLabels) provider(name string) string { return c.now.Load().provider(name) }
func (c *currentLabels) breaker(provider, model string) string {
	return c.now.Load().breaker(provider, model)
}
func (c *currentLabels) isKnown(p pair) bool { return c.now.Load().known[p] }

// providers returns the label values of all providers.
func (c *currentLabels) providers() []string {
	return slices.Collect(maps.Keys(c.now.Load().vendor))
}

func newLabels(models []ports.ModelInfo) labels {
	l := labels{known: map[pair]bool{}, vendor: map[string]bool{}}
	for _, m := range models {
		p := pair{m.Provider, m.Model}
		l.vendor[m.Provider] = true
		if m.Model != "" && !l.known[p] && len(l.pairs) < maxModels {
			l.known[p] = true
			l.pairs = append(l.pairs, p)
		}
	}
	return l
}

// of returns the label values; those of a run that did not reach a provider are
// "none". A provider may answer with the version of a model that was requested by
// its family's name: that counts as the requested one.
func (l labels) of(provider, model string) (string, string) {
	switch {
	case provider == "":
		return "none", "none"
	case l.known[pair{provider, model}]:
		return provider, model
	case !l.vendor[provider]:
		return other, other
	}
	asked := other
	for _, p := range l.pairs {
		if p.provider == provider && strings.HasPrefix(model, p.model+"-") && (asked == other || len(p.model) > len(asked)) {
			asked = p.model
		}
	}
	return provider, asked
}

// provider returns the label value of a provider alone.
func (l labels) provider(name string) string {
	if l.vendor[name] {
		return name
	}
	return other
}

// breaker names the breaker of one provider's model.
func (l labels) breaker(provider, model string) string {
	provider, model = l.of(provider, model)
	return provider + "/" + model
}

var attemptKinds = []ports.AttemptKind{ports.FirstAttempt, ports.RetryAttempt, ports.Fallback}

func attemptLabel(k ports.AttemptKind) string {
	if slices.Contains(attemptKinds, k) {
		return string(k)
	}
	return other
}

var skipReasons = []string{"breaker_open", "saturated", "retry_budget", "disabled"}

func skipLabel(reason string) string {
	if slices.Contains(skipReasons, reason) {
		return reason
	}
	return other
}

func headroomLabel(kind string) string {
	switch kind {
	case "requests", "tokens":
		return kind
	}
	return other
}

// breakerStates are those of ports.ModelInfo.
var breakerStates = []string{"closed", "half-open", "open"}

func stateLabel(state string) string {
	if slices.Contains(breakerStates, state) {
		return state
	}
	return other
}

func abortLabel(reason string) string {
	switch reason {
	case "client_gone", "write_timeout", "provider_stall", "shutdown", "revoked":
		return reason
	}
	return other
}

func scopeLabel(scope string) string {
	switch scope {
	case "coarse", "send":
		return scope
	}
	return other
}

var tasks = []string{"heartbeat", "sweep", "resume", "finish", "release", "generate", "checkpoint", "audit", "audit_seal", "audit_head", "audit_erase", "feed", "files", "limiter", "retention", "revocations", "search", "switches", "title", "webhooks"}

func taskLabel(task string) string {
	if slices.Contains(tasks, task) {
		return task
	}
	return other
}

// resultLabel returns the result of a request in the API's service level: refusals
// are not errors, and neither is that an operator has disabled chat.
func resultLabel(status int, disabled bool) string {
	if status >= 500 && !(disabled && status == http.StatusServiceUnavailable) {
		return "error"
	}
	return "ok"
}
