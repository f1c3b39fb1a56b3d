// Package providers makes replies with the configured AI providers. A Router is
// one ports.Model in front of them all: it chooses by what the caller names and the
// configured order, bounds how many replies run at once and shares them between
// users, does not ask for a while what fails, tries again and elsewhere within a
// budget and only as long as no output has been shown, and computes what a
// reply has cost.
package providers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"parley/adapters/providers/tokens"
	"parley/adapters/providers/upstream"
	"parley/ports"
)

// Config configures a Router. The zero value is the demo provider.
type Config struct {
	// Order is which providers to use, the preferred one first. Empty: those of
	// the registry that have a key or a base URL, or else the demo provider.
	Order     []string
	OpenAI    Provider
	Anthropic Provider
	DemoDelay time.Duration

	Limits         upstream.Limits
	MaxConcurrency int           // replies at once for each provider; 0: 64
	MaxTokens      int           // most output tokens that may be asked for; 0: no bound
	MaxRetryWait   time.Duration // longest time that a provider may name and that is waited; 0: 5 s
	Breaker        Breaker       // for each model of each provider
	RetryRatio     float64       // calls beyond the first that every message deposits; 0: 0.1, less than 0: none
	RetryReserve   int           // of them that there are to begin with; 0: 10
	PricesFile     string        // over the bundled prices; "": none

	CacheTTL    time.Duration // how long a reply answers the same question again; 0: it does not
	CacheShared bool          // from one user to another
	Cache       ports.Cache   // needed when CacheTTL is set

	// Disabled, if set, reports whether an operator has disabled a provider. Then no
	// reply is asked of it, as if its breakers were open.
	Disabled func(provider string) bool

	Observer ports.Observer // nil: nothing is reported
	// Discovered, if set, is told of all models whenever a server has named one.
	Discovered func([]ports.ModelInfo)
	// Transport, if set, wraps the HTTP transport of every provider.
	Transport func(http.RoundTripper) http.RoundTripper
	// Decorate, if set, wraps each provider; model is its default.
	Decorate func(provider, model string, m ports.Model) ports.Model
}

// Provider is how one provider is reached.
type Provider struct {
	Key     string
	BaseURL string   // "": the provider's own
	Models  []string // that may be asked for, the default first; empty: see Router.Check
	Files   *Files   // that its models read; nil: what the provider's own models are known to read, none of another server's
}

// configured reports whether there is anything to reach the provider with.
func (p Provider) configured() bool { return p.Key != "" || p.BaseURL != "" }

// Router implements ports.Model and ports.Catalogue.
type Router struct {
	providers    []*provider // in order of preference
	retries      *retryBudget
	prices       Prices
	tokens       ports.Tokens
	observer     ports.Observer
	maxTokens    int // of output
	maxRetryWait time.Duration
	disabled     func(provider string) bool
	cache        *cache
	held         *semaphore.Weighted // bytes of files
	pause        func(ctx context.Context, d time.Duration) error
	jitter       func(d time.Duration) time.Duration
}

// provider is a configured provider with what guards it.
type provider struct {
	entry
	configured Provider
	client     ports.Model
	lister     lister // nil: the provider has no list of models
	places     *places
	close      func()

	models     modelSet
	discovered func() // called when findModel has succeeded
}

// New returns a router. It sends no request yet. Close must be called.
func New(c Config) (*Router, error) {
	if c.Observer == nil {
		c.Observer = ports.NopObserver{}
	}
	if c.Disabled == nil {
		c.Disabled = func(string) bool { return false }
	}
	if c.MaxConcurrency <= 0 {
		c.MaxConcurrency = 64
	}
	if c.MaxRetryWait <= 0 {
		c.MaxRetryWait = defaultRetryWait
	}
	prices, err := LoadPrices(c.PricesFile)
	if err != nil {
		return nil, err
	}
	r := &Router{
		prices: prices, tokens: tokens.Count, observer: c.Observer, maxTokens: c.MaxTokens, maxRetryWait: c.MaxRetryWait,
		retries: c.retryBudget(), pause: sleep, jitter: halfToAll, disabled: c.Disabled, held: semaphore.NewWeighted(maxHeldFiles),
	}
	for _, name := range c.order() {
		if slices.ContainsFunc(r.providers, func(p *provider) bool { return p.name == name }) {
			r.Close()
			return nil, fmt.Errorf("provider %q is named twice", name)
		}
		p, err := c.provider(name)
		if err != nil {
			r.Close()
			return nil, err
		}
		r.providers = append(r.providers, p)
		if c.Discovered != nil {
			p.discovered = func() { c.Discovered(r.Models()) }
		}
	}
	if c.CacheTTL > 0 {
		if c.Cache == nil {
			r.Close()
			return nil, errors.New("a response cache needs a store")
		}
		r.cache = newCache(c.Cache, c.CacheTTL, c.CacheShared)
	}
	return r, nil
}

func (c Config) retryBudget() *retryBudget {
	ratio, reserve := c.RetryRatio, c.RetryReserve
	switch {
	case ratio < 0:
		return newRetryBudget(0, 0, 0)
	case ratio == 0:
		ratio = 0.1
	}
	if reserve <= 0 {
		reserve = 10
	}
	return newRetryBudget(ratio, float64(reserve), 100)
}

func (c Config) order() []string {
	if len(c.Order) > 0 {
		return c.Order
	}
	var order []string
	for _, e := range registry {
		if e.settings(c).configured() {
			order = append(order, e.name)
		}
	}
	if len(order) == 0 {
		for _, e := range registry {
			if e.demo {
				order = append(order, e.name)
			}
		}
	}
	return order
}

func (c Config) provider(name string) (*provider, error) {
	e, ok := registered(name)
	if !ok {
		return nil, fmt.Errorf("unknown provider %q; known are %s", name, strings.Join(Names(), ", "))
	}
	settings := e.settings(c)
	client, err := e.open(c, settings)
	if err != nil {
		return nil, err
	}
	p := &provider{entry: e, configured: settings, client: client, close: client.Close, places: newPlaces(c.MaxConcurrency), discovered: func() {}}
	if l, ok := client.(lister); ok && !strings.Contains(settings.BaseURL, ".azure.com") {
		p.lister = l // Azure lists what could be deployed, not what is
	}
	p.models.newBreaker = func(model string) *breaker {
		return newBreaker(c.Breaker, reportChanges(c.Observer, name, model))
	}
	switch {
	case len(settings.Models) > 0:
		p.models.set(settings.Models...)
	case p.lister != nil && settings.BaseURL != "":
		p.models.set("") // the server knows which
	default:
		p.models.set(e.defaultModel)
	}
	if c.Decorate != nil {
		p.client = c.Decorate(name, p.models.first(), p.client)
	}
	return p, nil
}

// Close closes idle connections.
func (r *Router) Close() {
	for _, p := range r.providers {
		p.close()
	}
}

// Models implements ports.Catalogue.
func (r *Router) Models() []ports.ModelInfo {
	var list []ports.ModelInfo
	for i, p := range r.providers {
		for j, m := range p.models.list() {
			list = append(list, ports.ModelInfo{
				Provider: p.name, Model: m.name, Default: i == 0 && j == 0, Demo: p.demo,
				State: m.breaker.state(), Problem: m.problem.code, Detail: m.problem.detail, Disabled: r.disabled(p.name),
			})
		}
	}
	return list
}

// Breakers returns the state of every breaker, in the order of Models.
func (r *Router) Breakers() []BreakerState {
	list := make([]BreakerState, 0, len(r.providers))
	for _, m := range r.Models() {
		list = append(list, BreakerState{Provider: m.Provider, Model: m.Model, State: m.State})
	}
	return list
}

// Tokens counts as the router does when a provider does not say.
func (r *Router) Tokens() ports.Tokens { return r.tokens }
