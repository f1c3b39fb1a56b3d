package identity_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"parley/adapters/identity"
	"parley/domain/access"
	"parley/domain/fault"
)

// TestVerifier_SeenToken shows that a token which was verified before gets the
// same answers as one which is seen for the first time.
func TestVerifier_SeenToken(t *testing.T) {
	const secret = "a secret of thirty-two bytes or more"
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	v, err := identity.New([]string{secret}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	token, err := identity.Mint(secret, identity.Grant{UserID: "ann", TTL: time.Hour, Now: now, SessionVersion: 3})
	if err != nil {
		t.Fatal(err)
	}
	cookie, err := identity.MintCookie(secret, identity.CookieV5, identity.Grant{UserID: "bob", TTL: time.Hour, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(token string) (access.Principal, error) {
		return v.Identify(context.Background(), access.Credential{Bearer: token})
	}
	inCookie := func(name string) (access.Principal, error) {
		return v.Identify(context.Background(), access.Credential{Cookies: whole(name, cookie)})
	}
	first, err := bearer(token)
	if err != nil || first.UserID != "ann" || first.SessionVersion != 3 || first.Via != access.ViaBearer {
		t.Fatalf("first: %+v, %v", first, err)
	}
	if again, err := bearer(token); err != nil || fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("again: %+v, %v", again, err)
	}
	for i := range len(token) - 1 { // of the last character, two bits mean nothing
		changed := token[:i] + "A" + token[i+1:]
		if p, err := bearer(changed); changed != token && !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("with another character %d: %+v, %v", i, p, err)
		}
	}
	for range 2 {
		if p, err := inCookie(identity.CookieV5); err != nil || p.Via != access.ViaCookie {
			t.Errorf("cookie: %+v, %v", p, err)
		}
		if p, err := bearer(cookie); err != nil || p.Via != access.ViaBearer {
			t.Errorf("cookie as a bearer token: %+v, %v", p, err)
		}
		if p, err := inCookie(identity.CookieV5Secure); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("under another name: %+v, %v", p, err)
		}
	}
	now = now.Add(time.Hour + time.Minute)
	for name, try := range map[string]func() (access.Principal, error){
		"bearer": func() (access.Principal, error) { return bearer(token) },
		"cookie": func() (access.Principal, error) { return inCookie(identity.CookieV5) },
	} {
		if p, err := try(); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("expired %s: %+v, %v", name, p, err)
		}
	}
}

// TestVerifier_ManyTokens shows that tokens are still told apart when more have
// been seen than are remembered.
func TestVerifier_ManyTokens(t *testing.T) {
	const secret = "a secret of thirty-two bytes or more"
	now := time.Now()
	v, err := identity.New([]string{secret}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	tokens := make([]string, 9000)
	for i := range tokens {
		if tokens[i], err = identity.Mint(secret, identity.Grant{UserID: fmt.Sprint("user-", i), TTL: time.Hour, Now: now}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for i, token := range tokens {
			p, err := v.Identify(context.Background(), access.Credential{Bearer: token})
			if err != nil || p.UserID != fmt.Sprint("user-", i) {
				t.Fatalf("token %d: %+v, %v", i, p, err)
			}
		}
	}
}
