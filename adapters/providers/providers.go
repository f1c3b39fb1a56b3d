// Package providers makes replies out of whatever providers are configured. A
// Router is one ports.Model in front of them all: it chooses by the caller's
// wish and the configured order, bounds how many calls run at once, leaves
// alone for a while what fails, tries again and elsewhere within a budget, and
// only as long as nobody has seen a word, and says what a reply has cost.
package providers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"parley/adapters/providers/anthropic"
	"parley/adapters/providers/demo"
	"parley/adapters/providers/openai"
	"parley/adapters/providers/tokens"
	"parley/adapters/providers/upstream"
	"parley/ports"
)

// Config is all there is to configure. The zero value is the demo provider.
type Config struct {
	// Order is which providers to use, the preferred one first. Empty: those of
	// OpenAI and Anthropic that have a key or a base URL, or else the demo provider.
	Order     []string
	OpenAI    Provider
	Anthropic Provider
	DemoDelay time.Duration

	Limits         upstream.Limits
	MaxConcurrency int     // replies at once for each provider; 0: 64
	MaxTokens      int     // most output tokens that may be asked for; 0: no bound
	Breaker        Breaker // for each model of each provider
	RetryRatio     float64 // calls beyond the first that every message earns; 0: 0.1, less than 0: none
	RetryReserve   int     // of them that there are to begin with; 0: 10
	PricesFile     string  // over the bundled prices; "": none

	CacheTTL    time.Duration // how long a reply answers the same question again; 0: it does not
	CacheShared bool          // from one user to another
	Cache       ports.Cache   // needed when CacheTTL is set

	Observer ports.Observer // nil: nobody is told
	// Transport, if set, wraps the HTTP transport of every provider.
	Transport func(http.RoundTripper) http.RoundTripper
	// Decorate, if set, wraps each provider; model is its default.
	Decorate func(provider, model string, m ports.Model) ports.Model
}

// Provider is where a provider is and what it has.
type Provider struct {
	Key     string
	BaseURL string   // "": the provider's own
	Models  []string // that may be asked for, the default first; empty: the package's default
}

// Default models, of middling price.
const (
	DefaultOpenAI    = "gpt-5.4-mini"
	DefaultAnthropic = "claude-sonnet-5-5"
)

// Router implements ports.Model and ports.Catalogue.
type Router struct {
	members  []*member // in order of preference
	budget   *budget
	prices   Prices
	tokens   ports.Tokens
	observer ports.Observer
	most     int // output tokens
	cache    *cache
	pause    func(ctx context.Context, d time.Duration) error
	jitter   func(d time.Duration) time.Duration
}

// member is a provider with what guards it.
type member struct {
	name     string
	models   []string // the default first
	model    ports.Model
	demo     bool
	most     int64
	running  atomic.Int64
	breakers map[string]*breaker // by model
	close    func()
}

// New returns a router. It asks nobody yet. Close must be called.
func New(c Config) (*Router, error) {
	if c.Observer == nil {
		c.Observer = silent{}
	}
	prices, err := LoadPrices(c.PricesFile)
	if err != nil {
		return nil, err
	}
	r := &Router{
		prices: prices, tokens: tokens.Count, observer: c.Observer, most: c.MaxTokens,
		budget: retryBudget(c.RetryRatio, c.RetryReserve), pause: sleep, jitter: halfToAll,
	}
	for _, name := range c.order() {
		m, err := c.member(name)
		if err != nil {
			r.Close()
			return nil, err
		}
		if slices.ContainsFunc(r.members, func(o *member) bool { return o.name == name }) {
			r.Close()
			return nil, fmt.Errorf("provider %q is named twice", name)
		}
		r.members = append(r.members, m)
	}
	if c.CacheTTL > 0 {
		if c.Cache == nil {
			r.Close()
			return nil, errors.New("a response cache needs a place")
		}
		r.cache = newCache(c.Cache, c.CacheTTL, c.CacheShared)
	}
	return r, nil
}

func retryBudget(ratio float64, reserve int) *budget {
	switch {
	case ratio < 0:
		return newBudget(0, 0, 0)
	case ratio == 0:
		ratio = 0.1
	}
	if reserve <= 0 {
		reserve = 10
	}
	return newBudget(ratio, float64(reserve), 100)
}

func (c Config) order() []string {
	if len(c.Order) > 0 {
		return c.Order
	}
	var order []string
	if c.OpenAI.Key != "" || c.OpenAI.BaseURL != "" {
		order = append(order, openai.Name)
	}
	if c.Anthropic.Key != "" || c.Anthropic.BaseURL != "" {
		order = append(order, anthropic.Name)
	}
	if len(order) == 0 {
		order = append(order, demo.Name)
	}
	return order
}

func (c Config) member(name string) (*member, error) {
	m := &member{name: name, close: func() {}, most: int64(c.MaxConcurrency), breakers: map[string]*breaker{}}
	if m.most <= 0 {
		m.most = 64
	}
	switch name {
	case openai.Name:
		p, err := openai.New(openai.Config{
			Key: c.OpenAI.Key, BaseURL: c.OpenAI.BaseURL, Limits: c.Limits, Conns: int(m.most),
			Observer: c.Observer, Wrap: c.Transport,
		})
		if err != nil {
			return nil, err
		}
		m.model, m.close, m.models = p, p.Close, orDefault(c.OpenAI.Models, DefaultOpenAI)
	case anthropic.Name:
		p, err := anthropic.New(anthropic.Config{
			Key: c.Anthropic.Key, BaseURL: c.Anthropic.BaseURL, MaxTokens: c.MaxTokens, Limits: c.Limits, Conns: int(m.most),
			Observer: c.Observer, Wrap: c.Transport,
		})
		if err != nil {
			return nil, err
		}
		m.model, m.close, m.models = p, p.Close, orDefault(c.Anthropic.Models, DefaultAnthropic)
	case demo.Name:
		m.model, m.models, m.demo = demo.Provider{Delay: c.DemoDelay, Tokens: tokens.Count}, []string{demo.Name}, true
	default:
		return nil, fmt.Errorf("unknown provider %q: there are openai, anthropic and demo", name)
	}
	if c.Decorate != nil {
		m.model = c.Decorate(name, m.models[0], m.model)
	}
	for _, model := range m.models {
		m.breakers[model] = newBreaker(c.Breaker, observed(c.Observer, name, model))
	}
	return m, nil
}

func orDefault(models []string, model string) []string {
	if len(models) == 0 {
		return []string{model}
	}
	return models
}

// Close lets go of idle connections.
func (r *Router) Close() {
	for _, m := range r.members {
		m.close()
	}
}

// Models implements ports.Catalogue.
func (r *Router) Models() []ports.ModelInfo {
	var list []ports.ModelInfo
	for i, m := range r.members {
		for j, model := range m.models {
			list = append(list, ports.ModelInfo{
				Provider: m.name, Model: model, Default: i == 0 && j == 0, Demo: m.demo,
				State: m.breakers[model].gate.State().String(),
			})
		}
	}
	return list
}

// Breakers returns every breaker as it stands now, in the order of Models.
func (r *Router) Breakers() []BreakerState {
	list := make([]BreakerState, 0, len(r.members))
	for _, m := range r.Models() {
		list = append(list, BreakerState{Provider: m.Provider, Model: m.Model, State: m.State})
	}
	return list
}

// PricesDate is when the price table was true, as 2006-01-02.
func (r *Router) PricesDate() string { return r.prices.Date }

// Tokens counts as the router does when a provider does not say.
func (r *Router) Tokens() ports.Tokens { return r.tokens }

type silent struct{}

func (silent) Observe(context.Context, any) {}
