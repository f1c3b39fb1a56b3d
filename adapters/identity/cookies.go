package identity

import (
	"slices"
	"strconv"
	"strings"

	"parley/domain/access"
)

// session holds the tokens that a request's cookies of one name may mean: usually
// one, two when a whole cookie comes together with the chunks of another.
type session struct {
	cookieFormat cookieFormat
	tokens       []string
}

// sessionCookies returns the session cookies of a request. Each counts as a
// credential, even if it is malformed.
func sessionCookies(cookies []access.Cookie) []session {
	var found []session
	for _, f := range cookieFormats {
		if tokens, any := f.tokens(cookies); any {
			found = append(found, session{f, tokens})
		}
	}
	return found
}

// tokens returns the candidates among cookies of exactly this name, or this
// name and a number: Auth.js cuts long sessions into chunks. any is true if
// there was such a cookie.
func (f cookieFormat) tokens(cookies []access.Cookie) (tokens []string, any bool) {
	type chunk struct {
		number int
		value  string
	}
	var chunks []chunk
	for _, c := range cookies {
		rest, ok := strings.CutPrefix(c.Name, f.cookie)
		if !ok || c.Value == "" {
			continue
		}
		if rest == "" {
			any = true
			if len(tokens) == 0 { // of several with one name the first is the most specific
				tokens = append(tokens, c.Value)
			}
			continue
		}
		if n, ok := chunkNumber(rest); ok {
			any = true
			chunks = append(chunks, chunk{n, c.Value})
		}
	}
	slices.SortStableFunc(chunks, func(a, b chunk) int { return a.number - b.number })
	chunks = slices.CompactFunc(chunks, func(a, b chunk) bool { return a.number == b.number })

	var token strings.Builder
	for i, p := range chunks {
		if p.number != i || token.Len()+len(p.value) > maxToken {
			break
		}
		token.WriteString(p.value)
		// A session that became shorter leaves its last chunks in the browser: the
		// token ends where its authentication tag is complete.
		if complete(token.String()) {
			return append(tokens, token.String()), any
		}
	}
	return tokens, any
}

// chunkNumber reads ".0" to ".99".
func chunkNumber(suffix string) (int, bool) {
	digits, ok := strings.CutPrefix(suffix, ".")
	if !ok || len(digits) == 0 || len(digits) > 2 || len(digits) == 2 && digits[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 8)
	return int(n), err == nil
}

// complete reports whether token has the length of a whole encrypted session.
func complete(token string) bool {
	h, ok := encryptedHeader(token)
	return ok && len(token)-strings.LastIndexByte(token, '.')-1 == tagLength(h.enc)
}
