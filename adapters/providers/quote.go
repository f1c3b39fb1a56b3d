package providers

import (
	"parley/domain/access"
	"parley/domain/chat"
)

// Quote implements ports.Quote. p.MaxTokens bounds the answer; without it the
// configured bound does.
func (r *Router) Quote(p chat.Params, input int64) (access.Hold, error) {
	output := int64(p.MaxTokens)
	if output == 0 {
		output = int64(r.maxTokens)
	}
	hold := access.Hold{Tokens: input + output}
	route, _, err := r.route(p, input)
	if err != nil {
		return access.Hold{}, err
	}
	for _, e := range route {
		// A prompt may go into a cache for more than it costs otherwise.
		for _, u := range []chat.Usage{{Input: input, Output: output}, {Input: input, Output: output, CacheWrite: input}} {
			if cost := r.prices.Cost(e.name, u, e.model); cost != nil {
				hold.Micros = max(hold.Micros, *cost)
			}
		}
	}
	return hold, nil
}
