package identity

import (
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// payload is the content of a token that was made with one of our secrets.
type payload struct {
	claims []byte
	own    bool // Parley's own token, not an app's session
}

// header is the protected header of a token. It may have no other members: no
// compression, no key derived from a password, no critical extension.
type header struct {
	alg, enc, kid string
	hasKid        bool
}

// readHeader parses the header of a token, and refuses one that neither Auth.js nor
// Parley makes before anything is decrypted.
func readHeader(token string) (h header, ok bool) {
	const longest = 1024
	encoded, _, _ := strings.Cut(token, ".")
	if len(encoded) > longest {
		return header{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return header{}, false
	}
	var members map[string]string // every member that we accept is a string
	if json.Unmarshal(raw, &members) != nil {
		return header{}, false
	}
	for name, value := range members {
		switch name {
		case "alg":
			h.alg = value
		case "enc":
			h.enc = value
		case "kid":
			h.kid, h.hasKid = value, true
		case "typ", "cty":
		default:
			return header{}, false
		}
	}
	return h, true
}

// encryptedHeader parses the header of an encrypted session: a token of five parts
// with a direct key (so the second is empty) and one of the two content
// encryptions.
func encryptedHeader(token string) (h header, ok bool) {
	if len(token) > maxToken || strings.Count(token, ".") != 4 {
		return header{}, false
	}
	_, rest, _ := strings.Cut(token, ".")
	if !strings.HasPrefix(rest, ".") {
		return header{}, false
	}
	h, ok = readHeader(token)
	return h, ok && h.alg == string(jose.DIRECT) && tagLength(h.enc) > 0
}

// tagLength is the encoded length of a token's last part; 0 for a content
// encryption that is not accepted.
func tagLength(enc string) int {
	switch jose.ContentEncryption(enc) {
	case jose.A256CBC_HS512:
		return base64.RawURLEncoding.EncodedLen(32)
	case jose.A256GCM:
		return base64.RawURLEncoding.EncodedLen(16)
	}
	return 0
}

// open decrypts a session token of one format.
func (v *Verifier) open(token string, f cookieFormat) (payload, bool) {
	h, ok := encryptedHeader(token)
	if !ok {
		return payload{}, false
	}
	enc := jose.ContentEncryption(h.enc)
	var parsed *jose.JSONWebEncryption
	for i, k := range v.keys {
		for _, s := range k.encryption[f.cookie] {
			// Auth.js v5 names its key; without a name it means the first
			// secret. next-auth v4 names none, so each is tried.
			if s.enc != enc || h.hasKid && s.kid != h.kid || !h.hasKid && f.v5 && i > 0 {
				continue
			}
			if parsed == nil {
				var err error
				parsed, err = jose.ParseEncryptedCompact(token,
					[]jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256CBC_HS512, jose.A256GCM})
				if err != nil {
					return payload{}, false
				}
			}
			if claims, err := parsed.Decrypt(s.key); err == nil {
				return payload{claims: claims}, true
			}
		}
	}
	return payload{}, false
}

// verify checks the signature of one of Parley's own tokens.
func (v *Verifier) verify(token string) (payload, bool) {
	if h, ok := readHeader(token); !ok || h.alg != string(jose.HS256) {
		return payload{}, false
	}
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return payload{}, false
	}
	for _, k := range v.keys {
		if claims, err := parsed.Verify(k.signing); err == nil {
			return payload{claims: claims, own: true}, true
		}
	}
	return payload{}, false
}
