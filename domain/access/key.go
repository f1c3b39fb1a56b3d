package access

import (
	"slices"
	"time"
)

// Key is an API key. Only the digest of its secret is stored.
type Key struct {
	ID        string
	UserID    string
	Name      string // given by its owner
	Hash      string // SHA-256 of the secret, hex
	Scopes    []Scope
	CreatedAt time.Time
	RevokedAt time.Time // zero if it was not revoked
}

// LongestSession bounds how long a credential can live, and so how long a
// revocation must be remembered.
const LongestSession = 400 * 24 * time.Hour

// Revocation ends every session of a user that was issued until At, or that
// names an older session version, and every API key made until then. Of an
// erased user it holds UserHash instead of UserID and Version.
type Revocation struct {
	UserID   string
	UserHash string
	Version  int
	At       time.Time
	Sessions []string // digests of the sessions in the app's database at that time
}

// Ends reports whether the revocation applies to a credential. One that does
// not say when it was issued counts as issued before. A session in the app's
// database is never dated: it ends if it existed when it was revoked.
func (r Revocation) Ends(p Principal) bool {
	switch {
	case p.Session != "":
		return slices.Contains(r.Sessions, p.Session)
	case p.Via != ViaKey && p.SessionVersion > 0 && r.UserHash == "":
		return p.SessionVersion < r.Version
	}
	return !p.IssuedAt.After(r.At)
}
