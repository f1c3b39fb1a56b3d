package ports

import (
	"context"

	"parley/domain/access"
	"parley/domain/audit"
)

// Switches stores what operators have disabled, for all instances.
type Switches interface {
	// Disabled lists what is disabled: chat as a whole first, then providers by name.
	Disabled(ctx context.Context) ([]access.Disabled, error)
	// Disable disables chat or a provider, and records entry. What is disabled
	// already keeps its time and gets the new reason.
	Disable(ctx context.Context, d access.Disabled, entry audit.Entry) error
	// Enable enables chat ("") or a provider again, and records entry. changed is
	// false, and nothing is recorded, if it was not disabled.
	Enable(ctx context.Context, provider string, entry audit.Entry) (changed bool, err error)
}
