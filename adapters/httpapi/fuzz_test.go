package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"parley/domain/access"
	"parley/ports"
)

var (
	fuzzRequests = flag.Int("requests", 3000, "how many requests TestFuzz makes")
	fuzzSeed     = flag.Uint64("seed", 0, "where TestFuzz begins; 0: anywhere")
)

// fuzzer makes requests of the description: what it says may be sent, what is
// just outside of that, and what nobody should send.
type fuzzer struct {
	b     *bench
	d     described
	users []string
	calls []fuzzCall
	done  atomic.Int64

	mu    sync.Mutex
	ids   map[string][]string    // by user and kind: what answers have named
	keys  map[string]string      // by user and scope: API keys
	tally map[string]map[int]int // by operation: how it was answered
}

type fuzzCall struct {
	method, path string
	op           *openapi3.Operation
}

// TestFuzz: whatever is sent, the only statuses 5xx are those of a provider that
// was told to fail, every answer is as described, no user reads a byte of
// another's, and the process lives. make fuzz sends more.
func TestFuzz(t *testing.T) {
	seed := *fuzzSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	f := &fuzzer{
		b: setup(t, func(s *settings) {
			s.limits = access.Limits{access.Authenticated: 1 << 30, access.Anonymous: 1 << 30, access.APIKey: 1 << 30}
		}), d: description(t),
		users: []string{"fuzz-amber", "fuzz-birch", "fuzz-cedar", "fuzz-dahlia"}, ids: map[string][]string{}, keys: map[string]string{}, tally: map[string]map[int]int{},
	}
	for _, path := range slices.Sorted(maps.Keys(f.d.Paths.Map())) {
		operations := f.d.Paths.Find(path).Operations()
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			f.calls = append(f.calls, fuzzCall{method, path, operations[method]})
		}
	}
	if testing.Short() {
		*fuzzRequests = min(*fuzzRequests, 200)
	}
	begun := time.Now()
	var workers sync.WaitGroup
	for worker := range f.users { // each plays all users
		workers.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(worker)))
			for i := 0; f.more() && !t.Failed(); i++ {
				if err := f.step(r); err != nil {
					t.Errorf("worker %d, request %d: %v", worker, i, err)
				}
			}
		})
	}
	workers.Wait()
	took := time.Since(begun)
	t.Logf("%d requests in %v: %.0f/s", f.done.Load(), took.Round(time.Millisecond), float64(f.done.Load())/took.Seconds())
	for _, call := range f.calls {
		t.Logf("%-34s %v", call.op.OperationID, f.tally[call.op.OperationID])
	}
	if never := f.neverSucceeded(); len(never) > 0 && *fuzzRequests >= 2000 {
		t.Errorf("%v never succeeded: the fuzzer does not get past their checks", never)
	}
	f.b.alive()
}

// more tells whether another request is to be made: as many as are wanted and, since
// what an operation needs may be rare by chance, some more until each has succeeded.
func (f *fuzzer) more() bool {
	n, wanted := f.done.Add(1), int64(*fuzzRequests)
	return n <= wanted || wanted >= 2000 && n <= 5*wanted && len(f.neverSucceeded()) > 0
}

// neverSucceeded returns the operations that have only been refused so far, but for those
// that seldom can succeed.
func (f *fuzzer) neverSucceeded() (ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, call := range f.calls {
		// Few accounts are deleted, and few replies stopped before their end.
		rare := call.path == "/api/chat/account" || strings.HasSuffix(call.path, "/continue") || strings.HasSuffix(call.path, "/complete") ||
			strings.HasSuffix(call.path, "{token}/files/{id}") || // few files are in a shared branch
			strings.Contains(call.path, "share") && *fuzzRequests < 20_000 // few conversations that can be shared live long
		succeeded := false
		for status := range f.tally[call.op.OperationID] {
			succeeded = succeeded || status/100 == 2
		}
		if !rare && !succeeded {
			ids = append(ids, call.op.OperationID)
		}
	}
	return ids
}

// canary is in every text that a user sends.
func canary(user string) string { return "canary<" + user + ">" }

// step makes one request and judges the answer.
func (f *fuzzer) step(r *rand.Rand) error {
	call := f.calls[r.IntN(len(f.calls))]
	if call.path == "/api/chat/account" && r.IntN(20) > 0 || call.path == "/api/chat/live" && r.IntN(10) > 0 {
		call = f.calls[r.IntN(len(f.calls))]
	}
	user := f.users[r.IntN(len(f.users))]
	g := &generator{Rand: r, f: f, user: user, hostile: r.IntN(5) < 2}
	req, shown := g.request(call)
	timeout := 30 * time.Second
	if call.path == "/api/chat/live" {
		timeout = 50 * time.Millisecond // it has no end
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	res, err := f.b.server.Client().Do(req.WithContext(ctx))
	if errors.Is(err, context.DeadlineExceeded) && call.path == "/api/chat/live" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, shown)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) && strings.HasPrefix(call.path, "/api/chat/text") {
		return nil // plain text can tell of a reply's failure in no other way
	}
	if err != nil && (call.path != "/api/chat/live" || !errors.Is(err, context.DeadlineExceeded)) {
		return fmt.Errorf("%w\n%s", err, shown)
	}
	if call.path == "/api/chat/live" && res.StatusCode == 200 {
		complete := strings.LastIndex(string(raw), "\n\n")
		raw = raw[:complete+1]
	}
	if g.key != "" && res.StatusCode == http.StatusUnauthorized {
		f.forgetKeys(user) // the account was deleted, and they with it
	}
	if err := f.judge(call, g, res, raw); err != nil {
		return fmt.Errorf("%w\n%s\nanswer: %d %.2000s", err, shown, res.StatusCode, raw)
	}
	f.note(call, user, res.StatusCode, raw)
	return nil
}

func (f *fuzzer) judge(call fuzzCall, g *generator, res *http.Response, raw []byte) error {
	var refusal struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	if res.StatusCode >= 500 {
		_ = json.Unmarshal(raw, &refusal)
		if code := refusal.Error.Code; code != "AI_FAILED" && code != "QUEUE_FULL" {
			var why []error
			for _, failed := range seen[ports.RequestFailed](f.b) {
				why = append(why, failed.Err)
			}
			return fmt.Errorf("status %d %s: %w", res.StatusCode, code, errors.Join(why...))
		}
	}
	if reads := call.method == http.MethodGet; g.scope == access.ChatRead && !reads && res.StatusCode/100 == 2 ||
		g.scope == access.ChatWrite && reads && len(*call.op.Security) > 0 && res.StatusCode/100 == 2 {
		return fmt.Errorf("a key for %s was let through", g.scope)
	}
	asked := call.path
	if p := res.Request.URL.EscapedPath(); path.Clean(p) != p { // no route has such an address
		asked = "/"
	}
	if err := f.d.disagrees(call.method, asked, res.StatusCode, res.Header, raw); err != nil {
		return err
	}
	if strings.HasPrefix(call.path, "/api/share/") { // who has a token may read what is shared
		return nil
	}
	// JSON writes < as \u003c, in canaries too; the name alone is telling.
	for _, other := range f.users {
		if other != g.user && strings.Contains(string(raw), other) {
			return fmt.Errorf("%s is answered with something of %s", g.user, other)
		}
	}
	return nil
}

// note keeps the ids that an answer names, for later requests.
func (f *fuzzer) note(call fuzzCall, user string, status int, raw []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tally[call.op.OperationID] == nil {
		f.tally[call.op.OperationID] = map[int]int{}
	}
	f.tally[call.op.OperationID][status]++
	for member, kind := range map[string]string{`"id":"`: "message", `"runId":"`: "message", `"conversationId":"`: "conversation", `"token":"`: "token"} {
		switch {
		case strings.HasSuffix(call.path, "/shares") && member == `"id":"`:
			kind = "share"
		case strings.Contains(call.path, "conversations") && kind != "token":
			kind = "conversation"
		}
		if strings.Contains(call.path, "/files") {
			kind = "file"
		}
		aisdk := call.path == "/api/chat" || strings.HasPrefix(call.path, "/api/chat/ui") || strings.HasPrefix(call.path, "/api/chat/{")
		if aisdk && !strings.HasSuffix(call.path, "/messages") && member == `"id":"` {
			continue // of a part of a message
		}
		key := idKey(user, kind)
		for i, part := range strings.Split(string(raw), member) {
			if id, _, ok := strings.Cut(part, `"`); ok && i > 0 && i < 4 && len(id) <= 128 {
				f.ids[key] = append(f.ids[key], id)
			}
		}
		if n := len(f.ids[key]); n > 400 {
			f.ids[key] = slices.Clone(f.ids[key][n-200:])
		}
	}
}

// idKey is where ids of a kind are kept: those that a user was told, and tokens of
// shares, which belong to no user.
func idKey(user, kind string) string {
	if kind == "token" {
		user = ""
	}
	return user + " " + kind
}

// id is one that answers to the user have named, mostly a late one.
func (f *fuzzer) id(r *rand.Rand, user, names string) string {
	kind := "message"
	if strings.Contains(names, "conversation") && (!strings.Contains(names, "message") || r.IntN(2) == 0) {
		kind = "conversation"
	}
	for _, other := range []string{"file", "share", "token"} {
		if strings.Contains(names, other) {
			kind = other
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if ids := f.ids[idKey(user, kind)]; len(ids) > 0 {
		if n := len(ids); r.IntN(2) == 0 {
			ids = ids[max(0, n-8):]
		}
		return ids[r.IntN(len(ids))]
	}
	return "0199a5f0-1111-7111-8111-111111111111"
}

// generator makes the parts of one request.
type generator struct {
	*rand.Rand
	f       *fuzzer
	user    string
	hostile bool
	key     string       // the API key that the request carries, if any
	scope   access.Scope // what the key is for; "": everything
}

// nasty are values that have broken parsers, databases and templates.
var nasty = []string{
	"", " ", "\x00", "\u202e", "\ufeff", "\u0000", "'; DROP TABLE chat_messages; --", "1' OR '1'='1", "../../../etc/passwd", "..", ".", "%00", "%2e%2e%2f",
	"${jndi:ldap://x}", "{{7*7}}", "<script>alert(1)</script>", "null", "undefined", "NaN", "-0", "1e309", "9223372036854775808", "-9223372036854775809",
	"true", "[]", "{}", "\\", "\"", "a\r\nSet-Cookie: x=y", "\xff\xfe", "\xed\xa0\x80", "👩‍👩‍👧‍👦", "ﷺ", "İ", "ß", "__proto__", "constructor", "Y3Z4", "MS5h", "cjEuYQ",
}

// bodies are complete bodies that are no proper object.
var bodies = []string{
	"", " ", "null", "[]", "1", `"x"`, "{", "}", `{"content"}`, `{"content":}`, `{"content":"a"}{}`, `{"content":"a","content":"b"}`, `{"Content":"a"}`,
	`{"content":"\ud800"}`, `{"content":"\u0000"}`, "{\"content\":\"\xff\"}", `{"content":"a",}`, `{"metadata":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
	strings.Repeat(`{"a":`, 5000), `{"metadata":` + strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20001), `{"x":"` + strings.Repeat("y", 130<<10) + `"}`,
	`{"content":"a","apiBase":"http://169.254.169.254"}`, "\ufeff{}", `{"temperature":1e999,"content":"a"}`, `{"maxTokens":1.5,"content":"a"}`,
}

func (g *generator) odd() bool { return g.hostile && g.IntN(3) == 0 }

func (g *generator) request(call fuzzCall) (*http.Request, string) {
	target, query := call.path, url.Values{}
	header := http.Header{}
	for _, ref := range call.op.Parameters {
		p := ref.Value
		if !p.Required && g.IntN(4) > 0 || p.Required && g.odd() && p.In != "path" {
			continue
		}
		value := g.parameter(p.Schema.Value)
		switch p.In {
		case "path":
			if value == "" {
				value = "x"
			}
			target = strings.Replace(target, "{"+p.Name+"}", url.PathEscape(value), 1)
		case "query":
			query.Add(p.Name, value)
			if g.odd() {
				query.Add(p.Name, value)
			}
		case "header":
			header.Set(p.Name, visible(value))
		}
	}
	if g.odd() {
		query.Set(nasty[g.IntN(len(nasty))], "1")
	}
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	if g.hostile && g.IntN(40) == 0 {
		target += "%zz"
	}
	var body string
	if call.op.RequestBody != nil {
		if content := call.op.RequestBody.Value.Content["application/json"]; content != nil {
			body = g.body(content.Schema.Value)
			header.Set("Content-Type", "application/json")
		} else {
			body = g.file(header)
		}
	}
	g.headers(header)
	if header.Get("Authorization") != "Bearer "+g.key {
		g.key, g.scope = "", ""
	}
	req, err := http.NewRequest(call.method, g.f.b.server.URL+target, strings.NewReader(body))
	if err != nil { // not a request that a client can make
		req, _ = http.NewRequest(call.method, g.f.b.server.URL+call.path, strings.NewReader(body))
	}
	req.Header = header
	return req, fmt.Sprintf("%s %s as %s\n%v\n%.2000q", call.method, target, g.user, header, body)
}

// file is the body of an upload: a file, a form with one, or something else.
func (g *generator) file(h http.Header) string {
	content := canary(g.user)
	if g.odd() {
		content = bodies[g.IntN(len(bodies))]
	}
	if g.IntN(2) == 0 {
		h.Set("Content-Type", "text/plain")
		return content
	}
	h.Set("Content-Type", "multipart/form-data; boundary=b")
	name := "a.txt"
	if g.odd() {
		name = nasty[g.IntN(len(nasty))]
	}
	form := "--b\r\nContent-Disposition: form-data; name=file; filename=" + strconv.Quote(name) + "\r\n\r\n" + content + "\r\n--b--\r\n"
	if g.odd() {
		form = form[:g.IntN(len(form))]
	}
	return form
}

// key is an API key of a user, for one scope or for all, made when first used.
func (f *fuzzer) key(user string, scope access.Scope) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := user + " " + string(scope)
	if f.keys[name] == "" {
		var scopes []access.Scope
		if scope != "" {
			scopes = []access.Scope{scope}
		}
		f.keys[name] = f.b.key(user, scopes...)
	}
	return f.keys[name]
}

func (f *fuzzer) forgetKeys(user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.keys, func(name, _ string) bool { return strings.HasPrefix(name, user+" ") })
}

func (g *generator) headers(h http.Header) {
	if g.IntN(5) == 0 {
		g.scope = []access.Scope{"", access.ChatRead, access.ChatWrite}[g.IntN(3)]
		g.key = g.f.key(g.user, g.scope)
		h.Set("Authorization", "Bearer "+g.key)
	} else {
		h.Set("Authorization", "Bearer "+token(g.f.b.t, g.user))
	}
	if !g.odd() {
		return
	}
	value := visible(nasty[g.IntN(len(nasty))])
	switch g.IntN(9) {
	case 0:
		h.Del("Authorization")
	case 1:
		h.Set("Authorization", "Bearer "+value)
	case 2:
		h.Set("Cookie", cookie(g.f.b.t, g.user))
	case 3:
		h.Del("Authorization")
		h.Set("Cookie", cookie(g.f.b.t, g.user))
		h.Set("Origin", value)
	case 4:
		h.Set("Accept", value)
	case 5:
		h.Set("Content-Type", value)
	case 6:
		h.Set("X-Request-Id", value)
	case 7:
		h.Set("Content-Encoding", value)
	case 8:
		h.Set("X-Forwarded-For", value)
		h.Set("User-Agent", value)
	}
}

// visible keeps what Go's client agrees to send in a header.
func visible(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return -1
		}
		return c
	}, s)
}

// parameter is a value as text.
func (g *generator) parameter(s *openapi3.Schema) string {
	if g.odd() {
		return nasty[g.IntN(len(nasty))]
	}
	raw := g.value(s, "")
	var text string
	if json.Unmarshal([]byte(raw), &text) == nil {
		return text
	}
	return raw
}

func (g *generator) body(s *openapi3.Schema) string {
	if g.odd() {
		return bodies[g.IntN(len(bodies))]
	}
	var members []string
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		must := slices.Contains(s.Required, name) || name == "content"
		if name == "parts" && s.Properties["content"] != nil && !g.odd() { // one of the two is sent
			continue
		}
		if !must && g.IntN(4) > 0 || must && g.odd() {
			continue
		}
		value := g.value(s.Properties[name].Value, name)
		if g.odd() {
			value = []string{"null", "1", "-1", "1.5", "true", `"x"`, "[]", "{}", "1e400", `"\ud83d"`}[g.IntN(10)]
		}
		members = append(members, strconv.Quote(name)+":"+value)
	}
	if g.odd() {
		members = append(members, `"unknown`+strconv.Itoa(g.IntN(9))+`":1`)
	}
	return "{" + strings.Join(members, ",") + "}"
}

// value is one that a schema permits, or if hostile one at or past its bounds,
// as JSON.
func (g *generator) value(s *openapi3.Schema, name string) string {
	switch {
	case len(s.AnyOf) > 0: // or null
		return g.value(s.AnyOf[0].Value, name)
	case len(s.Enum) > 0:
		raw, _ := json.Marshal(s.Enum[g.IntN(len(s.Enum))])
		return string(raw)
	case s.Type.Includes("boolean"):
		return strconv.FormatBool(g.IntN(2) == 0 || name == "confirm")
	case s.Type.Includes("integer"), s.Type.Includes("number"):
		low, high := -3.0, 1000.0
		if s.Min != nil {
			low = *s.Min
		}
		if s.Max != nil {
			high = *s.Max
		}
		n := []float64{low, high, low + float64(g.IntN(int(high-low)+1))}[g.IntN(3)]
		if g.odd() {
			n = []float64{low - 1, high + 1, 1 << 53, -1 << 62}[g.IntN(4)]
		}
		return strconv.FormatFloat(n, 'f', -1, 64)
	case s.Type.Includes("array"):
		var items []string
		for range 1 + g.IntN(3) {
			items = append(items, g.value(s.Items.Value, name))
		}
		return "[" + strings.Join(items, ",") + "]"
	case s.Type.Includes("object") && s.Properties["parts"] != nil: // a message of the AI SDK
		message := map[string]any{
			"id": fmt.Sprintf("ui-%d", g.IntN(1_000_000)), "role": "user", "parts": []any{map[string]any{"type": "text", "text": canary(g.user)}}, "createdAt": "2026-01-01",
		}
		if g.odd() {
			message[[]string{"id", "role", "parts"}[g.IntN(3)]] = nasty[g.IntN(len(nasty))]
		}
		raw, _ := json.Marshal(message)
		return string(raw)
	case s.Type.Includes("object"):
		raw, _ := json.Marshal(map[string]any{"note": canary(g.user), "n": g.IntN(9), "list": []any{nil, true}})
		return string(raw)
	}
	raw, _ := json.Marshal(g.text(s, name))
	return string(raw)
}

func (g *generator) text(s *openapi3.Schema, name string) string {
	switch {
	case s.Pattern != "": // an id
		switch n := g.IntN(10); {
		case n == 0:
			return fmt.Sprintf("own-%d", g.IntN(1000))
		case n == 1 && g.hostile:
			return g.f.id(g.Rand, g.f.users[g.IntN(len(g.f.users))], s.Description) // which may be another user's
		}
		return g.f.id(g.Rand, g.user, s.Description)
	case name == "provider" || name == "model":
		return "demo"
	case name == "content":
		text := []string{"", "!echo ", "!long 30 ", "!fail ", "!slow 50ms ", "<b>"}[g.IntN(6)] + canary(g.user)
		if g.odd() {
			text += nasty[g.IntN(len(nasty))]
		}
		return g.stretch(text, s)
	}
	return g.stretch(canary(g.user)+strconv.Itoa(g.IntN(50)), s)
}

// stretch makes a text as long as is permitted, or one longer.
func (g *generator) stretch(text string, s *openapi3.Schema) string {
	if s.MaxLength == nil || !g.odd() {
		return text
	}
	more := int(*s.MaxLength) - len([]rune(text)) + g.IntN(2)
	return text + strings.Repeat([]string{"x", "é", "😀"}[g.IntN(3)], max(0, more))
}
