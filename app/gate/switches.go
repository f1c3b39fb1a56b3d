package gate

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"parley/domain/access"
	"parley/domain/fault"
	"parley/ports"
)

// Switches holds what operators have disabled, as this instance has read it last.
// Requests ask it and not the database. It is safe for concurrent use; nil has
// nothing disabled.
type Switches struct {
	store      ports.Switches
	observer   ports.Observer
	configured bool
	list       atomic.Pointer[[]access.Disabled]
}

// NewSwitches returns the switches that store has. chatDisabled disables chat
// whatever the store says, as long as the process lives.
func NewSwitches(store ports.Switches, observer ports.Observer, chatDisabled bool) *Switches {
	return &Switches{store: store, observer: observer, configured: chatDisabled}
}

// ChatDisabled reports whether chat as a whole is disabled.
func (s *Switches) ChatDisabled() bool {
	return s != nil && (s.configured || s.has(""))
}

// ProviderDisabled reports whether a provider is disabled.
func (s *Switches) ProviderDisabled(provider string) bool {
	return s != nil && s.has(provider)
}

func (s *Switches) has(provider string) bool {
	return slices.ContainsFunc(s.known(), func(d access.Disabled) bool { return d.Provider == provider })
}

func (s *Switches) known() []access.Disabled {
	if list := s.list.Load(); list != nil {
		return *list
	}
	return nil
}

// Refresh reads the store. It must be called before the first request is let in,
// and then at least every second: Follow does.
func (s *Switches) Refresh(ctx context.Context) error {
	list, err := s.store.Disabled(ctx)
	if err != nil {
		return err
	}
	before := s.known()
	s.list.Store(&list)
	for _, d := range list {
		if !slices.ContainsFunc(before, func(o access.Disabled) bool { return o.Provider == d.Provider }) {
			s.observer.Observe(ctx, ports.SwitchChanged{Provider: d.Provider, Disabled: true})
		}
	}
	for _, d := range before {
		if !s.has(d.Provider) {
			s.observer.Observe(ctx, ports.SwitchChanged{Provider: d.Provider})
		}
	}
	return nil
}

// Follow reads the store again after every interval, and at once when woken, until
// ctx is done. While the store does not answer, what was read last holds.
func (s *Switches) Follow(ctx context.Context, every time.Duration, wake <-chan struct{}) {
	follow(ctx, every, wake, func() {
		if err := s.Refresh(ctx); err != nil && ctx.Err() == nil {
			s.observer.Observe(ctx, ports.BackgroundFailed{Task: "switches", Err: err})
		}
	})
}

// follow calls refresh after every interval and whenever it is woken, until ctx is
// done. wake may be nil.
func follow(ctx context.Context, every time.Duration, wake <-chan struct{}, refresh func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-wake:
		}
		refresh()
	}
}

// disabledRetry is when a client should try again while chat is disabled.
const disabledRetry = time.Minute

// Open returns nil while chat is enabled.
func (g *Gate) Open() error {
	if g.Switches.ChatDisabled() {
		return fault.New(fault.Disabled, "Chat temporarily unavailable").After(disabledRetry)
	}
	return nil
}
