package providers

import (
	"parley/adapters/providers/upstream"
	"parley/ports"
)

// turnTokens is what a message costs beside its text, as providers count.
const turnTokens = 4

// account completes an answer: tokens that the provider did not count are
// estimated, and what has a price gets it.
func (r *Router) account(a *ports.Answer, c *conversation, err error) {
	if c.calls == 0 {
		return
	}
	if err == nil && a.Usage.Input == 0 {
		a.Usage.Estimated = true // no prompt is empty: some servers send zeros
	}
	if a.Usage.Estimated {
		if free(err) && c.said.Len() == 0 {
			a.Usage.Estimated = false // turned away: there is nothing to count
		} else {
			r.estimate(a, c)
		}
	}
	if a.CostMicros == nil {
		a.CostMicros = r.prices.Cost(c.asked.member.name, a.Usage, a.Model, c.asked.name)
	}
}

// free reports whether a provider has not begun to work on a question that it
// turned away, and therefore charges nothing.
func free(err error) bool {
	switch upstream.ReasonOf(err) {
	case upstream.Unreachable, upstream.RateLimited, upstream.QuotaExhausted, upstream.Overloaded, upstream.ServerError,
		upstream.KeyRefused, upstream.UnknownModel, upstream.BadRequest, upstream.TooLong, upstream.NotAStream:
		return true
	}
	return false
}

// estimate counts what the provider has not: what it said is the least.
func (r *Router) estimate(a *ports.Answer, c *conversation) {
	if a.Usage.Input == 0 {
		n := 0
		if c.prompt.Params.System != "" {
			n = r.tokens(c.prompt.Params.System) + turnTokens
		}
		for _, t := range c.prompt.Turns {
			n += r.tokens(t.Text) + turnTokens
		}
		a.Usage.Input = int64(n)
	}
	a.Usage.Output = max(a.Usage.Output, int64(r.tokens(c.said.String())))
}
