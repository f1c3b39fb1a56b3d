package identity_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"parley/adapters/identity"
	"parley/domain/access"
	"parley/domain/fault"
)

// golden is what the real packages issued; see testdata/vectors.mjs.
type golden struct {
	Now     int64
	Secrets []string // A, B and one that is not configured
	Cookies map[string]string
	Tokens  map[string]string
}

func vectors(t testing.TB) golden {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g golden) clock() time.Time { return time.Unix(g.Now, 0) }

func (g golden) verifier(t testing.TB, secrets ...string) *identity.Verifier {
	t.Helper()
	v, err := identity.New(secrets, g.clock)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func whole(name, token string) []access.Cookie { return []access.Cookie{{Name: name, Value: token}} }

func pieces(name, token string, size int) (out []access.Cookie) {
	for i := 0; i*size < len(token); i++ {
		out = append(out, access.Cookie{
			Name: fmt.Sprintf("%s.%d", name, i), Value: token[i*size : min((i+1)*size, len(token))],
		})
	}
	return out
}

func reversed(c []access.Cookie) []access.Cookie {
	c = slices.Clone(c)
	slices.Reverse(c)
	return c
}

func TestIdentify_Cookie(t *testing.T) {
	g := vectors(t)
	a, b := g.Secrets[0], g.Secrets[1]
	for cookieFormat, name := range g.Cookies {
		get := func(what string) string { return g.Tokens[cookieFormat+"/"+what] }
		size := 3936
		if strings.HasPrefix(cookieFormat, "v4") {
			size = 3933
		}
		long := pieces(name, get("long"), size)
		if len(long) < 4 {
			t.Fatalf("%s: the long token has %d pieces", cookieFormat, len(long))
		}
		eleven := pieces(name, get("long"), len(get("long"))/11+1)
		if len(eleven) != 11 {
			t.Fatalf("%s: %d pieces", cookieFormat, len(eleven))
		}
		for _, tt := range []struct {
			name    string
			secrets []string
			cookies []access.Cookie
			want    string // user; "" for a refusal
		}{
			{"Plain", []string{a}, whole(name, get("plain")), "user-1"},
			{"AmongOthers", []string{a}, append([]access.Cookie{{Name: "theme", Value: "dark"}}, whole(name, get("plain"))...), "user-1"},
			{"NewSecret", []string{a, b}, whole(name, get("plain")), "user-1"},
			{"OldSecret", []string{b, a}, whole(name, get("plain")), "user-1"},
			{"ForgottenSecret", []string{b}, whole(name, get("plain")), ""},
			{"UnknownSecret", []string{a, b}, whole(name, get("another secret")), ""},
			{"Expired10s", []string{a}, whole(name, get("expired 10 s ago")), "user-1"},
			{"Expired60s", []string{a}, whole(name, get("expired 60 s ago")), ""},
			{"IDInsteadOfSub", []string{a}, whole(name, get("id instead of sub")), "user-2"},
			{"NeitherSubNorID", []string{a}, whole(name, get("neither sub nor id")), ""},
			{"SubIsNoText", []string{a}, whole(name, get("sub is no text")), ""},
			{"Pieces", []string{a}, long, "user-3"},
			{"PiecesReversed", []string{a}, reversed(long), "user-3"},
			{"ElevenPiecesReversed", []string{a}, reversed(eleven), "user-3"},
			{"Gap", []string{a}, slices.Delete(slices.Clone(long), 1, 2), ""},
			{"FirstMissing", []string{a}, long[1:], ""},
			{"LastMissing", []string{a}, long[:len(long)-1], ""},
			{"StaleTail", []string{a}, append(pieces(name, get("plain"), 400), long[2:]...), "user-1"},
			{"WholeBesideStalePieces", []string{a}, append(slices.Clone(long[1:]), whole(name, get("plain"))...), "user-1"},
			{"PiecesBesideStaleWhole", []string{a}, append(whole(name, get("another secret")), long...), "user-3"},
			{"FirstOfTheSameName", []string{a}, append(whole(name, get("plain")), whole(name, get("id instead of sub"))...), "user-1"},
			{"EmptyIsAbsent", []string{a}, append(whole(name, ""), whole(name, get("plain"))...), "user-1"},
			{"AnotherSuffix", []string{a}, whole(name+".backup", get("plain")), ""},
			{"SignedSuffix", []string{a}, whole(name+".+0", get("plain")), ""},
			{"AnotherPrefix", []string{a}, whole("x"+name, get("plain")), ""},
			{"LeadingZero", []string{a}, whole(name+".00", get("plain")), ""},
			{"CutShort", []string{a}, whole(name, get("plain")[:len(get("plain"))-1]), ""},
			{"Altered", []string{a}, whole(name, strings.Replace(get("plain"), "..", "..A", 1)), ""},
		} {
			t.Run(cookieFormat+"/"+tt.name, func(t *testing.T) {
				p, err := g.verifier(t, tt.secrets...).Identify(context.Background(), access.Credential{Cookies: tt.cookies})
				if tt.want == "" {
					if !fault.Is(err, fault.Unauthenticated) || p.Known() {
						t.Fatalf("got %+v, %v; want a refusal", p, err)
					}
					return
				}
				want := access.Principal{UserID: tt.want, Tier: access.Authenticated, Via: access.ViaCookie, IssuedAt: g.clock().UTC()}
				if strings.HasPrefix(tt.name, "Expired") {
					want.IssuedAt = time.Time{} // a test's token that ended before it began
				}
				if diff := cmp.Diff(want, p); err != nil || diff != "" {
					t.Fatalf("%v\n%s", err, diff)
				}
			})
		}
	}
}

func TestIdentify_CookieOfAnotherName(t *testing.T) {
	g := vectors(t)
	for _, tt := range []struct{ made, sent string }{{"v5", "v5s"}, {"v5s", "v5"}, {"v5", "v4"}, {"v4", "v5"}} {
		v := g.verifier(t, g.Secrets[0])
		p, err := v.Identify(context.Background(), access.Credential{Cookies: whole(g.Cookies[tt.sent], g.Tokens[tt.made+"/plain"])})
		if !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("a %s token as %s: %+v, %v", tt.made, tt.sent, p, err)
		}
	}
	// One key serves both names of next-auth v4.
	v := g.verifier(t, g.Secrets[0])
	if _, err := v.Identify(context.Background(), access.Credential{Cookies: whole(g.Cookies["v4s"], g.Tokens["v4/plain"])}); err != nil {
		t.Error(err)
	}
}

func TestIdentify_SeveralCookies(t *testing.T) {
	g := vectors(t)
	v := g.verifier(t, g.Secrets[0])
	for _, tt := range []struct {
		name    string
		cookies []access.Cookie
		want    string
	}{
		{"TheNewerVersionWins", append(whole(g.Cookies["v4"], g.Tokens["v4/plain"]), whole(g.Cookies["v5"], g.Tokens["v5/id instead of sub"])...), "user-2"},
		{"ABrokenOneIsPassedOver", append(whole(g.Cookies["v5"], "garbage"), whole(g.Cookies["v4"], g.Tokens["v4/plain"])...), "user-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := v.Identify(context.Background(), access.Credential{Cookies: tt.cookies})
			if err != nil || p.UserID != tt.want {
				t.Fatalf("%+v, %v", p, err)
			}
		})
	}
}

func TestIdentify_Bearer(t *testing.T) {
	g := vectors(t)
	a, b, c := g.Secrets[0], g.Secrets[1], g.Secrets[2]
	grant := identity.Grant{UserID: "user-9", Tier: access.Admin, TTL: time.Hour, Now: g.clock(), SessionVersion: 3}
	mint := func(secret string, change func(*identity.Grant)) string {
		g := grant
		if change != nil {
			change(&g)
		}
		token, err := identity.Mint(secret, g)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	own := access.Principal{UserID: "user-9", Tier: access.Admin, Via: access.ViaBearer, SessionVersion: 3, IssuedAt: g.clock().UTC()}
	session := access.Principal{UserID: "user-1", Tier: access.Authenticated, Via: access.ViaBearer, IssuedAt: g.clock().UTC()}
	plain := own
	plain.Tier, plain.SessionVersion = access.Authenticated, 0
	for _, tt := range []struct {
		name, token string
		want        access.Principal
	}{
		{"Own", mint(a, nil), own},
		{"OwnByOldSecret", mint(b, nil), own},
		{"OwnByUnknownSecret", mint(c, nil), access.Principal{}},
		{"OwnDefaultTier", mint(a, func(g *identity.Grant) { g.Tier, g.SessionVersion = "", 0 }), plain},
		{"OwnJustExpired", mint(a, func(g *identity.Grant) { g.Now = g.Now.Add(-time.Hour - 10*time.Second) }),
			func() access.Principal { p := own; p.IssuedAt = p.IssuedAt.Add(-time.Hour - 10*time.Second); return p }()},
		{"OwnExpired", mint(a, func(g *identity.Grant) { g.Now = g.Now.Add(-time.Hour - time.Minute) }), access.Principal{}},
		{"OwnUnsigned", unsigned(mint(a, nil)), access.Principal{}},
		{"OwnAltered", altered(mint(a, nil)), access.Principal{}},
		{"SessionV5", g.Tokens["v5/plain"], session},
		{"SessionV5Secure", g.Tokens["v5s/plain"], session},
		{"SessionV4", g.Tokens["v4/plain"], session},
		{"SessionURLEncoded", strings.ReplaceAll(url.QueryEscape(g.Tokens["v5/plain"]), ".", "%2E"), session},
		{"SessionByUnknownSecret", g.Tokens["v5/another secret"], access.Principal{}},
		{"SessionExpired", g.Tokens["v5/expired 60 s ago"], access.Principal{}},
		{"BadPercentEncoding", "%E0%A4%A", access.Principal{}},
		{"Garbage", "' OR 1=1 --", access.Principal{}},
		{"TooLong", strings.Repeat("a", 20<<10), access.Principal{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := g.verifier(t, a, b).Identify(context.Background(), access.Credential{Bearer: tt.token})
			if diff := cmp.Diff(tt.want, p); diff != "" || tt.want.Known() != (err == nil) {
				t.Fatalf("%v\n%s", err, diff)
			}
			if err != nil && !fault.Is(err, fault.Unauthenticated) {
				t.Fatalf("kind of %v", err)
			}
		})
	}
}

// unsigned turns a signed token into one that claims to need no signature.
func unsigned(token string) string {
	parts := strings.Split(token, ".")
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
}

func altered(token string) string {
	parts := strings.Split(token, ".")
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(claims), "user-9", "user-1", 1)))
	return strings.Join(parts, ".")
}

func TestIdentify_ExactlyOneCredential(t *testing.T) {
	g := vectors(t)
	v := g.verifier(t, g.Secrets[0])
	session := whole(g.Cookies["v5"], g.Tokens["v5/plain"])
	for _, tt := range []struct {
		name string
		c    access.Credential
		want fault.Kind
	}{
		{"None", access.Credential{}, fault.Unauthenticated},
		{"OtherCookiesOnly", access.Credential{Cookies: whole("theme", "dark")}, fault.Unauthenticated},
		{"Both", access.Credential{Cookies: session, Bearer: g.Tokens["v5/plain"]}, fault.Invalid},
		{"BothBroken", access.Credential{Cookies: whole(g.Cookies["v5"]+".7", "x"), Bearer: "x"}, fault.Invalid},
		{"BearerBesideOtherCookies", access.Credential{Cookies: whole("theme", "dark"), Bearer: g.Tokens["v5/plain"]}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := v.Identify(context.Background(), tt.c); fault.KindOf(err) != tt.want {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestIdentify_HostileHeaders holds that what could cost much is refused
// without being decrypted, decompressed or derived.
func TestIdentify_HostileHeaders(t *testing.T) {
	g := vectors(t)
	v := g.verifier(t, g.Secrets[0])
	_, rest, _ := strings.Cut(g.Tokens["v5/plain"], ".")
	head := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) + "." + rest }
	bomb := func() string {
		encrypter, err := jose.NewEncrypter(jose.A256CBC_HS512, jose.Recipient{Algorithm: jose.DIRECT, Key: make([]byte, 64)},
			&jose.EncrypterOptions{Compression: jose.DEFLATE})
		if err != nil {
			t.Fatal(err)
		}
		object, err := encrypter.Encrypt(make([]byte, 4<<20))
		if err != nil {
			t.Fatal(err)
		}
		token, err := object.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for name, token := range map[string]string{
		"Zip":            head(`{"alg":"dir","enc":"A256CBC-HS512","zip":"DEF"}`),
		"RealBomb":       bomb(),
		"PBES2":          head(`{"alg":"PBES2-HS256+A128KW","enc":"A256CBC-HS512","p2c":2147483647,"p2s":"AAAAAAAAAAA"}`),
		"DirWithP2C":     head(`{"alg":"dir","enc":"A256CBC-HS512","p2c":2147483647}`),
		"KeyWrap":        head(`{"alg":"A256KW","enc":"A256GCM"}`),
		"AnotherEnc":     head(`{"alg":"dir","enc":"A128CBC-HS256"}`),
		"Critical":       head(`{"alg":"dir","enc":"A256CBC-HS512","crit":["exp"]}`),
		"EmbeddedKey":    head(`{"alg":"dir","enc":"A256CBC-HS512","jwk":{"kty":"oct","k":"AA"}}`),
		"AlgTwice":       head(`{"alg":"dir","alg":"PBES2-HS256+A128KW","enc":"A256CBC-HS512"}`),
		"KidIsNoText":    head(`{"alg":"dir","enc":"A256CBC-HS512","kid":1}`),
		"UpperCase":      head(`{"ALG":"dir","ENC":"A256CBC-HS512"}`),
		"NoHeader":       "." + rest,
		"HeaderNull":     head(`null`),
		"HeaderHuge":     head(`{"alg":"dir","enc":"A256CBC-HS512","kid":"` + strings.Repeat("k", 2000) + `"}`),
		"WithWrappedKey": strings.Replace(g.Tokens["v5/plain"], "..", ".AAAA.", 1),
		"SixParts":       g.Tokens["v5/plain"] + ".AAAA",
		"TooLong":        g.Tokens["v5/too long"],
		"JSON":           `{"protected":"","ciphertext":""}`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range []access.Credential{
				{Cookies: whole(g.Cookies["v5"], token)},
				{Cookies: pieces(g.Cookies["v5"], token, 3936)},
				{Bearer: token},
			} {
				if p, err := v.Identify(context.Background(), c); !fault.Is(err, fault.Unauthenticated) {
					t.Fatalf("got %+v, %v", p, err)
				}
				if n := testing.AllocsPerRun(5, func() { _, _ = v.Identify(context.Background(), c) }); n > 200 {
					t.Errorf("a refusal costs %.0f allocations", n)
				}
			}
		})
	}
}

func TestMintCookie(t *testing.T) {
	g := vectors(t)
	a, b := g.Secrets[0], g.Secrets[1]
	for _, name := range []string{identity.CookieV5, identity.CookieV5Secure} {
		value, err := identity.MintCookie(a, name, identity.Grant{UserID: "user-1", TTL: time.Hour, Now: g.clock()})
		if err != nil {
			t.Fatal(err)
		}
		// The protected header is what the real package writes, key id included.
		cookieFormat := map[string]string{identity.CookieV5: "v5", identity.CookieV5Secure: "v5s"}[name]
		ours, theirs := decodeHeader(t, value), decodeHeader(t, g.Tokens[cookieFormat+"/plain"])
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Errorf("header of %s:\n%s", name, diff)
		}
		p, err := g.verifier(t, b, a).Identify(context.Background(), access.Credential{Cookies: whole(name, value)})
		if err != nil || p.UserID != "user-1" || p.Tier != access.Authenticated {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func decodeHeader(t *testing.T, token string) (h map[string]string) {
	t.Helper()
	encoded, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestMint_Refuses(t *testing.T) {
	good := identity.Grant{UserID: "u", TTL: time.Hour, Now: time.Now()}
	for name, change := range map[string]func(*identity.Grant){
		"NoUser":      func(g *identity.Grant) { g.UserID = "" },
		"LongUser":    func(g *identity.Grant) { g.UserID = strings.Repeat("u", 256) },
		"NULUser":     func(g *identity.Grant) { g.UserID = "a\x00b" },
		"NoTime":      func(g *identity.Grant) { g.TTL = 0 },
		"UnknownTier": func(g *identity.Grant) { g.Tier = "root" },
	} {
		t.Run(name, func(t *testing.T) {
			g := good
			change(&g)
			if token, err := identity.Mint("secret", g); err == nil {
				t.Errorf("token %s", token)
			}
			if value, err := identity.MintCookie("secret", identity.CookieV5, g); err == nil {
				t.Errorf("cookie %s", value)
			}
		})
	}
	if _, err := identity.MintCookie("secret", "session", good); err == nil {
		t.Error("any cookie name goes")
	}
	if _, err := identity.New(nil, time.Now); err == nil {
		t.Error("no secret is enough")
	}
	if _, err := identity.New([]string{"a", ""}, time.Now); err == nil {
		t.Error("an empty secret is enough")
	}
}

// FuzzIdentify_Cookie: no content of a cookie authenticates a caller, or
// breaks the decoder.
func FuzzIdentify_Cookie(f *testing.F) {
	g := vectors(f)
	v := g.verifier(f, g.Secrets[1]) // no token of the corpus is made with it
	for _, token := range g.Tokens {
		f.Add("", token, ".1", "tail")
	}
	f.Add(".0", "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0", ".1", "..AAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA")
	f.Add(".99", "..", ".+1", "....")
	f.Fuzz(func(t *testing.T, suffix1, value1, suffix2, value2 string) {
		for _, name := range g.Cookies {
			p, err := v.Identify(context.Background(), access.Credential{Cookies: []access.Cookie{
				{Name: name + suffix1, Value: value1}, {Name: name + suffix2, Value: value2},
			}})
			if !fault.Is(err, fault.Unauthenticated) || p.Known() {
				t.Fatalf("%q=%q %q=%q: %+v, %v", suffix1, value1, suffix2, value2, p, err)
			}
		}
		if p, err := v.Identify(context.Background(), access.Credential{Bearer: value1}); err == nil || p.Known() {
			t.Fatalf("bearer %q: %+v", value1, p)
		}
	})
}

func BenchmarkIdentify(b *testing.B) {
	g := vectors(b)
	v := g.verifier(b, g.Secrets[0])
	c := access.Credential{Cookies: whole(g.Cookies["v5"], g.Tokens["v5/plain"])}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Identify(context.Background(), c); err != nil {
			b.Fatal(err)
		}
	}
}
