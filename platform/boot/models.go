package boot

import (
	"parley/adapters/observe"
	"parley/adapters/providers/demo"
	"parley/platform/config"
	"parley/ports"
)

// catalogue is the list of the models that are configured.
type catalogue []ports.ModelInfo

func (c catalogue) Models() []ports.ModelInfo { return c }

func configuredModels(config.Config) catalogue {
	return catalogue{{Provider: demo.Name, Model: demo.Name, Default: true, State: "closed", Demo: true}}
}

// newModel returns who writes the replies.
func newModel(c config.Config, observer *observe.Observer, tokens ports.Tokens) ports.Model {
	return observer.Model(demo.Name, demo.Name, demo.Provider{Delay: c.AI.DemoDelay, Tokens: tokens})
}
