package boot_test

import (
	"compress/gzip"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"parley/platform/testing/testdb"
)

// mark is in every text, header, key and password that TestCanary plants. The
// browser's name has a mark of its own: the audit, and nothing else, keeps it.
const (
	mark      = "c4n4ry"
	agentMark = "4gentc4n"
)

// TestCanary plants marks in prompts, replies, titles, metadata, headers,
// cookies, tokens, keys and in the password of the database; drives every route
// of the description into success and into failure, with a provider that
// repeats what it was sent in its errors, and at last without a database; and
// looks for the marks in all that came out: logs at the level debug, metrics,
// spans, answers to others, refusals, the audit.
func TestCanary(t *testing.T) {
	t.Parallel()
	dsn, err := url.Parse(testdb.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, has := dsn.User.Password(); !has {
		dsn.User = url.UserPassword(dsn.User.Username(), mark+"-database")
	}
	spans := &output{}
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		io.Copy(spans, body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(collector.Close)
	babbler := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{
			"message": "Incorrect key " + r.Header.Get("Authorization") + " for " + string(asked), "code": "invalid_api_key", "type": mark,
		}})
	}))
	t.Cleanup(babbler.Close)
	env := []string{
		"DATA_DIR=" + t.TempDir(), "DATABASE_URL=" + dsn.String(), "LOG_LEVEL=debug", "LOG_FORMAT=json", "RATE_LIMIT_AUTHENTICATED=100000", "RATE_LIMIT_ANONYMOUS=100000",
		"AUTH_SECRET=" + mark + "-secret-0123456789abcdef0123456789", "AI_PROVIDERS=demo,openai",
		"OPENAI_API_KEY=sk-" + mark + "-key", "OPENAI_BASE_URL=" + babbler.URL + "/v1", "OPENAI_MODEL=gpt-test",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_BSP_SCHEDULE_DELAY=100",
	}
	p := start(t, env...)
	d := &canaryDrive{t: t, url: p.url, alice: bearer(t, env, "alice"), bob: bearer(t, env, "bob")}
	d.plant()
	before := d.asked
	d.everything()
	if d.asked-before < 150 || d.succeeded < 15 {
		t.Errorf("only %d requests, %d of them successful", d.asked-before, d.succeeded)
	}
	metrics := call(t, "GET", p.admin+"/metrics", "").body

	db, err := sql.Open("pgx", dsn.String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	audit := &output{}
	rows, err := db.Query("SELECT row_to_json(a)::text FROM audit_logs a")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(audit, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}

	// Now nobody gets a connection any more.
	name := strings.TrimPrefix(dsn.Path, "/")
	db.Close()
	elsewhere := *dsn
	elsewhere.Path = "/postgres"
	admin, err := sql.Open("pgx", elsewhere.String())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for _, statement := range []string{
		`ALTER DATABASE "` + name + `" ALLOW_CONNECTIONS false`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + name + `'`,
	} {
		if _, err := admin.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	d.everything()
	metrics += call(t, "GET", p.admin+"/metrics", "").body
	if d.unavailable == 0 {
		t.Error("nothing failed for want of a database")
	}
	p.terminate()

	tokens := []string{mark, strings.TrimPrefix(d.alice, "Authorization: Bearer "), strings.TrimPrefix(d.bob, "Authorization: Bearer "), d.token}
	for name, out := range map[string]string{
		"the log": p.out.String(), "metrics": metrics, "spans": spans.String(), "answers to others": d.others.String(), "the audit": audit.String(),
	} {
		if len(out) < 1000 {
			t.Errorf("%s: only %d bytes came out", name, len(out))
		}
		marks := slices.Clone(tokens)
		if name != "the audit" {
			marks = append(marks, agentMark)
		}
		for _, m := range marks {
			if i := strings.Index(strings.ToLower(out), strings.ToLower(m)); i >= 0 {
				t.Errorf("%s: %.12q is in ...%q...", name, m, out[max(0, i-300):min(len(out), i+60)])
			}
		}
	}
}

// canaryDrive makes the requests of TestCanary.
type canaryDrive struct {
	t                  *testing.T
	url, alice, bob    string
	conversation, asks string
	reply, token       string
	operations         []canaryOperation
	others             output // answers that were not for the eyes of alice, and refusals
	asked, succeeded   int
	unavailable        int
}

type canaryOperation struct {
	method, path string
	parameters   []string // "in name"
	members      []string
}

// plant leaves something of alice's, and reads the description.
func (d *canaryDrive) plant() {
	post := func(path, body string) map[string]any {
		a := call(d.t, "POST", d.url+path, body, d.alice)
		if a.status != http.StatusCreated {
			d.t.Fatalf("%d %s", a.status, a.body)
		}
		return a.json(d.t)
	}
	d.conversation = fmt.Sprint(post("/api/chat/conversations", `{"title":"`+mark+` title","systemPrompt":"`+mark+` system"}`)["id"])
	sent := post("/api/chat/messages", message("!echo "+mark+" reply", "conversationId", d.conversation, "metadata", map[string]any{"k": mark}))
	d.asks, d.reply = fmt.Sprint(at(sent, "userMessage", "id")), fmt.Sprint(at(sent, "assistantMessage", "id"))

	if a := call(d.t, "PUT", d.url+"/api/chat/messages/"+d.reply+"/feedback", `{"rating":"down","reason":"`+mark+`"}`, d.alice); a.status != http.StatusOK {
		d.t.Fatalf("%d %s", a.status, a.body)
	}
	d.token = fmt.Sprint(post("/api/chat/conversations/"+d.conversation+"/shares", "{}")["token"])
	if a := call(d.t, "GET", d.url+"/api/share/"+d.token, ""); a.status != http.StatusOK || !strings.Contains(a.body, mark) {
		d.t.Fatalf("%d %s", a.status, a.body)
	}

	var doc struct {
		Paths map[string]map[string]struct {
			Parameters  []struct{ In, Name string }
			RequestBody struct {
				Content map[string]struct {
					Schema struct{ Properties map[string]any }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(call(d.t, "GET", d.url+"/api/openapi.json", "").body), &doc); err != nil {
		d.t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for method, op := range doc.Paths[path] {
			o := canaryOperation{method: strings.ToUpper(method), path: path}
			for _, p := range op.Parameters {
				o.parameters = append(o.parameters, p.In+" "+p.Name)
			}
			o.members = slices.Sorted(maps.Keys(op.RequestBody.Content["application/json"].Schema.Properties))
			d.operations = append(d.operations, o)
		}
	}
	// What deletes comes last.
	slices.SortStableFunc(d.operations, func(a, b canaryOperation) int {
		last := func(o canaryOperation) int { return len(o.method) * strings.Count(o.method, "DELETE") * len(o.path) }
		return last(a) - last(b)
	})
}

// everything drives every route into whatever it can answer.
func (d *canaryDrive) everything() {
	content := map[string]string{
		"works": mark + " prompt", "fails": "!fail " + mark, "upstream": mark + " upstream",
	}
	for _, o := range d.operations {
		for _, target := range []string{d.conversation, d.asks, d.reply} {
			path := d.url + strings.NewReplacer("{id}", target, "{token}", mark).Replace(o.path)
			if len(o.members) > 0 {
				for kind, text := range content {
					d.ask(d.alice, o, path, d.body(o, kind, text))
				}
				for _, broken := range []string{
					`{"content":"` + mark, `{"` + mark + ` ":1}`, `{"content":{"` + mark + `":1}}`, `"` + mark + `"`, `{"content":"` + mark + `\ud800"}`, `{"title":"` + strings.Repeat(mark, 100) + `"}`,
				} {
					d.ask(d.alice, o, path, broken)
				}
			} else {
				d.ask(d.alice, o, path, "")
			}
			d.ask(d.alice, o, path+"?render="+mark+"&before="+mark+"&limit="+mark+"&after="+mark+"&leaf="+mark+"&q="+mark, "")
			d.ask(d.bob, o, path, d.body(o, "works", "!echo hello"))
			d.ask("Authorization: Bearer "+mark+"."+mark+"."+mark, o, path, "")
			d.ask("Cookie: authjs.session-token="+mark, o, path, "")
			if !strings.Contains(o.path, "{id}") {
				break
			}
		}
	}
}

func (d *canaryDrive) body(o canaryOperation, kind, text string) string {
	members := map[string]any{}
	for _, name := range o.members {
		switch name {
		case "content":
			members[name] = text
		case "conversationId":
			members[name] = d.conversation
		case "title", "systemPrompt", "system":
			if !strings.HasPrefix(text, "!echo hello") {
				members[name] = mark
			}
		case "rating":
			members[name] = "up"
		case "reason":
			members[name] = text
		case "confirm":
			members[name] = strings.HasPrefix(text, "!echo hello") // bob goes, and leaves the audit of alice
		case "provider":
			if kind == "upstream" {
				members[name] = "openai"
			}
		}
	}
	raw, _ := json.Marshal(members)
	return string(raw)
}

func (d *canaryDrive) ask(credential string, o canaryOperation, target, body string) {
	d.t.Helper()
	d.asked++
	req, err := http.NewRequest(o.method, target, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Idempotency-Key": fmt.Sprint(mark, d.asked), "Referer": "https://example.com/" + mark,
		"X-Custom": mark, "X-Request-Id": mark + " !", "User-Agent": agentMark, "Traceparent": mark, "Tracestate": "x=" + mark, "Baggage": "x=" + mark,
	} {
		req.Header.Set(name, value)
	}
	req.AddCookie(&http.Cookie{Name: "theme", Value: mark})
	name, value, _ := strings.Cut(credential, ": ")
	req.Header.Set(name, value)
	client := http.Client{Timeout: time.Minute}
	if strings.HasSuffix(o.path, "/live") {
		client.Timeout = 100 * time.Millisecond // it has no end
	}
	resp, err := client.Do(req)
	if err != nil && client.Timeout < time.Second {
		return
	}
	if err != nil {
		d.t.Fatalf("%s %s: %v", o.method, o.path, err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode < 300:
		d.succeeded++
	case resp.StatusCode == http.StatusServiceUnavailable:
		d.unavailable++
	}
	// Alice may read what is hers, also in what tells her that a reply failed.
	if credential != d.alice || resp.StatusCode >= 400 && !strings.Contains(string(raw), `"userMessage"`) {
		d.others.Write(raw)
		fmt.Fprintln(&d.others, resp.Header)
	}
}
