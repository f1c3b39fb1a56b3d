package providers

import (
	"parley/adapters/providers/anthropic"
	"parley/adapters/providers/demo"
	"parley/adapters/providers/openai"
	"parley/adapters/providers/tokens"
	"parley/ports"
)

// Default models, of middling price.
const (
	DefaultOpenAI    = "gpt-5.4-mini"
	DefaultAnthropic = "claude-sonnet-5-5"
)

// entry is one kind of provider.
type entry struct {
	name         string
	setting      string // the variable that names its models
	defaultModel string
	demo         bool                     // not AI
	files        func(model string) Files // that its own models read; nil: text alone
	settings     func(Config) Provider
	open         func(Config, Provider) (client, error)
}

// client is what a provider's package offers. One that can list the models of
// its server is a lister as well.
type client interface {
	ports.Model
	Close()
}

// registry holds every provider that can be configured, in the order in which
// they are preferred when AI_PROVIDERS does not say. Adding a provider is a row
// here and its package.
var registry = []entry{
	{
		name: openai.Name, setting: "OPENAI_MODEL", defaultModel: DefaultOpenAI,
		settings: func(c Config) Provider { return c.OpenAI },
		files:    func(model string) (f Files) { f.Images, f.PDF = openai.ReadsFiles(model); return f },
		open: func(c Config, p Provider) (client, error) {
			return openai.New(openai.Config{
				Key: p.Key, BaseURL: p.BaseURL, Limits: c.Limits, Conns: c.MaxConcurrency, Observer: c.Observer, Wrap: c.Transport,
			})
		},
	},
	{
		name: anthropic.Name, setting: "ANTHROPIC_MODEL", defaultModel: DefaultAnthropic,
		settings: func(c Config) Provider { return c.Anthropic },
		files:    func(model string) (f Files) { f.Images, f.PDF = anthropic.ReadsFiles(model); return f },
		open: func(c Config, p Provider) (client, error) {
			return anthropic.New(anthropic.Config{
				Key: p.Key, BaseURL: p.BaseURL, MaxTokens: c.MaxTokens, Limits: c.Limits, Conns: c.MaxConcurrency,
				Observer: c.Observer, Wrap: c.Transport,
			})
		},
	},
	{
		name: demo.Name, defaultModel: demo.Name, demo: true,
		files:    func(string) Files { return Files{Images: true, PDF: true} }, // it says what it got
		settings: func(Config) Provider { return Provider{} },
		open: func(c Config, _ Provider) (client, error) {
			return demoClient{demo.Provider{Delay: c.DemoDelay, Tokens: tokens.Count}}, nil
		},
	},
}

// demoClient holds no connection that could be closed.
type demoClient struct{ demo.Provider }

func (demoClient) Close() {}

// Names lists the providers that can be configured.
func Names() []string {
	var names []string
	for _, e := range registry {
		names = append(names, e.name)
	}
	return names
}

func registered(name string) (entry, bool) {
	for _, e := range registry {
		if e.name == name {
			return e, true
		}
	}
	return entry{}, false
}
