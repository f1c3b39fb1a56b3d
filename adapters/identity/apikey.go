package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// keyPrefix begins every API key, so that scanners for leaked secrets know one.
const keyPrefix = "parley_"

// NewKey makes an API key for a user. secret is shown once, to its owner; of
// it only k.Hash is kept. It names the user and the key, so that looking it up
// is a question about one user, and holds 256 random bits, so that a plain
// digest is as good as a slow one.
func NewKey(user, id string) (k access.Key, secret string) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	name := base64.RawURLEncoding.EncodeToString([]byte(user + "\x00" + id))
	secret = keyPrefix + name + "." + base64.RawURLEncoding.EncodeToString(random)
	return access.Key{ID: id, UserID: user, Hash: digest(secret)}, secret
}

func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// keyOf reads whose key a bearer token says it is.
func keyOf(token string) (user, id string, ok bool) {
	rest, ok := strings.CutPrefix(token, keyPrefix)
	if !ok || len(token) > 1024 {
		return "", "", false
	}
	name, _, ok := strings.Cut(rest, ".")
	if !ok {
		return "", "", false
	}
	plain, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil {
		return "", "", false
	}
	user, id, ok = strings.Cut(string(plain), "\x00")
	return user, id, ok && validUser(user) && chat.ValidID(id)
}

func (c *Callers) key(ctx context.Context, token string) (access.Principal, error) {
	user, id, ok := keyOf(token)
	if !ok {
		return access.Principal{}, unauthenticated()
	}
	k, err := c.Keys.Key(ctx, user, id)
	if fault.Is(err, fault.NotFound) {
		k, err = access.Key{}, nil // compared with all the same
	}
	if err != nil {
		return access.Principal{}, err
	}
	if subtle.ConstantTimeCompare([]byte(digest(token)), []byte(k.Hash)) != 1 || !k.RevokedAt.IsZero() {
		return access.Principal{}, unauthenticated()
	}
	return access.Principal{
		UserID: k.UserID, Tier: access.APIKey, Via: access.ViaKey, Scopes: k.Scopes, IssuedAt: k.CreatedAt,
	}, nil
}
