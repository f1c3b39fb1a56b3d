// Package identity authenticates callers: by encrypted session cookies of Auth.js
// v5 and next-auth v4, sessions in the app's database, Parley's own bearer
// tokens, API keys and the tokens of an OpenID provider. Cookies and tokens are
// verified with the secrets alone, without a look-up.
package identity

import (
	"context"
	"errors"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// tolerance is how far the clocks of issuer and verifier may differ. Auth.js
// allows the same.
const tolerance = 15 * time.Second

// maxToken is the longest credential that is accepted, in bytes.
const maxToken = 16 << 10

// Verifier verifies encrypted session cookies and Parley's own bearer tokens. It
// is safe for concurrent use.
type Verifier struct {
	keys     []keys // by secret, the newest first
	now      ports.Clock
	verified verifiedTokens
}

// New returns a verifier for tokens made with any of the secrets: the current one
// first, then former ones until their tokens have expired.
func New(secrets []string, now ports.Clock) (*Verifier, error) {
	if len(secrets) == 0 {
		return nil, errors.New("identity: no secret")
	}
	v := &Verifier{now: now}
	for _, secret := range secrets {
		k, err := derive(secret)
		if err != nil {
			return nil, err
		}
		v.keys = append(v.keys, k)
	}
	return v, nil
}

// Identify returns the principal of a credential. An absent, malformed, expired or
// foreign one is Unauthenticated; a session cookie together with a bearer token is
// Invalid, since either could be meant.
func (v *Verifier) Identify(_ context.Context, c access.Credential) (access.Principal, error) {
	sessions := sessionCookies(c.Cookies)
	switch {
	case len(sessions) > 0 && c.Bearer != "":
		return access.Principal{}, fault.New(fault.Invalid, "Send either a session cookie or a bearer token, not both")
	case c.Bearer != "":
		return v.bearer(c.Bearer)
	}
	for _, s := range sessions {
		for _, token := range s.tokens {
			if p, ok := v.encrypted(token, s.cookieFormat, access.ViaCookie); ok {
				return p, nil
			}
		}
	}
	return access.Principal{}, unauthenticated()
}

// bearer verifies Parley's own tokens, and Auth.js session tokens, which Auth.js
// itself accepts URL-encoded in this place.
func (v *Verifier) bearer(token string) (access.Principal, error) {
	if len(token) > maxToken {
		return access.Principal{}, unauthenticated()
	}
	if strings.Count(token, ".") == 2 {
		p, ok := v.principal(token, access.ViaBearer, cookieFormat{}, func() (payload, bool) { return v.verify(token) })
		if !ok {
			return access.Principal{}, unauthenticated()
		}
		return p, nil
	}
	if strings.Contains(token, "%") {
		plain, err := url.PathUnescape(token)
		if err != nil {
			return access.Principal{}, unauthenticated()
		}
		token = plain
	}
	for _, f := range cookieFormats {
		if p, ok := v.encrypted(token, f, access.ViaBearer); ok {
			return p, nil
		}
	}
	return access.Principal{}, unauthenticated()
}

// claims are the members that are read of a verified payload.
type claims struct {
	Subject string   `json:"sub"`
	ID      any      `json:"id"` // where an app's callback may put the user id instead
	Expires *float64 `json:"exp"`
	Before  *float64 `json:"nbf"`
	Issued  *float64 `json:"iat"`
}

// grants are read of Parley's own tokens only: an app's callbacks may put anything
// into a session, and no session makes an administrator.
type grants struct {
	Issuer  string      `json:"iss"`
	Tier    access.Tier `json:"tier"`
	Session int         `json:"sv"`
}

// encrypted returns the principal of a session token of one format.
func (v *Verifier) encrypted(token string, f cookieFormat, via access.Via) (access.Principal, bool) {
	return v.principal(token, via, f, func() (payload, bool) { return v.open(token, f) })
}

// principal returns the principal of a token that read verifies, unless it is not
// good now. A token that was verified before is not verified again.
func (v *Verifier) principal(token string, via access.Via, f cookieFormat, read func() (payload, bool)) (access.Principal, bool) {
	d := digestOfToken(token, via, f)
	s, known := v.verified.get(d)
	if !known {
		p, ok := read()
		if !ok {
			return access.Principal{}, false
		}
		if s, ok = readPayload(p, via); !ok {
			return access.Principal{}, false
		}
	}
	if !s.valid(float64(v.now().Unix())) {
		return access.Principal{}, false
	}
	if !known {
		v.verified.put(d, s)
	}
	return s.principal, true
}

// readPayload reads a verified payload.
func readPayload(p payload, via access.Via) (s verifiedToken, ok bool) {
	var c claims
	if json.Unmarshal(p.claims, &c) != nil || c.Expires == nil {
		return verifiedToken{}, false
	}
	s = verifiedToken{principal: access.Principal{UserID: c.Subject, Tier: access.Authenticated, Via: via}, expires: *c.Expires, before: math.Inf(-1)}
	if c.Before != nil {
		s.before = *c.Before
	}
	out := &s.principal
	if out.UserID == "" {
		out.UserID, _ = c.ID.(string)
	}
	if !chat.ValidUserID(out.UserID) {
		return verifiedToken{}, false
	}
	if c.Issued != nil && *c.Issued > 0 && *c.Issued < *c.Expires {
		out.IssuedAt = time.UnixMicro(int64(math.Round(*c.Issued * 1e6))).UTC()
	}
	if p.own {
		var g grants
		if json.Unmarshal(p.claims, &g) != nil || g.Issuer != issuer {
			return verifiedToken{}, false
		}
		if _, ok := access.ParseTier(string(g.Tier)); !ok {
			return verifiedToken{}, false
		}
		out.Tier, out.SessionVersion = g.Tier, g.Session
	}
	return s, true
}

func unauthenticated() error { return fault.New(fault.Unauthenticated, "Authentication required") }
