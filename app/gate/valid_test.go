package gate_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"parley/adapters/identity"
	"parley/adapters/memory"
	"parley/app/gate"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
	"parley/ports"
)

// unreachable is an identity whose database can be taken away.
type unreachable struct {
	ports.Identity
	down atomic.Bool
}

func (u *unreachable) Identify(ctx context.Context, c access.Credential) (access.Principal, error) {
	if u.down.Load() {
		return access.Principal{}, fault.New(fault.Unavailable, "Sessions cannot be checked at the moment")
	}
	return u.Identity.Identify(ctx, c)
}

// A credential that was good when a stream was opened is checked again while
// the stream is open.
func TestStillValid(t *testing.T) {
	store := openStore(t)
	now := time.Now()
	clock := func() time.Time { return now }
	tokens, err := identity.New([]string{"secret"}, clock)
	if err != nil {
		t.Fatal(err)
	}
	id := &unreachable{Identity: &identity.Authenticator{Tokens: tokens, Keys: store}}
	g := gate.New(gate.Deps{Identity: id, Limiter: memory.NewLimiter(time.Now), Audit: store, Accounts: store,
		Revocations: store, Observer: ports.NopObserver{}, Now: clock}, access.Limits{access.Anonymous: 100})
	entry := func(user string) audit.Entry {
		return audit.Entry{ID: user + now.String(), UserID: user, Action: "a", Resource: "r", CreatedAt: now, UpdatedAt: now}
	}
	accept := func(c access.Credential) access.Principal {
		t.Helper()
		p, err := g.Authenticate(t.Context(), c, access.Caller{})
		if err != nil {
			t.Fatal(err)
		}
		if !g.StillValid(t.Context(), c, p) {
			t.Fatal("ended at once")
		}
		return p
	}
	token := func(user string) access.Credential {
		t.Helper()
		text, err := identity.Mint("secret", identity.Grant{UserID: user, TTL: time.Hour, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return access.Credential{Bearer: text}
	}
	key := func(user string) access.Credential {
		t.Helper()
		k, secret := identity.NewKey(user, "key-"+user)
		k.CreatedAt = now
		if err := store.CreateKey(t.Context(), k, entry(user)); err != nil {
			t.Fatal(err)
		}
		return access.Credential{Bearer: secret}
	}
	revoke := func(user string) {
		t.Helper()
		if _, err := store.RevokeSessions(t.Context(), user, now.Add(time.Second), nil, entry(user)); err != nil {
			t.Fatal(err)
		}
		if err := g.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		credential access.Credential
		end        func(user string)
		want       bool
	}{
		"Unchanged":     {token("u1"), func(string) {}, true},
		"Expired":       {token("u2"), func(string) { now = now.Add(2 * time.Hour) }, false},
		"Revoked":       {token("u3"), revoke, false},
		"OtherRevoked":  {token("u4"), func(string) { revoke("u5") }, true},
		"KeyRevoked":    {key("u6"), func(u string) { check(t, store.RevokeKey(t.Context(), u, "key-"+u, now, entry(u))) }, false},
		"KeyDeleted":    {key("u7"), func(u string) { exec(t, store, "DELETE FROM chat_api_keys WHERE user_id = $1", u) }, false},
		"KeysOfRevoked": {key("u8"), revoke, false},
		"Unreachable":   {token("u9"), func(string) { id.down.Store(true) }, true},
		"UnreachableRevoked": {token("u10"), func(u string) {
			revoke(u)
			id.down.Store(true)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			begun := now
			defer func() { now = begun; id.down.Store(false) }()
			p := accept(c.credential)
			c.end(p.UserID)
			if got := g.StillValid(t.Context(), c.credential, p); got != c.want {
				t.Errorf("still valid: %v, want %v", got, c.want)
			}
		})
	}
}
