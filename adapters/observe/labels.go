package observe

import (
	"slices"
	"strings"
	"sync/atomic"

	"parley/ports"
)

// other stands for every value that is not on a list, so that nobody can make
// a new time series by naming something.
const other = "other"

// mostModels bounds the label model.
const mostModels = 12

type pair struct{ provider, model string }

// labels maps names of providers and models to the values that may be labels.
type labels struct {
	pairs  []pair // in the order configured
	known  map[pair]bool
	vendor map[string]bool
}

// currentLabels holds the labels of the models that are known now.
type currentLabels struct{ now atomic.Pointer[labels] }

func (c *currentLabels) set(l labels) { c.now.Store(&l) }
func (c *currentLabels) of(provider, model string) (string, string) {
	return c.now.Load().of(provider, model)
}
func (c *currentLabels) provider(name string) string { return c.now.Load().provider(name) }
func (c *currentLabels) breaker(provider, model string) string {
	return c.now.Load().breaker(provider, model)
}
func (c *currentLabels) knows(p pair) bool { return c.now.Load().known[p] }

func newLabels(models []ports.ModelInfo) labels {
	l := labels{known: map[pair]bool{}, vendor: map[string]bool{}}
	for _, m := range models {
		p := pair{m.Provider, m.Model}
		l.vendor[m.Provider] = true
		if m.Model != "" && !l.known[p] && len(l.pairs) < mostModels {
			l.known[p] = true
			l.pairs = append(l.pairs, p)
		}
	}
	return l
}

// of returns the label values; a run that never reached a provider has "none".
// A provider may answer with the version of a model that was asked for by its
// family's name: that counts as the one asked for.
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

var skipReasons = []string{"breaker_open", "saturated", "retry_budget"}

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

var tasks = []string{"heartbeat", "sweep", "resume", "finish", "release", "generate", "checkpoint", "audit", "audit_seal", "audit_head", "audit_erase", "feed", "limiter", "retention", "revocations", "title"}

func taskLabel(task string) string {
	if slices.Contains(tasks, task) {
		return task
	}
	return other
}

// resultLabel is what the API's promise makes of a status: refusals are answers.
func resultLabel(status int) string {
	if status >= 500 {
		return "error"
	}
	return "ok"
}
