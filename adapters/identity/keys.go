package identity

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// cookieFormat is a kind of session cookie. The key of an Auth.js v5 token is
// derived from the cookie's name.
type cookieFormat struct {
	cookie string
	v5     bool
}

// Names of session cookies. Browsers send the __Secure- ones over https only.
const (
	CookieV5       = "authjs.session-token"
	CookieV5Secure = "__Secure-authjs.session-token"
	cookieV4       = "next-auth.session-token"
	cookieV4Secure = "__Secure-next-auth.session-token"
)

// cookieFormats are in the order in which they are tried: an app that was upgraded
// may have left its old cookie in the browser.
var cookieFormats = []cookieFormat{{CookieV5Secure, true}, {CookieV5, true}, {cookieV4Secure, false}, {cookieV4, false}}

// encryption is a key of session tokens and the algorithm that it is for.
type encryption struct {
	enc jose.ContentEncryption
	key []byte
	kid string // its thumbprint, as Auth.js v5 names it; "" for next-auth v4
}

// keys are derived from one secret.
type keys struct {
	encryption map[string][]encryption // by cookie name
	signing    []byte                  // of Parley's own tokens
}

func derive(secret string) (keys, error) {
	if secret == "" {
		return keys{}, fmt.Errorf("identity: empty secret")
	}
	k := keys{encryption: map[string][]encryption{}}
	var err error
	expand := func(salt, info string, size int) []byte {
		key, failed := hkdf.Key(sha256.New, []byte(secret), []byte(salt), info, size)
		if failed != nil {
			err = fmt.Errorf("identity: derive key: %w", failed)
		}
		return key
	}
	for _, f := range cookieFormats {
		if !f.v5 {
			k.encryption[f.cookie] = []encryption{{jose.A256GCM, expand("", "NextAuth.js Generated Encryption Key", 32), ""}}
			continue
		}
		info := "Auth.js Generated Encryption Key (" + f.cookie + ")"
		long, short := expand(f.cookie, info, 64), expand(f.cookie, info, 32)
		k.encryption[f.cookie] = []encryption{
			{jose.A256CBC_HS512, long, thumbprint(long)},
			{jose.A256GCM, short, thumbprint(short)},
		}
	}
	k.signing = expand("", "Parley Bearer Token Signing Key", 32)
	return k, err
}

// thumbprint is the RFC 7638 thumbprint of a symmetric key, with the hash that
// is as long as the key, as Auth.js makes it.
func thumbprint(key []byte) string {
	jwk := []byte(`{"k":"` + base64.RawURLEncoding.EncodeToString(key) + `","kty":"oct"}`)
	if len(key) == sha256.Size {
		sum := sha256.Sum256(jwk)
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	sum := sha512.Sum512(jwk)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
