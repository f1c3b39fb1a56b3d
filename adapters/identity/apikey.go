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

// keyPrefix begins every API key, so that scanners for leaked secrets recognise it.
const keyPrefix = "parley_"

// NewKey makes an API key for a user. secret is shown once, to its owner; only its
// digest, k.Hash, is stored. It names the user and the key, so that it is looked
// up by primary key, and holds 256 random bits, so that a fast digest is enough.
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

// parseKey reads the ids of user and key from a bearer token. Nothing is verified.
func parseKey(token string) (user, id string, ok bool) {
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
	return user, id, ok && chat.ValidUserID(user) && chat.ValidID(id)
}

func (c *Authenticator) key(ctx context.Context, token string) (access.Principal, error) {
	user, id, ok := parseKey(token)
	if !ok {
		return access.Principal{}, unauthenticated()
	}
	k, err := c.Keys.Key(ctx, user, id)
	if fault.Is(err, fault.NotFound) {
		k, err = access.Key{}, nil // compared all the same: the time must not depend on it
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
