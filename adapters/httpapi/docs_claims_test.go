package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/providers/demo"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/platform/testing/testenv"
	"parley/ports"
)

func apiDocs(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// blocks returns the code blocks of docs/api.md in a language.
func blocks(t *testing.T, language string) (out []string) {
	t.Helper()
	for _, found := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllStringSubmatch(apiDocs(t), -1) {
		out = append(out, found[1])
	}
	return out
}

// TestAPIDocs_Examples runs every shell example of docs/api.md, each line of
// which must answer below 400.
func TestAPIDocs_Examples(t *testing.T) {
	t.Parallel()
	model := &hangsOnce{at: "Wait"}
	b := setup(t, func(s *settings) { s.model = model })
	sent := b.do("alice", "POST", "/api/chat/messages", `{"content":"Hello!"}`).must(201)
	s := b.open(b.request("alice", "POST", "/api/chat/stream", `{"content":"Wait"}`))
	start, _ := s.next()
	stopped := start.data["runId"].(string)
	s.next() // some of its text
	b.do("alice", "POST", "/api/chat/messages/"+stopped+"/stop", "").must(200)
	s.rest()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "curl")); err != nil {
		t.Fatal(err)
	}
	examples := blocks(t, "sh")[1:] // the first sets the variables
	if len(examples) < 15 {
		t.Fatalf("only %d examples were found", len(examples))
	}
	for i, example := range examples {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", example)
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), asCurl+"=1", testenv.EndAtOnce, "API="+b.server.URL, "TOKEN="+token(t, "alice"),
				"MESSAGE="+sent.text("userMessage", "id"), "RUN="+sent.text("assistantMessage", "id"), "STOPPED="+stopped)
			out, err := cmd.CombinedOutput()
			refused := strings.Contains(string(out), `"urn:parley:problem:`) && !strings.Contains(string(out), `"openapi":`)
			if err != nil || refused {
				t.Errorf("%s\n%v\n%.2000s", example, err, out)
			}
		})
	}
}

// hangsOnce is the demo provider, but that its first reply to a message does
// not end by itself.
type hangsOnce struct {
	demo.Provider
	at   string
	once sync.Once
}

func (h *hangsOnce) Generate(ctx context.Context, p ports.Prompt, emit func(chat.Delta)) (answer ports.Answer, err error) {
	hang := false
	if p.Messages[len(p.Messages)-1].Text() == h.at {
		h.once.Do(func() { hang = true })
	}
	if hang {
		emit(chat.TextDelta("Just a moment. "))
		<-ctx.Done()
		return ports.Answer{}, ctx.Err()
	}
	return h.Provider.Generate(ctx, p, emit)
}

// asCurl in the environment makes this binary a curl: see TestMain.
const asCurl = "PARLEY_TEST_CURL"

// curl is as much of the program as the examples need. Unlike the real one it
// fails on an answer of 400 or more.
func curl(args []string) error {
	req, err := http.NewRequest("", "", nil)
	if err != nil {
		return err
	}
	client := http.Client{}
	method, url, body := "", "", ""
	for i := 0; i < len(args); i++ {
		value := func() string { i++; return args[i] }
		switch args[i] {
		case "-s", "-N":
		case "-X":
			method = value()
		case "-d":
			body = value()
		case "-H":
			name, text, _ := strings.Cut(value(), ":")
			req.Header.Set(name, strings.TrimSpace(text))
		case "--max-time":
			seconds, err := strconv.Atoi(value())
			if err != nil {
				return err
			}
			client.Timeout = time.Duration(seconds) * time.Second
		default:
			if strings.HasPrefix(args[i], "-") || url != "" {
				return fmt.Errorf("curl: unknown argument %q", args[i])
			}
			url = args[i]
		}
	}
	if method == "" {
		method = "GET"
		if body != "" {
			method = "POST"
		}
	}
	full, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	full.Header = req.Header
	res, err := client.Do(full)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err = io.Copy(os.Stdout, res.Body); err == nil && res.StatusCode >= 400 {
		err = fmt.Errorf("curl: %s", res.Status)
	}
	return err
}

// TestAPIDocs_Shapes: the JSON examples of docs/api.md have the members that
// answers have, no more and no less.
func TestAPIDocs_Shapes(t *testing.T) {
	b := setup(t, func(s *settings) {
		s.limits = access.Limits{access.Authenticated: 100, access.Anonymous: 1}
	})
	conversation := b.do("alice", "POST", "/api/chat/conversations", `{"title":"Plans","systemPrompt":"Be brief.","model":"demo/demo"}`).must(201)
	sent := b.do("alice", "POST", "/api/chat/messages", `{"content":"Hello!","conversationId":"`+conversation.text("id")+`"}`).must(201)
	b.do("alice", "POST", "/api/chat/messages/"+sent.text("assistantMessage", "id")+"/regenerate", "").must(201)
	page := b.do("alice", "GET", "/api/chat/messages?conversationId="+conversation.text("id"), "").must(200)
	message := page.body["messages"].([]any)[1].(map[string]any)
	live := b.do("alice", "POST", "/api/chat/messages/"+sent.text("assistantMessage", "id")+"/stop", "").must(200)
	b.do("", "GET", "/api/chat/models", "", "Authorization", "Bearer x").must(401)
	for range 20 {
		b.do("", "GET", "/api/chat/models", "", "Authorization", "Bearer x")
	}
	limited := b.do("", "GET", "/api/chat/models", "", "Authorization", "Bearer x").must(429)

	got := map[string]any{
		"refusal": limited.body, "message": message, "sent": sent.body, "run": live.body, "history": page.body, "conversation": conversation.body,
		"models": b.do("alice", "GET", "/api/chat/models", "").body, "health": b.do("", "GET", "/api/health", "").body,
		"chat": b.do("alice", "GET", "/api/chat/"+conversation.text("id")+"/messages", "").must(200).body,
	}
	names := []string{"refusal", "message", "sent", "run", "chat", "history", "conversation", "models", "health"}
	examples := blocks(t, "json")
	if len(examples) != len(names) {
		t.Fatalf("%d examples, want %d", len(examples), len(names))
	}
	for i, name := range names {
		var example map[string]any
		if err := json.Unmarshal([]byte(examples[i]), &example); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(example)), slices.Sorted(maps.Keys(got[name].(map[string]any)))); diff != "" {
			t.Errorf("%s: documented, answered:\n%s", name, diff)
		}
	}
}

// TestAPIDocs_Claims holds the API to sentences of docs/api.md that no other
// test is about.
func TestAPIDocs_Claims(t *testing.T) {
	t.Parallel()
	b := setup(t)
	send := func(user, body string, headers ...string) answer {
		b.t.Helper()
		return b.do(user, "POST", "/api/chat/messages", body, headers...)
	}
	for name, claim := range map[string]func(t *testing.T){
		"HEAD answers where GET does, except on streams": func(*testing.T) {
			first := send("head", `{"content":"x","conversationId":null}`).must(201)
			conversation := b.do("head", "POST", "/api/chat/conversations", "").must(201).text("id")
			file := b.do("head", "POST", "/api/chat/files?name=a.txt", "text", "Content-Type", "text/plain").must(201).text("id")
			send("head", `{"content":"y","conversationId":"`+conversation+`","files":["`+file+`"]}`).must(201)
			share := b.do("head", "POST", "/api/chat/conversations/"+conversation+"/shares", "").must(201).text("token")
			for _, route := range b.api.Routes() {
				if route.Method != "GET" {
					continue
				}
				id := conversation
				if strings.HasPrefix(route.Path, "/api/chat/messages") {
					id = first.text("assistantMessage", "id")
				}
				if strings.Contains(route.Path, "/files") {
					id = file
				}
				want := 200
				if route.Stream {
					want = 405
				}
				if a := b.do("head", "HEAD", strings.NewReplacer("{id}", id, "{token}", share).Replace(route.Path)+"?q=x", "").must(want); a.raw != "" {
					t.Errorf("HEAD %s has a body", route.Path)
				}
			}
		},
		"every answer has its headers; no-store on all data of users": func(*testing.T) {
			for _, route := range b.api.Routes() {
				if route.Stream {
					continue
				}
				a := b.do("ann", route.Method, strings.ReplaceAll(route.Path, "{id}", "nope"), "")
				for name, want := range map[string]string{
					"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer",
				} {
					if got := a.header.Get(name); got != want {
						t.Errorf("%s: %s: %q", route.Label(), name, got)
					}
				}
				if a.header.Get("X-Request-Id") == "" || strings.HasPrefix(route.Path, "/api/chat/") && a.header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %v", route.Label(), a.header)
				}
			}
		},
		"id has 1 to 128 printable ASCII characters without space and slashes": func(*testing.T) {
			send("ann", `{"content":"x","id":"`+strings.Repeat("~", 128)+`"}`).must(201)
			for _, id := range []string{strings.Repeat("a", 129), "a b", "a/b", `a\\b`, "é"} {
				send("ann", `{"content":"x","id":"`+id+`"}`).refused(400, "INVALID_INPUT", "Invalid message ID")
			}
		},
		"system has up to 32 KiB": func(*testing.T) {
			send("ann", `{"content":"x","system":"`+strings.Repeat("s", 32<<10)+`"}`).must(201)
			send("ann", `{"content":"x","system":"`+strings.Repeat("s", 32<<10+1)+`"}`).refused(400, "INVALID_INPUT", "System prompt cannot exceed 32768 bytes")
		},
		"a key has up to 255 characters and is each user's own": func(*testing.T) {
			key := strings.Repeat("k", 255)
			first := send("ann", `{"content":"x"}`, "Idempotency-Key", key).must(201)
			other := send("bob", `{"content":"x"}`, "Idempotency-Key", key).must(201)
			again := send("ann", `{"content":"x"}`, "Idempotency-Key", `"`+key+`"`).must(201)
			if other.header.Get("Idempotency-Replayed") != "" || again.text("assistantMessage", "id") != first.text("assistantMessage", "id") {
				t.Error(other.raw, again.raw)
			}
		},
		"updatedAt equals createdAt; siblings are in the answer to a send as in the history": func(*testing.T) {
			first := send("sib", `{"content":"x"}`).must(201)
			again := b.do("sib", "POST", "/api/chat/messages/"+first.text("assistantMessage", "id")+"/regenerate", "").must(201)
			if len(again.get("assistantMessage", "siblings").([]any)) != 2 || first.text("userMessage", "createdAt") != first.text("userMessage", "updatedAt") {
				t.Error(again.raw)
			}
			page := b.do("sib", "GET", "/api/chat/messages", "").must(200)
			last := page.body["messages"].([]any)[2].(map[string]any)
			if diff := cmp.Diff([]any{first.text("assistantMessage", "id"), again.text("assistantMessage", "id")}, last["siblings"]); diff != "" {
				t.Error(diff)
			}
		},
		"the default thread allows many at once": func(t *testing.T) {
			live := b.open(b.request("many", "POST", "/api/chat/stream", `{"content":"!slow 60s"}`))
			live.next()
			send("many", `{"content":"x"}`).must(201)
			b.do("many", "DELETE", "/api/chat/account", `{"confirm":true}`).must(200)
		},
		"a page has 50 messages or 20 conversations unless asked for others": func(*testing.T) {
			if a := b.do("ann", "GET", "/api/chat/messages", ""); a.get("pagination", "limit") != 50.0 {
				t.Error(a.raw)
			}
			if a := b.do("ann", "GET", "/api/chat/conversations", ""); a.get("pagination", "limit") != 20.0 {
				t.Error(a.raw)
			}
		},
		"an empty title is none; 200 code points are a title, 201 are not": func(*testing.T) {
			if a := b.do("ann", "POST", "/api/chat/conversations", `{"title":""}`).must(201); a.get("title") != nil {
				t.Error(a.raw)
			}
			b.do("ann", "POST", "/api/chat/conversations", `{"title":"`+strings.Repeat("😀", 200)+`"}`).must(201)
			b.do("ann", "POST", "/api/chat/conversations", `{"title":"`+strings.Repeat("é", 201)+`"}`).refused(400, "INVALID_INPUT", "")
		},
		"a body has up to 128 KiB, or 16 MiB with the AI SDK": func(*testing.T) {
			history := func(bytes int) string {
				old := `{"id":"o","role":"user","parts":[{"type":"text","text":"` + strings.Repeat("o", bytes-200) + `"}]}`
				return `{"id":"big","messages":[` + old + `,{"id":"n","role":"user","parts":[{"type":"text","text":"x"}]}]}`
			}
			b.do("ann", "POST", "/api/chat/ui", history(16<<20)).must(200)
			b.do("ann", "POST", "/api/chat/ui", history(16<<20+1000)).refused(413, "PAYLOAD_TOO_LARGE", "")
			send("ann", `{"content":"x","metadata":{"a":"`+strings.Repeat("a", 128<<10-50)+`"}}`).must(201)
			send("ann", `{"content":"x","metadata":{"a":"`+strings.Repeat("a", 128<<10)+`"}}`).refused(413, "PAYLOAD_TOO_LARGE", "")
		},
		"every refusal with 429 or 503 carries Retry-After": func(*testing.T) {
			b.gate.SetLimits(access.Limits{access.Authenticated: 1, access.Anonymous: 1})
			defer b.gate.SetLimits(access.Limits{access.Authenticated: 10_000, access.Anonymous: 10_000})
			send("spent", `{"content":"x"}`).must(201)
			a := send("spent", `{"content":"x"}`).refused(429, "RATE_LIMITED", "")
			retry, _ := strconv.Atoi(a.header.Get("Retry-After"))
			var remaining, left int
			if _, err := fmt.Sscanf(a.header.Get("RateLimit"), `"send";r=%d;t=%d`, &remaining, &left); err != nil || left > 60 || retry < left || retry > 61 {
				t.Errorf("%v, Retry-After %d", a.header, retry)
			}
		},
		"a repeat with a known key is served when the limit is spent": func(*testing.T) {
			first := send("known", `{"content":"x"}`, "Idempotency-Key", "known").must(201)
			b.gate.SetLimits(access.Limits{access.Authenticated: 1, access.Anonymous: 1})
			defer b.gate.SetLimits(access.Limits{access.Authenticated: 10_000, access.Anonymous: 10_000})
			if a := send("known", `{"content":"x"}`, "Idempotency-Key", "known").must(201); a.text("assistantMessage", "id") != first.text("assistantMessage", "id") {
				t.Error(a.raw)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			claim(t)
		})
	}
}
