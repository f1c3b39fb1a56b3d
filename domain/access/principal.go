// Package access holds the rules of who may do how much: principals, credentials,
// revocations, tiers, rate limits and budgets.
package access

import (
	"slices"
	"time"
)

// Tier is a class of caller. Each tier has its own rate limit.
type Tier string

const (
	Anonymous     Tier = "anonymous"
	Authenticated Tier = "authenticated"
	APIKey        Tier = "api_key"
	Admin         Tier = "admin"
	Webhook       Tier = "webhook"
)

// Tiers lists every tier, in the order of the configuration table.
var Tiers = []Tier{Anonymous, Authenticated, APIKey, Admin, Webhook}

// ParseTier returns the tier of that name; ok is false for an unknown one.
func ParseTier(name string) (tier Tier, ok bool) {
	return Tier(name), slices.Contains(Tiers, Tier(name))
}

// Via is the kind of credential that a principal was authenticated by.
type Via string

const (
	ViaCookie Via = "cookie" // the browser sends it by itself, so CSRF checks apply
	ViaBearer Via = "bearer"
	ViaKey    Via = "api_key"
)

// Scope is a permission of a credential. A credential without scopes has all.
type Scope string

const (
	ChatRead  Scope = "chat:read"
	ChatWrite Scope = "chat:write"
)

// Principal is an authenticated caller. The zero value owns nothing: every
// query names UserID, and no row has an empty one.
type Principal struct {
	UserID         string
	Tier           Tier
	Via            Via
	Scopes         []Scope
	SessionVersion int       // of the credential; refused when below the user's
	IssuedAt       time.Time // of the credential; zero when unknown
	Session        string    // digest of a session in the app's database; "" for other credentials
}

// Known reports whether the principal is authenticated.
func (p Principal) Known() bool { return p.UserID != "" }

// May reports whether the credential covers the scope.
func (p Principal) May(scope Scope) bool {
	return p.Known() && (len(p.Scopes) == 0 || slices.Contains(p.Scopes, scope))
}

// Credential is what a request presents, not verified. Values are secrets: they
// are never logged, and String hides them.
type Credential struct {
	Cookies []Cookie // in the order of the request
	Bearer  string   // the value after "Bearer ", "" when absent
}

// Cookie is one name and value of a request.
type Cookie struct{ Name, Value string }

// String keeps credentials out of anything that prints them.
func (Credential) String() string { return "[credential]" }

// GoString keeps credentials out of %#v.
func (Credential) GoString() string { return "[credential]" }

// Caller is where a request came from, for the audit.
type Caller struct {
	IP        string // the client's address as far as the configured proxies can be trusted
	UserAgent string // as sent, cut to 512 bytes
}

// ValidRequestID reports whether a request id that a client sent is safe to
// repeat in headers and logs: 8 to 64 letters, digits, - and _.
func ValidRequestID(id string) bool {
	if len(id) < 8 || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
