package identity

import (
	"crypto/sha256"
	"sync"

	"parley/domain/access"
)

// verifiedToken is what a verified token says, whenever it is sent.
type verifiedToken struct {
	principal       access.Principal
	expires, before float64 // seconds since 1970; the token is good until the one, from the other on
}

// valid reports whether the token is good at a time.
func (s verifiedToken) valid(now float64) bool {
	slack := tolerance.Seconds()
	return s.expires > now-slack && s.before <= now+slack
}

// tokenDigest tells tokens apart, by how they were sent too.
type tokenDigest [sha256.Size]byte

func digestOfToken(token string, via access.Via, format cookieFormat) tokenDigest {
	b := make([]byte, 0, 1024)
	b = append(append(append(b, via...), 0), format.cookie...)
	return sha256.Sum256(append(append(b, 0), token...))
}

// maxVerified is how many tokens each of two generations holds.
const maxVerified = 4096

// verifiedTokens remembers tokens whose signature or encryption has been verified,
// by digest: a client sends the same one with each request. It is safe for
// concurrent use.
type verifiedTokens struct {
	mu                sync.Mutex
	current, previous map[tokenDigest]verifiedToken
}

func (v *verifiedTokens) get(d tokenDigest) (s verifiedToken, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s, ok = v.current[d]; ok {
		return s, true
	}
	if s, ok = v.previous[d]; ok {
		v.add(d, s)
	}
	return s, ok
}

func (v *verifiedTokens) put(d tokenDigest, s verifiedToken) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.add(d, s)
}

func (v *verifiedTokens) add(d tokenDigest, s verifiedToken) {
	if len(v.current) >= maxVerified {
		v.previous, v.current = v.current, nil
	}
	if v.current == nil {
		v.current = map[tokenDigest]verifiedToken{}
	}
	v.current[d] = s
}
