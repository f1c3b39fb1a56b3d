package providers

import (
	"slices"
	"strings"

	"parley/domain/chat"
	"parley/domain/fault"
)

// target is a model to ask.
type target struct {
	*member
	name string
}

func (t target) breaker() *breaker { return t.breakers[t.name] }

// route is whom to ask, in order: what the caller wants, then the other
// providers, with the same model where they have it. chosen says that the
// caller has named the first one. A wish outside of the lists is Invalid.
func (r *Router) route(p chat.Params) (route []target, chosen bool, err error) {
	first, err := r.choose(p)
	if err != nil {
		return nil, false, err
	}
	route = append(route, first)
	for _, m := range r.members {
		switch {
		case m == first.member:
		case slices.Contains(m.models, first.name):
			route = append(route, target{m, first.name})
		default:
			route = append(route, target{m, m.models[0]})
		}
	}
	return route, p.Provider != "" || p.Model != "", nil
}

// Accepts refuses, as Invalid, a wish for a model that is not on the lists.
func (r *Router) Accepts(p chat.Params) error {
	_, err := r.choose(p)
	return err
}

// choose finds what the caller wants. A model may be named as
// "provider/model"; a model whose own name holds a slash goes before that.
func (r *Router) choose(p chat.Params) (target, error) {
	for _, m := range r.members {
		if p.Provider != "" && p.Provider != m.name {
			continue
		}
		if p.Model == "" {
			return target{m, m.models[0]}, nil
		}
		if slices.Contains(m.models, p.Model) {
			return target{m, p.Model}, nil
		}
	}
	if provider, model, ok := strings.Cut(p.Model, "/"); ok && (p.Provider == "" || p.Provider == provider) {
		for _, m := range r.members {
			if m.name == provider && slices.Contains(m.models, model) {
				return target{m, model}, nil
			}
		}
	}
	return target{}, fault.New(fault.Invalid, "This model is not available")
}
