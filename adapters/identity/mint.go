package identity

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"parley/domain/access"
	"parley/domain/chat"
)

// issuer is the issuer of Parley's own tokens.
const issuer = "parley"

// Grant is the content of a token.
type Grant struct {
	UserID         string
	Tier           access.Tier   // "": authenticated; a cookie always means authenticated
	TTL            time.Duration // until it expires
	Now            time.Time
	SessionVersion int // tokens below the user's version are refused
}

// Mint returns a bearer token for Parley, made with the current secret.
func Mint(secret string, g Grant) (string, error) {
	if err := g.validate(); err != nil {
		return "", err
	}
	k, err := derive(secret)
	if err != nil {
		return "", err
	}
	if g.Tier == "" {
		g.Tier = access.Authenticated
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: k.signing}, nil)
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	claims, err := json.Marshal(map[string]any{
		"iss": issuer, "sub": g.UserID, "tier": g.Tier,
		"iat": numericDate(g.Now), "exp": g.Now.Add(g.TTL).Unix(), "sv": g.SessionVersion,
	})
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	return signed.CompactSerialize()
}

// MintCookie returns the value of an Auth.js v5 session cookie. name is
// CookieV5 or CookieV5Secure; the value is accepted under that name only.
func MintCookie(secret, name string, g Grant) (string, error) {
	if err := g.validate(); err != nil {
		return "", err
	}
	if name != CookieV5 && name != CookieV5Secure {
		return "", fmt.Errorf("mint cookie: %q is not the name of an Auth.js v5 session", name)
	}
	k, err := derive(secret)
	if err != nil {
		return "", err
	}
	s := k.encryption[name][0]
	encrypter, err := jose.NewEncrypter(s.enc, jose.Recipient{Algorithm: jose.DIRECT, Key: s.key, KeyID: s.kid}, nil)
	if err != nil {
		return "", fmt.Errorf("mint cookie: %w", err)
	}
	claims, err := json.Marshal(map[string]any{
		"sub": g.UserID, "iat": numericDate(g.Now), "exp": g.Now.Add(g.TTL).Unix(), "jti": rand.Text(),
	})
	if err != nil {
		return "", fmt.Errorf("mint cookie: %w", err)
	}
	token, err := encrypter.Encrypt(claims)
	if err != nil {
		return "", fmt.Errorf("mint cookie: %w", err)
	}
	return token.CompactSerialize()
}

// numericDate is a JSON Web Token's time with microseconds, so that a token that is
// minted right after a revocation does not count as issued before it.
func numericDate(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func (g Grant) validate() error {
	switch {
	case !chat.ValidUserID(g.UserID):
		return fmt.Errorf("mint: a user id has 1 to %d bytes of text", chat.MaxUserID)
	case g.TTL <= 0:
		return errors.New("mint: the time to live must be positive")
	}
	if _, ok := access.ParseTier(string(g.Tier)); !ok && g.Tier != "" {
		return fmt.Errorf("mint: unknown tier %q", g.Tier)
	}
	return nil
}
