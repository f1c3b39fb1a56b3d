package identity

import (
	"slices"
	"strconv"
	"strings"

	"parley/domain/access"
)

// session is what a request's cookies of one name may mean: usually one token,
// two when a whole cookie stands beside the pieces of another.
type session struct {
	flavour flavour
	tokens  []string
}

// collect finds the session cookies among a request's. Any of them counts as a
// credential, however broken.
func collect(cookies []access.Cookie) []session {
	var found []session
	for _, f := range flavours {
		if tokens, any := f.tokens(cookies); any {
			found = append(found, session{f, tokens})
		}
	}
	return found
}

// tokens returns the candidates among cookies of exactly this name, or this
// name and a number: long sessions are cut into pieces. any is true if there
// was such a cookie at all.
func (f flavour) tokens(cookies []access.Cookie) (tokens []string, any bool) {
	type piece struct {
		number int
		value  string
	}
	var pieces []piece
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
		if n, ok := pieceNumber(rest); ok {
			any = true
			pieces = append(pieces, piece{n, c.Value})
		}
	}
	slices.SortStableFunc(pieces, func(a, b piece) int { return a.number - b.number })
	pieces = slices.CompactFunc(pieces, func(a, b piece) bool { return a.number == b.number })

	var token strings.Builder
	for i, p := range pieces {
		if p.number != i || token.Len()+len(p.value) > maxToken {
			break
		}
		token.WriteString(p.value)
		// A session that got shorter leaves its old tail in the browser: the
		// token ends where its authentication tag is complete.
		if complete(token.String()) {
			return append(tokens, token.String()), any
		}
	}
	return tokens, any
}

// pieceNumber reads ".0" to ".99".
func pieceNumber(suffix string) (int, bool) {
	digits, ok := strings.CutPrefix(suffix, ".")
	if !ok || len(digits) == 0 || len(digits) > 2 || len(digits) == 2 && digits[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 8)
	return int(n), err == nil
}

// complete reports whether token is an encrypted session to its last byte.
func complete(token string) bool {
	h, ok := sealed(token)
	return ok && len(token)-strings.LastIndexByte(token, '.')-1 == tagLength(h.enc)
}
