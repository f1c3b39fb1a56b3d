package gate_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"parley/adapters/memory"
	"parley/adapters/sqlstore"
	"parley/app/gate"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
	"parley/ports"
)

// fixedIdentity recognises every caller as the same principal.
type fixedIdentity struct{ principal access.Principal }

func (a fixedIdentity) Identify(context.Context, access.Credential) (access.Principal, error) {
	return a.principal, nil
}

func openStore(t *testing.T) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: testdb.SQLite(t), Timeout: time.Minute, AcquireTimeout: time.Minute})
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	_, err = store.Migrate(t.Context())
	check(t, err)
	return store
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, store *sqlstore.Store, statement string, args ...any) {
	t.Helper()
	_, err := store.DB().ExecContext(t.Context(), statement, args...)
	check(t, err)
}

func TestRevocation_EndsSessionsThatWereIssuedBefore(t *testing.T) {
	store := openStore(t)
	at := time.Now()
	revoke := func(id string, at time.Time) access.Revocation {
		t.Helper()
		r, err := store.RevokeSessions(t.Context(), "ann", at, nil, audit.Entry{ID: id, UserID: "ann", Action: audit.ActionSessionsRevoked,
			Resource: audit.ResourceUser, ResourceID: "ann", CreatedAt: at, UpdatedAt: at})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	revoke("e1", at.Add(-time.Hour))
	if r := revoke("e2", at); r.Version != 2 {
		t.Errorf("version %d after two", r.Version)
	}
	for name, c := range map[string]struct {
		principal access.Principal
		ended     bool
	}{
		"Before":         {access.Principal{UserID: "ann", IssuedAt: at.Add(-time.Second)}, true},
		"Undated":        {access.Principal{UserID: "ann"}, true},
		"After":          {access.Principal{UserID: "ann", IssuedAt: at.Add(time.Second)}, false},
		"OldVersion":     {access.Principal{UserID: "ann", IssuedAt: at.Add(time.Hour), SessionVersion: 1}, true},
		"CurrentVersion": {access.Principal{UserID: "ann", SessionVersion: 2}, false},
		"OldKey":         {access.Principal{UserID: "ann", Via: access.ViaKey, IssuedAt: at.Add(-time.Hour)}, true},
		"NewKey":         {access.Principal{UserID: "ann", Via: access.ViaKey, IssuedAt: at.Add(time.Microsecond)}, false},
		"SomebodyElse":   {access.Principal{UserID: "bob", IssuedAt: at.Add(-time.Hour)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := gate.New(gate.Deps{Identity: fixedIdentity{c.principal}, Limiter: memory.NewLimiter(time.Now), Audit: store, Accounts: store,
				Revocations: store, Observer: ports.NopObserver{}, Now: time.Now}, access.Limits{access.Anonymous: 100})
			if err := g.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			p, err := g.Authenticate(t.Context(), access.Credential{}, access.Caller{})
			if c.ended != fault.Is(err, fault.Unauthenticated) || c.ended == p.Known() {
				t.Errorf("%+v, %v; want ended %v", p, err, c.ended)
			}
		})
	}
}

// TestErasure_IsARevocation: what was issued before an erasure is refused, by
// every kind of credential, though nothing of the user is stored any more; what
// is issued after it is accepted.
func TestErasure_IsARevocation(t *testing.T) {
	store := openStore(t)
	hash := func(user string) string { return "hash of " + user }
	at := time.Now().Truncate(time.Microsecond)
	_, err := store.DeclareErasure(t.Context(), ports.Erasure{UserID: "ann", UserHash: hash("ann"), At: at, Sessions: []string{"s1", "s2"}}, nil)
	check(t, err)
	for name, c := range map[string]struct {
		principal access.Principal
		ended     bool
	}{
		"OldSession":         {access.Principal{UserID: "ann", IssuedAt: at.Add(-time.Hour)}, true},
		"NewSession":         {access.Principal{UserID: "ann", IssuedAt: at.Add(time.Second)}, false},
		"Undated":            {access.Principal{UserID: "ann"}, true},
		"OldKey":             {access.Principal{UserID: "ann", Via: access.ViaKey, IssuedAt: at.Add(-time.Hour)}, true},
		"NewKey":             {access.Principal{UserID: "ann", Via: access.ViaKey, IssuedAt: at.Add(time.Second)}, false},
		"OldVersion":         {access.Principal{UserID: "ann", SessionVersion: 7, IssuedAt: at.Add(-time.Hour)}, true},
		"NewVersion":         {access.Principal{UserID: "ann", SessionVersion: 1, IssuedAt: at.Add(time.Second)}, false},
		"OldDatabaseSession": {access.Principal{UserID: "ann", Session: "s2"}, true},
		"NewDatabaseSession": {access.Principal{UserID: "ann", Session: "s3"}, false},
		"SomebodyElse":       {access.Principal{UserID: "bob", IssuedAt: at.Add(-time.Hour)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			deps := gate.Deps{Identity: fixedIdentity{c.principal}, Limiter: memory.NewLimiter(time.Now), Audit: store, Accounts: store,
				Revocations: store, UserHash: hash, Observer: ports.NopObserver{}, Now: time.Now}
			g := gate.New(deps, access.Limits{access.Anonymous: 100})
			check(t, g.Refresh(t.Context()))
			p, err := g.Authenticate(t.Context(), access.Credential{}, access.Caller{})
			if c.ended != fault.Is(err, fault.Unauthenticated) || c.ended == p.Known() {
				t.Errorf("%+v, %v; want ended %v", p, err, c.ended)
			}
			if got := g.StillValid(t.Context(), access.Credential{}, c.principal); got == c.ended {
				t.Errorf("still valid: %v", got)
			}
		})
	}
	t.Run("WithoutTheKey", func(t *testing.T) {
		g := gate.New(gate.Deps{Revocations: store, Now: time.Now}, nil)
		if err := g.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "AUDIT_KEY") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("Wakes", func(t *testing.T) {
		g := gate.New(gate.Deps{Identity: fixedIdentity{access.Principal{UserID: "eve", IssuedAt: at}}, Revocations: store, UserHash: hash, Observer: ports.NopObserver{}, Now: time.Now}, nil)
		check(t, g.Refresh(t.Context()))
		wake := make(chan struct{})
		go g.FollowRevocations(t.Context(), time.Hour, wake)
		_, err := store.DeclareErasure(t.Context(), ports.Erasure{UserID: "eve", UserHash: hash("eve"), At: at}, nil)
		check(t, err)
		wake <- struct{}{}
		wake <- struct{}{} // taken after the first was served
		if g.StillValid(t.Context(), access.Credential{}, access.Principal{UserID: "eve"}) {
			t.Error("still valid after the wake")
		}
	})
	t.Run("Expires", func(t *testing.T) {
		if n, err := store.ExpireErased(t.Context(), at.Add(access.LongestSession-time.Second)); err != nil || n != 0 {
			t.Errorf("%d rows expired too early, %v", n, err)
		}
		n, err := store.ExpireErased(t.Context(), at.Add(access.LongestSession))
		list, failed := store.Revocations(t.Context(), at.Add(-access.LongestSession))
		if err != nil || failed != nil || n != 2 || len(list) != 0 {
			t.Errorf("%d rows expired, %v; %v left, %v", n, err, list, failed)
		}
	})
}
