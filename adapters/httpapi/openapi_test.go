package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"parley/adapters/httpapi"
	"parley/domain/access"
)

// described is the description of the API, as a client reads it.
type described struct{ *openapi3.T }

// readDescription loads what an API says of itself. It is the same for all, so
// one is read for all tests.
var readDescription = sync.OnceValues(func() (described, error) {
	api, err := newAPI()
	if err != nil {
		return described{}, err
	}
	w := httptest.NewRecorder()
	r, _ := http.NewRequest(http.MethodGet, "/api/openapi.json", nil)
	api.ServeHTTP(w, r)
	doc, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	return described{doc}, err
})

func description(t testing.TB) described {
	t.Helper()
	d, err := readDescription()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// operation finds what serves a request; nil if nothing does.
func (d described) operation(method, path string) *openapi3.Operation {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	asked := strings.Split(path, "/")
	patterns := slices.SortedFunc(maps.Keys(d.Paths.Map()), func(a, b string) int {
		return strings.Compare(strings.ReplaceAll(a, "{", "~"), strings.ReplaceAll(b, "{", "~")) // literals first
	})
	for _, pattern := range patterns {
		segments := strings.Split(pattern, "/")
		if len(segments) != len(asked) {
			continue
		}
		fits := func(i int) bool { return segments[i] == asked[i] || segments[i][:min(1, len(segments[i]))] == "{" }
		all := true
		for i := range segments {
			all = all && fits(i)
		}
		if op := d.Paths.Find(pattern).GetOperation(method); all && op != nil {
			return op
		}
	}
	return nil
}

// disagrees says how a response is not as described; nil if it is.
func (d described) disagrees(method, path string, status int, header http.Header, body []byte) error {
	var response *openapi3.Response
	if op := d.operation(method, path); op != nil && (method != http.MethodHead || status != http.StatusMethodNotAllowed) {
		ref := op.Responses.Status(status)
		if ref == nil {
			return fmt.Errorf("status %d is not described", status)
		}
		response = ref.Value
	} else {
		ref := d.Components.Responses[fmt.Sprintf("Refused%d", status)]
		if method == http.MethodOptions && status == http.StatusNoContent {
			return nil
		}
		if status != http.StatusNotFound && status != http.StatusMethodNotAllowed || ref == nil {
			return fmt.Errorf("status %d where nothing is", status)
		}
		response = ref.Value
	}
	for name, h := range response.Headers {
		if h.Value.Required && header.Get(name) == "" {
			return fmt.Errorf("no header %s", name)
		}
	}
	if method == http.MethodHead {
		if len(body) != 0 {
			return fmt.Errorf("a body for HEAD")
		}
		return nil
	}
	if response.Content.Get("text/plain") != nil && response.Content[httpapi.MediaProblem] == nil && status < 300 { // a file
		return nil
	}
	if len(response.Content) == 0 {
		if len(body) != 0 {
			return fmt.Errorf("a body where none is described")
		}
		return nil
	}
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("content type: %w", err)
	}
	content := response.Content[kind]
	if content == nil {
		return fmt.Errorf("content type %s is not described", kind)
	}
	if kind == "text/event-stream" {
		return d.events(content, string(body))
	}
	if strings.HasPrefix(kind, "text/") {
		return content.Schema.Value.VisitJSON(string(body))
	}
	if !strings.HasSuffix(kind, "json") {
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return content.Schema.Value.VisitJSON(value)
}

// events checks each event against what it can be: exactly one of the kinds.
func (d described) events(content *openapi3.MediaType, body string) error {
	raw, _ := json.Marshal(content.Extensions["x-events"])
	var kinds struct {
		OneOf []struct {
			Ref string `json:"$ref"`
		} `json:"oneOf"`
	}
	if err := json.Unmarshal(raw, &kinds); err != nil || len(kinds.OneOf) == 0 {
		return fmt.Errorf("no events are described: %s", raw)
	}
	for block := range strings.SplitSeq(body, "\n\n") {
		for line := range strings.Lines(block) {
			data, ok := strings.CutPrefix(line, "data: ")
			if !ok || strings.TrimSpace(data) == "[DONE]" { // the AI SDK's mark behind the last event
				continue
			}
			var value any
			if err := json.Unmarshal([]byte(data), &value); err != nil {
				return err
			}
			var fits []string
			var why []error
			for _, kind := range kinds.OneOf {
				schema := d.Components.Schemas[strings.TrimPrefix(kind.Ref, "#/components/schemas/")]
				if err := schema.Value.VisitJSON(value); err != nil {
					why = append(why, err)
				} else {
					fits = append(fits, kind.Ref)
				}
			}
			if len(fits) != 1 {
				return fmt.Errorf("event %s is %v: %v", data, fits, why)
			}
		}
	}
	return nil
}

// TestOpenAPI: the description is a valid one, and says of every route and of
// every input what the router says.
func TestOpenAPI(t *testing.T) {
	b := setup(t)
	d := description(t)
	if err := d.Validate(context.Background()); err != nil {
		t.Error(err)
	}
	if !d.IsOpenAPI31OrLater() {
		t.Errorf("OpenAPI %s, want 3.1: null is a type there, not a mark", d.OpenAPI)
	}
	if a := b.do("", "GET", "/api/openapi.json", "").must(200); a.text("info", "version") != "test" {
		t.Errorf("version %q", a.text("info", "version"))
	}
	operations, ids := 0, map[string]bool{}
	for _, item := range d.Paths.Map() {
		for _, op := range item.Operations() {
			operations++
			ids[op.OperationID] = true
			if op.Summary == "" {
				t.Errorf("%s has no summary", op.OperationID)
			}
		}
	}
	routes := b.api.Routes()
	if operations != len(routes) || len(ids) != operations {
		t.Errorf("%d operations with %d names describe %d routes", operations, len(ids), len(routes))
	}
	for _, route := range routes {
		item := d.Paths.Find(route.Path)
		if item == nil || item.GetOperation(route.Method) == nil {
			t.Errorf("%s is not described", route.Label())
			continue
		}
		op := item.GetOperation(route.Method)
		inputs := map[string]bool{}
		for _, p := range op.Parameters {
			inputs[p.Value.In+" "+p.Value.Name] = true
		}
		if op.RequestBody != nil {
			for media, in := range map[string]string{"application/json": "body", "multipart/form-data": "file"} {
				if content := op.RequestBody.Value.Content[media]; content != nil {
					for name := range content.Schema.Value.Properties {
						inputs[in+" "+name] = true
					}
				}
			}
		}
		for _, f := range route.Fields {
			if !inputs[f.In+" "+f.Name] {
				t.Errorf("%s: %s %s is not described", route.Label(), f.In, f.Name)
			}
			delete(inputs, f.In+" "+f.Name)
		}
		if len(inputs) > 0 {
			t.Errorf("%s: %v are described and not read", route.Label(), inputs)
		}
		if public := len(*op.Security) == 0; public == route.Access.NeedsCredential() {
			t.Errorf("%s: public in the description: %t", route.Label(), public)
		}
	}
}

// TestOpenAPI_Answers drives every route into success and into each refusal.
// Every response that any test of this package reads whole is held to the
// description by answer; this one sees to it that there is one of each.
func TestOpenAPI_Answers(t *testing.T) {
	t.Parallel()
	app := func(s *settings) { s.AllowedOrigins = []string{"https://app.example.com"} }
	b := setup(t, app)
	closed := setup(t, func(s *settings) { s.disabled = true })
	strict := setup(t, app, func(s *settings) { s.limits = access.Limits{access.Authenticated: 1} })
	shut := setup(t)
	shut.store.Close()
	got := map[string][]int{}
	note := func(route httpapi.Route, a answer) answer {
		got[route.Label()] = append(got[route.Label()], a.status)
		// What belongs to a user is not cached, and neither is a refusal.
		if cache := a.header.Get("Cache-Control"); cache != "no-store" && cache != "private, no-cache" && cache != "no-cache, no-transform" && (route.Access != httpapi.Public || a.status >= 400) {
			t.Errorf("%s: %d with Cache-Control %q", route.Label(), a.status, cache)
		}
		return a
	}
	for _, route := range b.api.Routes() {
		label := route.Label()
		target, body := fill(route, httpapi.Field{}, "")
		if body == "" && !route.NoBody && slices.ContainsFunc(route.Fields, func(f httpapi.Field) bool { return f.In == "body" }) {
			body = "{}"
		}
		for _, headers := range [][]string{
			{"Authorization", "Bearer nonsense"},
			{"Cookie", cookie(t, "ann"), "Sec-Fetch-Site", "cross-site", "Authorization", ""},
			{"Accept", "image/png"},
			{"Content-Type", "text/plain"},
			{"Content-Encoding", "gzip"},
			{"Idempotency-Key", "\"\""},
		} {
			if label == "GET /api/chat/live" && !slices.Contains([]string{"Bearer nonsense", "image/png"}, headers[1]) {
				continue // it would go on for ever
			}
			note(route, b.do("ann", route.Method, target, body, headers...))
		}
		for _, f := range route.Fields {
			if f.Ref != "" && !strings.HasPrefix(f.Ref, "new ") {
				target, body := fill(route, f, "0199a5f0-1111-7111-8111-111111111111")
				note(route, b.do("ann", route.Method, target, body)).must(404)
			}
		}
		if (body != "" || route.NoBody) && route.MaxFile == 0 {
			note(route, b.do("ann", route.Method, target, `{}`, "Content-Type", "text/plain")).must(415)
			most := (128 << 10) * int(max(route.BodyFactor, 1))
			note(route, b.do("ann", route.Method, target, `{"`+strings.Repeat("x", most)+`":1}`)).must(413)
			note(route, b.do("ann", route.Method, target, `{"content":`)).must(400)
		}
		if route.Access.NeedsCredential() {
			note(route, b.do("ann", route.Method, target, body, "Cookie", cookie(t, "ann"))).must(400) // and the bearer
		}
		if label != "GET /api/chat/live" {
			note(route, b.do("ann", route.Method, target+"?%zz", body)).must(400)
			note(route, b.do("ann", route.Method, target, body))
		}
		note(route, closed.do("ann", route.Method, target, body))
		if route.Access != httpapi.Public {
			note(route, shut.do("ann", route.Method, target, body))
			for range 11 { // ten times one a minute, reads included
				if a := strict.do("limited "+label, route.Method, target, `{`, "Accept", "image/png"); a.status == 429 {
					note(route, a)
				}
			}
		}
	}
	// What needs something to be there.
	play := func(label, target, body string, status int, headers ...string) answer {
		t.Helper()
		method, _, _ := strings.Cut(label, " ")
		for _, route := range b.api.Routes() {
			if route.Label() == label {
				return note(route, b.do("ann", method, target, body, headers...)).must(status)
			}
		}
		t.Fatalf("no route %s", label)
		return answer{}
	}
	const messages, message = "/api/chat/messages", "/api/chat/messages/{id}"
	id := play("POST /api/chat/conversations", "/api/chat/conversations", "", 201).text("id")
	target := "/api/chat/conversations/" + id
	sent := play("POST "+messages, messages, `{"content":"Hello","conversationId":"`+id+`","metadata":{"a":[1,null]}}`, 201, "Idempotency-Key", "k")
	for _, list := range []string{messages, "/api/chat/conversations"} {
		play("GET "+list, list, "", 304, "If-None-Match", play("GET "+list, list, "", 200).header.Get("ETag"))
	}
	asked, reply := messages+"/"+sent.text("userMessage", "id"), messages+"/"+sent.text("assistantMessage", "id")
	failed := messages + "/" + play("POST "+messages, messages, `{"content":"!fail"}`, 502).text("runId")
	play("POST "+messages, messages, `{"content":"Other"}`, 422, "Idempotency-Key", "k")
	busy := play("POST /api/chat/conversations", "/api/chat/conversations", "{}", 201).text("id")
	play("POST "+messages, messages, `{"content":"!slow 2s","background":true,"conversationId":"`+busy+`"}`, 202)
	play("POST "+messages, messages, `{"content":"Hello","conversationId":"`+busy+`"}`, 409)
	play("POST "+messages, messages, `{"content":"Hello","stream":true}`, 200)
	play("POST /api/chat/stream", "/api/chat/stream", `{"content":"Hello"}`, 200)
	play("POST /api/chat/stream", "/api/chat/stream", `{"content":"!fail"}`, 200)
	play("POST "+message+"/regenerate", reply+"/regenerate", "", 201)
	play("POST "+message+"/regenerate", failed+"/regenerate", "", 502)
	play("POST "+message+"/continue", reply+"/continue", "", 409)
	play("POST "+message+"/continue", failed+"/continue", "", 409)
	play("PATCH "+message, asked, `{"content":"Hello again"}`, 201)
	play("POST "+message+"/stop", reply+"/stop", "", 200)
	play("GET "+message+"/stream", reply+"/stream", "", 200)
	play("GET "+message+"/stream", failed+"/stream", "", 200)
	play("GET "+message+"/stream", reply+"/stream?after=-1", "", 400)
	play("POST /api/chat/ui", "/api/chat/ui", uiBody("chat-2", "m", "Hello"), 200)
	for _, base := range []string{"/api/chat", "/api/chat/ui"} {
		play("GET "+base+"/{id}/stream", base+"/a%20b/stream", "", 404)
		play("GET "+base+"/{id}/messages", base+"/a%20b/messages", "", 404)
		play("GET "+base+"/{id}/messages", base+"/chat-2/messages", "", 200)
		play("POST "+base+"/{id}/stop", base+"/a%20b/stop", "", 404)
	}
	play("PUT "+message+"/feedback", reply+"/feedback", `{"rating":"up","reason":"R"}`, 200)
	play("DELETE "+message+"/feedback", reply+"/feedback", "", 204)
	play("GET "+messages, messages+"?conversationId="+id, "", 200)
	play("PATCH /api/chat/conversations/{id}", target, `{"title":"T","model":"demo/demo","systemPrompt":"S"}`, 200)
	play("GET /api/chat/conversations/{id}", target, "", 200)
	play("PATCH /api/chat/conversations", "/api/chat/conversations", `{"title":"T","conversationId":"`+id+`"}`, 200)
	play("DELETE /api/chat/conversations", "/api/chat/conversations?id="+id, "", 200)
	id = play("POST /api/chat/conversations", "/api/chat/conversations", "", 201).text("id")
	play("DELETE /api/chat/conversations/{id}", "/api/chat/conversations/"+id, "", 200)
	play("POST /api/chat/conversations", "/api/chat/conversations", `{"id":"mine"}`, 201)
	play("POST /api/chat/conversations", "/api/chat/conversations", `{"id":"mine"}`, 409)
	play("GET /api/chat/export", "/api/chat/export", "", 200)
	other := play("POST /api/chat/conversations", "/api/chat/conversations", "", 201).text("id")
	play("GET /api/chat/conversations/{id}/export", "/api/chat/conversations/"+other+"/export", "", 200)
	play("GET /api/chat/search", "/api/chat/search?q=hello", "", 200)
	const shares = "/api/chat/conversations/{id}/shares"
	talk := play("POST /api/chat/conversations", "/api/chat/conversations", "", 201).text("id")
	sharesOfTalk := strings.Replace(shares, "{id}", talk, 1)
	play("POST "+shares, sharesOfTalk, "", 409) // it is empty
	attached := play("POST /api/chat/files", "/api/chat/files?name=a.txt", "Hello", 201).text("id")
	play("POST "+messages, messages, `{"content":"Hello","files":["`+attached+`"],"conversationId":"`+talk+`"}`, 201)
	shared := play("POST "+shares, sharesOfTalk, `{"expiresAt":"2999-12-31T12:00:00Z"}`, 201)
	play("GET "+shares, sharesOfTalk, "", 200)
	const link, linked = "/api/share/{token}", "/api/share/{token}/files/{id}"
	address := "/api/share/" + shared.text("token")
	play("GET "+link, address, "", 200)
	tagOfLinked := play("GET "+linked, address+"/files/"+attached, "", 200).header.Get("ETag")
	play("GET "+linked, address+"/files/"+attached, "", 206, "Range", "bytes=1-2")
	play("GET "+linked, address+"/files/"+attached, "", 416, "Range", "bytes=100-")
	play("GET "+linked, address+"/files/"+attached, "", 304, "If-None-Match", tagOfLinked)
	play("DELETE /api/chat/shares/{id}", "/api/chat/shares/"+shared.text("id"), "", 204)
	const files, file = "/api/chat/files", "/api/chat/files/{id}"
	stored := play("POST "+files, files+"?id=f&name=a.txt", "Hello", 201).text("id")
	play("POST "+files, files+"?id=f", "Hello", 409)
	play("POST "+files, files, strings.Repeat("x", maxFile+1), 413)
	play("GET "+files, files, "", 200)
	tag := play("GET "+file, files+"/"+stored, "", 200).header.Get("ETag")
	play("GET "+file, files+"/"+stored, "", 206, "Range", "bytes=1-2")
	play("GET "+file, files+"/"+stored, "", 416, "Range", "bytes=100-")
	play("GET "+file, files+"/"+stored, "", 304, "If-None-Match", tag)
	play("DELETE "+file, files+"/"+stored, "", 200)
	play("POST "+files+"/direct", files+"/direct", `{"id":"d","size":5}`, 201)
	play("POST "+files+"/direct", files+"/direct", `{"id":"d","size":5}`, 409)
	play("POST "+file+"/complete", files+"/d/complete", "", 409)
	live := b.open(b.request("ann", "GET", "/api/chat/live", ""))
	snapshot, err := live.block()
	if err != nil {
		t.Fatal(err)
	}
	live.close()
	if err := description(t).disagrees("GET", "/api/chat/live", 200, live.res.Header, []byte(snapshot)); err != nil {
		t.Error(err)
	}

	play("DELETE /api/chat/account", "/api/chat/account", `{"confirm":true}`, 200)
	play("DELETE /api/chat/account", "/api/chat/account", `{"confirm":true}`, 200) // and again

	for _, route := range b.api.Routes() {
		for status := range description(t).operation(route.Method, route.Path).Responses.Map() {
			seen := slices.ContainsFunc(got[route.Label()], func(s int) bool { return fmt.Sprint(s) == status })
			if !seen && !unseen(route, status) {
				t.Errorf("%s never answered with %s, but with %v", route.Label(), status, got[route.Label()])
			}
		}
	}
	b.alive()
}

// unseen are the answers that this test does not bring about.
func unseen(route httpapi.Route, status string) bool {
	if strings.HasSuffix(route.Path, "/complete") && (status == "200" || status == "413" || status == "415") { // see TestDirect of app/files
		return true
	}
	switch status {
	case "500": // see TestPanic
		return true
	case "503":
		return route.Access == httpapi.Public // see TestHealth
	case "403": // reading is no forgery; for a key without the scope see TestScopes
		return route.Method == "GET"
	case "200", "204":
		return route.Stream && route.Method == "GET" || route.Access == httpapi.Sends && !route.Stream
	case "201", "202", "409", "422", "502":
		return route.Access == httpapi.Sends && route.Label() != "POST /api/chat/messages"
	}
	return false
}
