package boot

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"parley/adapters/observe"
	"parley/adapters/providers"
	"parley/adapters/providers/upstream"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/platform/config"
	"parley/ports"
)

// openModels returns the configured providers, watched by observer, which learns
// here which models there are. Each provider is asked once for its list of
// models, in the background; closeModels ends that and the connections.
func openModels(ctx context.Context, c config.Config, observer *observe.Observer, cache ports.Cache, disabled func(provider string) bool, log *slog.Logger) (router *providers.Router, closeModels func(), err error) {
	settings := modelConfig(c)
	settings.Disabled = disabled
	settings.Cache, settings.Observer, settings.Decorate, settings.Discovered = cache, observer, observer.Model, observer.RegisterModels
	router, err = providers.New(settings)
	if err != nil {
		return nil, nil, usageError{err}
	}
	observer.RegisterModels(router.Models())
	ctx, cancel := context.WithCancel(ctx)
	checked := make(chan struct{})
	go func() {
		defer close(checked)
		checkModels(ctx, router, log)
	}()
	return router, func() {
		cancel()
		<-checked
		router.Close()
	}, nil
}

// checkEvery is how often providers are asked again while a model has a problem.
const checkEvery = 30 * time.Second

// checkModels asks the providers for their models at the start, and again while
// a model has a problem, until ctx ends. What is found is logged when it changes.
func checkModels(ctx context.Context, router *providers.Router, log *slog.Logger) {
	known := map[string]string{}
	for first := true; ; first = false {
		models := router.Models()
		if first || slices.ContainsFunc(models, func(m ports.ModelInfo) bool { return m.Problem != "" }) {
			router.Check(ctx)
			models = router.Models()
		}
		for _, m := range models {
			name := modelName(m)
			if m.Detail != known[name] && m.Problem != "" && ctx.Err() == nil {
				log.WarnContext(ctx, "a model cannot be used", "provider", m.Provider, "model", m.Model, "problem", m.Problem, "detail", m.Detail)
			}
			known[name] = m.Detail
		}
		select {
		case <-time.After(checkEvery):
		case <-ctx.Done():
			return
		}
	}
}

// unpriced lists the models that users with a budget of money are refused, if
// any tier has such a budget.
func unpriced(router *providers.Router, budgets access.Budgets) (names []string) {
	if !slices.ContainsFunc(slices.Collect(maps.Values(budgets)), access.Budget.BoundsCost) {
		return nil
	}
	for _, m := range router.Models() {
		if m.Model != "" && router.Accepts(chat.Params{Provider: m.Provider, Model: m.Model, Priced: true}) != nil {
			names = append(names, m.Provider+"/"+m.Model)
		}
	}
	return names
}

func modelConfig(c config.Config) providers.Config {
	return providers.Config{
		Order:     c.AI.AIProviders,
		OpenAI:    providers.Provider{Key: c.AI.OpenAIKey.Reveal(), BaseURL: c.AI.OpenAIBaseURL, Models: c.AI.OpenAIModels, Files: providers.FilesNamed(c.AI.OpenAIFiles)},
		Anthropic: providers.Provider{Key: c.AI.AnthropicKey.Reveal(), BaseURL: c.AI.AnthropicBaseURL, Models: c.AI.AnthropicModels, Files: providers.FilesNamed(c.AI.AnthropicFiles)},
		DemoDelay: c.AI.DemoDelay,
		Limits: upstream.Limits{
			Connect: c.AI.ConnectTimeout, FirstToken: c.AI.FirstTokenTimeout, Idle: c.AI.IdleTimeout, MaxReply: c.AI.MaxReplyChars,
		},
		MaxConcurrency: c.AI.MaxConcurrency,
		MaxTokens:      c.AI.MaxTokens,
		MaxRetryWait:   c.AI.RetryWait,
		PricesFile:     c.AI.PricesFile,
		CacheTTL:       c.AI.CacheTTL,
		CacheShared:    c.AI.CacheScope == "shared",
	}
}
