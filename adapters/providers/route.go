package providers

import (
	"slices"
	"strings"

	"parley/domain/chat"
	"parley/domain/fault"
)

// endpoint is one model of one provider.
type endpoint struct {
	*provider
	model string
}

func (e endpoint) breaker() *breaker { return e.models.breaker(e.model) }

// available reports whether acquire would succeed for this user now.
func (e endpoint) available(user string) bool {
	return e.breaker().closed() && e.places.free(user)
}

// route lists the endpoints to ask, in order: the one that the caller names,
// then the other providers, with the same model where they have it. named says
// that the caller has named the first one. A model outside of the lists is
// Invalid. If p asks for priced models only, the others are left out, and
// naming one is Invalid; input is the size of the prompt, in tokens.
func (r *Router) route(p chat.Params, input int64) (route []endpoint, named bool, err error) {
	first, err := r.choose(p)
	if err != nil {
		return nil, false, err
	}
	route = append(route, first)
	for _, other := range r.providers {
		switch {
		case other == first.provider:
		case first.model != "" && other.models.has(first.model):
			route = append(route, endpoint{other, first.model})
		default:
			route = append(route, endpoint{other, other.models.first()})
		}
	}
	named = p.Provider != "" || p.Model != ""
	if !p.Priced {
		return route, named, nil
	}
	priced := slices.DeleteFunc(route, func(e endpoint) bool { return !r.priced(e, input) })
	if len(priced) == 0 || named && priced[0] != first {
		return nil, false, fault.New(fault.Invalid, "The price of this model is not known, so it cannot be used with a budget of money")
	}
	return priced, named, nil
}

// priced reports whether it is known what a prompt of that size costs.
func (r *Router) priced(e endpoint, input int64) bool {
	return r.prices.Cost(e.name, chat.Usage{Input: input}, e.model) != nil
}

// Accepts refuses, as Invalid, a model that is not on the lists, and one without
// a price if p asks for priced models only.
func (r *Router) Accepts(p chat.Params) error {
	_, _, err := r.route(p, 0)
	return err
}

// choose finds the endpoint that the caller names, or the default one. A model
// may be named as "provider/model"; a model whose own name holds a slash goes
// before that.
func (r *Router) choose(p chat.Params) (endpoint, error) {
	for _, o := range r.providers {
		if p.Provider != "" && p.Provider != o.name {
			continue
		}
		if p.Model == "" {
			return endpoint{o, o.models.first()}, nil
		}
		if o.models.has(p.Model) {
			return endpoint{o, p.Model}, nil
		}
	}
	if name, model, ok := strings.Cut(p.Model, "/"); ok && (p.Provider == "" || p.Provider == name) {
		for _, o := range r.providers {
			if o.name == name && o.models.has(model) {
				return endpoint{o, model}, nil
			}
		}
	}
	return endpoint{}, fault.New(fault.Invalid, "This model is not available")
}
