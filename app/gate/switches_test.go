package gate_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/memory"
	"parley/app/gate"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
	"parley/ports"
)

// recorder keeps the events that it observes.
type recorder struct {
	mu     sync.Mutex
	events []any
}

func (r *recorder) Observe(_ context.Context, event any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
}

func TestSwitches_RefuseRequestsWhileChatIsDisabled(t *testing.T) {
	store, observer := openStore(t), &recorder{}
	s := gate.NewSwitches(store, observer, false)
	g := gate.New(gate.Deps{Switches: s, Limiter: memory.NewLimiter(time.Now), Observer: ports.NopObserver{}, Now: time.Now},
		access.Limits{access.Anonymous: 100, access.Authenticated: 100})
	entry := func(id string) audit.Entry {
		return audit.Entry{ID: id, Action: audit.ActionChatDisabled, Resource: audit.ResourceChat, CreatedAt: time.Now(), UpdatedAt: time.Now()}
	}
	refused := func() bool {
		t.Helper()
		_, err := g.CheckRequest(t.Context(), access.Principal{UserID: "ann", Tier: access.Authenticated})
		public := g.CheckAddress(t.Context(), access.Caller{})
		if fault.Is(err, fault.Disabled) != fault.Is(public, fault.Disabled) || err != nil && fault.As(err).RetryAfter != time.Minute {
			t.Errorf("%v, %v", err, public)
		}
		return err != nil
	}
	check(t, s.Refresh(t.Context()))
	if refused() {
		t.Error("refused before it was disabled")
	}
	check(t, store.Disable(t.Context(), access.Disabled{Reason: "r", Since: time.Now()}, entry("1")))
	check(t, store.Disable(t.Context(), access.Disabled{Provider: "openai", Reason: "r", Since: time.Now()}, entry("2")))
	check(t, s.Refresh(t.Context()))
	check(t, s.Refresh(t.Context()))
	if !refused() || !s.ProviderDisabled("openai") || s.ProviderDisabled("anthropic") {
		t.Error("not refused while disabled, or another provider is")
	}
	_, err := store.Enable(t.Context(), "", entry("3"))
	check(t, err)
	check(t, s.Refresh(t.Context()))
	if refused() || !s.ProviderDisabled("openai") {
		t.Error("refused after it was enabled, or the provider is enabled as well")
	}
	want := []any{ports.SwitchChanged{Disabled: true}, ports.SwitchChanged{Provider: "openai", Disabled: true}, ports.SwitchChanged{}}
	if d := cmp.Diff(want, observer.events); d != "" {
		t.Error(d)
	}
}

// brokenSwitches fails when it is read.
type brokenSwitches struct{ ports.Switches }

func (brokenSwitches) Disabled(context.Context) ([]access.Disabled, error) {
	return nil, errors.New("the database is down")
}

// changingSwitches can be replaced while it is in use.
type changingSwitches struct {
	mu sync.Mutex
	ports.Switches
}

func (c *changingSwitches) Disabled(ctx context.Context) ([]access.Disabled, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Switches.Disabled(ctx)
}

func (c *changingSwitches) set(s ports.Switches) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Switches = s
}

// While the database is down, what was disabled stays disabled.
func TestSwitches_HoldWhileTheStoreIsDown(t *testing.T) {
	store, observer := openStore(t), &recorder{}
	check(t, store.Disable(t.Context(), access.Disabled{Reason: "r", Since: time.Now()}, audit.Entry{ID: "1", Action: "a", Resource: "r", CreatedAt: time.Now(), UpdatedAt: time.Now()}))
	from := &changingSwitches{Switches: store}
	s := gate.NewSwitches(from, observer, false)
	check(t, s.Refresh(t.Context()))
	from.set(brokenSwitches{})
	wake := make(chan struct{})
	go s.Follow(t.Context(), time.Hour, wake)
	wake <- struct{}{}
	wake <- struct{}{} // taken after the first was served
	if !s.ChatDisabled() {
		t.Error("enabled by an error")
	}
	from.set(store)
	_, err := store.Enable(t.Context(), "", audit.Entry{ID: "2", Action: "a", Resource: "r", CreatedAt: time.Now(), UpdatedAt: time.Now()})
	check(t, err)
	wake <- struct{}{}
	wake <- struct{}{}
	if s.ChatDisabled() {
		t.Error("still disabled after the database is back")
	}
}

// CHAT_DISABLED disables chat whatever the store says.
func TestSwitches_Configured(t *testing.T) {
	s := gate.NewSwitches(openStore(t), ports.NopObserver{}, true)
	check(t, s.Refresh(t.Context()))
	if !s.ChatDisabled() {
		t.Error("not disabled")
	}
}
