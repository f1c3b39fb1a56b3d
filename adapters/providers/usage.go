package providers

import (
	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// messageTokens is what a message costs beside its text, as providers count.
const messageTokens = 4

// completeUsage fills in what an answer does not say: tokens that the provider
// did not count are estimated, and what has a price gets it.
func (r *Router) completeUsage(answer *ports.Answer, a *attempt, err error) {
	if a.calls == 0 {
		return
	}
	if err == nil && answer.Usage.Input == 0 {
		answer.Usage.Estimated = true // no prompt is empty: some servers send zeros
	}
	if answer.Usage.Estimated {
		if notCharged(err) && a.text.Len() == 0 {
			answer.Usage.Estimated = false // turned away: there is nothing to count
		} else {
			r.estimate(answer, a)
		}
	}
	if answer.CostMicros == nil {
		answer.CostMicros = r.prices.Cost(a.asked.name, answer.Usage, answer.Model, a.asked.model)
	}
	if answer.CostMicros == nil && a.prompt.Params.Priced { // the prompt was larger than it seemed
		answer.CostMicros = r.prices.costBeyond(a.asked.name, answer.Usage, answer.Model, a.asked.model)
	}
}

// notCharged reports whether a provider turned a request away before it began
// to work on it, and therefore charges nothing.
func notCharged(err error) bool {
	switch upstream.ReasonOf(err) {
	case upstream.Unreachable, upstream.DNSFailed, upstream.TLSFailed, upstream.RateLimited, upstream.QuotaExhausted, upstream.Overloaded, upstream.ServerError,
		upstream.KeyRefused, upstream.UnknownModel, upstream.BadRequest, upstream.TooLong, upstream.FileRefused, upstream.NotAStream:
		return true
	}
	return false
}

// estimate counts what the provider has not. What the provider did count is
// the least.
func (r *Router) estimate(answer *ports.Answer, a *attempt) {
	if answer.Usage.Input == 0 {
		answer.Usage.Input = r.inputTokens(a.prompt)
	}
	answer.Usage.Output = max(answer.Usage.Output, int64(r.tokens(a.text.String())))
}

// inputTokens estimates the size of a prompt.
func (r *Router) inputTokens(p ports.Prompt) int64 {
	n := 0
	if p.Params.System != "" {
		n = r.tokens(p.Params.System) + messageTokens
	}
	for _, t := range p.Messages {
		n += r.tokens(t.Text()) + messageTokens
		for _, f := range filesOf(t.Parts) {
			n += chat.FileTokens(f.MediaType, f.Size)
		}
	}
	return int64(n)
}
