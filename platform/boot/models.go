package boot

import (
	"parley/adapters/observe"
	"parley/adapters/providers"
	"parley/adapters/providers/upstream"
	"parley/platform/config"
	"parley/ports"
)

// openModels returns who writes the replies, watched by observer, which learns
// here which models there are.
func openModels(c config.Config, observer *observe.Observer, cache ports.Cache) (*providers.Router, error) {
	given := modelConfig(c)
	given.Cache, given.Observer, given.Decorate = cache, observer, observer.Model
	router, err := providers.New(given)
	if err != nil {
		return nil, usageError{err}
	}
	observer.Know(router.Models())
	return router, nil
}

func modelConfig(c config.Config) providers.Config {
	return providers.Config{
		Order:     c.AI.AIProviders,
		OpenAI:    providers.Provider{Key: c.AI.OpenAIKey.Reveal(), BaseURL: c.AI.OpenAIBaseURL, Models: c.AI.OpenAIModels},
		Anthropic: providers.Provider{Key: c.AI.AnthropicKey.Reveal(), BaseURL: c.AI.AnthropicBaseURL, Models: c.AI.AnthropicModels},
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
