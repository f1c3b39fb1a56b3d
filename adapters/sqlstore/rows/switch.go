package rows

import (
	"time"

	"github.com/uptrace/bun"

	"parley/domain/access"
)

// Switch is a row of chat_switches.
type Switch struct {
	bun.BaseModel `bun:"table:chat_switches,alias:s"`

	Provider   string    `bun:"provider,pk"`
	Reason     string    `bun:"reason"`
	DisabledAt time.Time `bun:"disabled_at"`
}

// Domain returns what the row says.
func (s Switch) Domain() access.Disabled {
	return access.Disabled{Provider: s.Provider, Reason: s.Reason, Since: Time(s.DisabledAt)}
}
