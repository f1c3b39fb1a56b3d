package access

import "time"

// Key is an API key. The secret itself is nowhere: only its digest is kept.
type Key struct {
	ID        string
	UserID    string
	Name      string // what its owner calls it
	Hash      string // SHA-256 of the secret, hex
	Scopes    []Scope
	CreatedAt time.Time
	RevokedAt time.Time // zero while it is good
}

// Revocation ends every session of a user that was issued until At, or that
// names an older session version, and every API key made until then.
type Revocation struct {
	UserID  string
	Version int
	At      time.Time
}

// Ends reports whether the revocation applies to a credential. One that does
// not say when it was issued is taken for an old one.
func (r Revocation) Ends(p Principal) bool {
	if p.Via != ViaKey && p.SessionVersion > 0 {
		return p.SessionVersion < r.Version
	}
	return !p.IssuedAt.After(r.At)
}
