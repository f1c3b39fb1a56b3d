package portstest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
)

// switchTests use the switch of chat, which the users of other tests do not.
func switchTests(b *storeBench) {
	entry := func(action string) audit.Entry {
		at := b.tick()
		return audit.Entry{ID: newID("switch"), UserID: b.user, Action: action, Resource: audit.ResourceChat,
			Metadata: map[string]any{"reason": "spending"}, Status: audit.Success, CreatedAt: at, UpdatedAt: at}
	}
	expect := func(want ...access.Disabled) {
		b.Helper()
		list, err := b.Switches.Disabled(b.ctx())
		if err != nil {
			b.Fatal(err)
		}
		if d := cmp.Diff(want, list); d != "" {
			b.Error(d)
		}
	}
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	recorded := func(e audit.Entry) bool {
		return slices.ContainsFunc(b.Entries(b, ""), func(o audit.Entry) bool {
			return o.ID == e.ID && o.Action == e.Action && o.Metadata["reason"] == "spending"
		})
	}
	expect()
	chat := access.Disabled{Reason: "spending", Since: b.now}
	second := access.Disabled{Provider: "openai", Reason: "it writes nonsense", Since: b.now.Add(time.Second)}
	disabled := entry(audit.ActionChatDisabled)
	check(b.Switches.Disable(b.ctx(), second, entry(audit.ActionProviderDisabled)))
	check(b.Switches.Disable(b.ctx(), chat, disabled))
	expect(chat, second)
	if !recorded(disabled) {
		b.Error("disabling is not in the audit log, or under a user")
	}

	b.Run("AgainKeepsTheTime", func(t *testing.T) {
		again := access.Disabled{Reason: "still spending", Since: b.now.Add(time.Hour)}
		check(b.Switches.Disable(b.ctx(), again, entry(audit.ActionChatDisabled)))
		chat.Reason = again.Reason
		expect(chat, second)
	})
	b.Run("BadReasons", func(t *testing.T) {
		for _, reason := range []string{"", "  ", "two\nlines", string(make([]byte, 600)), "\xff"} {
			if err := b.Switches.Disable(b.ctx(), access.Disabled{Provider: "demo", Reason: reason, Since: b.now}, entry("a")); !fault.Is(err, fault.Invalid) {
				t.Errorf("%q: %v", reason, err)
			}
		}
		expect(chat, second)
	})
	b.Run("Enable", func(t *testing.T) {
		enabled, nothing := entry(audit.ActionChatEnabled), entry(audit.ActionChatEnabled)
		for i, e := range []audit.Entry{enabled, nothing} {
			changed, err := b.Switches.Enable(b.ctx(), "", e)
			check(err)
			if changed != (i == 0) || recorded(e) != changed {
				t.Errorf("time %d: changed %v, recorded %v", i, changed, recorded(e))
			}
		}
		expect(second)
		_, err := b.Switches.Enable(b.ctx(), "openai", entry(audit.ActionProviderEnabled))
		check(err)
		expect()
	})
}
