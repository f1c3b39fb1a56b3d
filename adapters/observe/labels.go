package observe

import "parley/ports"

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

func newLabels(models []ports.ModelInfo) labels {
	l := labels{known: map[pair]bool{}, vendor: map[string]bool{}}
	for _, m := range models {
		p := pair{m.Provider, m.Model}
		l.vendor[m.Provider] = true
		if !l.known[p] && len(l.pairs) < mostModels {
			l.known[p] = true
			l.pairs = append(l.pairs, p)
		}
	}
	return l
}

// of returns the label values; a run that never reached a provider has "none".
func (l labels) of(provider, model string) (string, string) {
	switch {
	case provider == "":
		return "none", "none"
	case l.known[pair{provider, model}]:
		return provider, model
	case l.vendor[provider]:
		return provider, other
	}
	return other, other
}

func abortLabel(reason string) string {
	switch reason {
	case "client_gone", "write_timeout", "provider_stall", "shutdown":
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

var tasks = []string{"heartbeat", "sweep", "resume", "finish", "release", "generate", "checkpoint", "audit", "feed", "limiter"}

func taskLabel(task string) string {
	for _, t := range tasks {
		if t == task {
			return t
		}
	}
	return other
}
