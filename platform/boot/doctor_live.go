package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"parley/adapters/identity"
	"parley/domain/access"
	"parley/platform/config"
)

// answer is a response of the API.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) field(path ...string) string {
	var v any
	if json.Unmarshal(a.body, &v) != nil {
		return ""
	}
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[name]
	}
	s, _ := v.(string)
	return s
}

// doctorUser is the user that sends doctor's requests.
const doctorUser = "parley-doctor"

// seeLog is the remedy for an answer that is not as it must be.
const seeLog = "compare with docs/api.md, and read the log of the instance and of the proxy"

// must reports a check as passed or failed; because describes what was found
// instead.
func (r *examination) must(ok bool, what, because string, args ...any) bool {
	if ok {
		r.OK("api.answers", "%s", what)
	} else {
		r.Fail("api.answers", seeLog, "%s: %s", what, fmt.Sprintf(because, args...))
	}
	return ok
}

// live sends requests to a running API as a test user, and deletes what it has
// created.
func (r *examination) live(ctx context.Context, address string, c config.Config) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		r.Fail("api.address", "give --url an address with its scheme, such as https://chat.example.com", "%q has no scheme", address)
		return
	}
	if u.Scheme == "https" {
		r.certificate(ctx, u)
	}
	client := &http.Client{Timeout: 60 * time.Second}
	base := strings.TrimSuffix(address, "/")
	token := ""
	ask := func(method, path, body string, headers ...string) answer {
		req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewBufferString(body))
		if err != nil {
			return answer{}
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		for i := 0; i+1 < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			return answer{}
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return answer{resp.StatusCode, resp.Header, text}
	}

	health := ask("GET", "/api/health", "")
	if health.status == 0 {
		r.Fail("api.address", "start the instance and the proxy, or correct --url", "no response from %s", u.Host)
		return
	}
	if health.field("status") == "" {
		r.Fail("api.address", "let the proxy pass /api/ to the instances, or correct --url", "what answers at %s is not Parley (status %d)", u.Host, health.status)
		return
	}
	r.OK("api.address", "Parley answers")
	r.must(health.status == http.StatusOK, "health is "+health.field("status"), "status %d", health.status)

	denied := ask("GET", "/api/chat/messages?limit=10", "")
	r.must(denied.status == http.StatusUnauthorized, "a request without a credential is refused", "status %d", denied.status)
	lost := ask("GET", "/api/chat/no-such-route", "")
	r.must(lost.status == http.StatusNotFound && strings.HasPrefix(lost.header.Get("Content-Type"), "application/problem+json") && lost.field("requestId") != "",
		"errors are problem details with a request id", "status %d, %s", lost.status, lost.header.Get("Content-Type"))
	foreign := ask("OPTIONS", "/api/chat/messages", "", "Origin", "https://not-yours.example", "Access-Control-Request-Method", "POST")
	r.must(foreign.header.Get("Access-Control-Allow-Origin") == "", "CORS admits no unknown origin", "it admits %s", foreign.header.Get("Access-Control-Allow-Origin"))

	list, _, err := secrets(c)
	if err == nil {
		token, err = identity.Mint(list[0], identity.Grant{UserID: doctorUser, Tier: access.Authenticated, TTL: 10 * time.Minute, Now: time.Now()})
	}
	if !r.must(err == nil, "a test token can be made", "%v", err) {
		return
	}
	blank := ask("POST", "/api/chat/messages", `{"content":"  "}`)
	if blank.status == http.StatusUnauthorized {
		r.Fail("api.answers", "run doctor with the settings of the instance", "our token is refused: it runs with another AUTH_SECRET")
		return
	}
	if blank.status == http.StatusServiceUnavailable {
		r.Warn("api.answers", "run: parley chat status", "chat is disabled there, or the instance is not ready")
		return
	}
	r.must(blank.status == http.StatusBadRequest && blank.field("error", "code") == "INVALID_INPUT", "blank messages are refused", "status %d", blank.status)
	long := ask("POST", "/api/chat/messages", `{"content":"`+strings.Repeat("x", 10_001)+`"}`)
	r.must(long.status == http.StatusBadRequest, "messages over 10,000 characters are refused", "status %d", long.status)

	conversation := ask("POST", "/api/chat/conversations", `{"title":"parley doctor"}`)
	id := conversation.field("id")
	if !r.must(conversation.status == http.StatusCreated && id != "", "a conversation can be made", "status %d", conversation.status) {
		return
	}
	defer func() {
		gone := ask("DELETE", "/api/chat/conversations?id="+id, "")
		r.must(gone.status == http.StatusOK, "the conversation can be deleted", "status %d", gone.status)
	}()
	const text = "Answer with one word. <script>alert(1)</script>"
	body, _ := json.Marshal(map[string]any{"content": text, "conversationId": id, "maxTokens": 64})
	begun := time.Now()
	sent := ask("POST", "/api/chat/messages", string(body))
	if r.must(sent.status == http.StatusCreated, "a message gets a reply", "status %d, %s", sent.status, sent.field("message")) {
		r.OK("api.answers", "it took %s", time.Since(begun).Round(time.Millisecond))
		r.must(sent.field("userMessage", "content") == text, "text is returned as it was sent", "it was changed")
		if bytes.Contains(sent.body, []byte(`"demo":true`)) {
			r.Warn("api.answers", "set a key of a provider", "the demo provider wrote it, which is not AI")
		}
	}
	r.must(sent.header.Get("X-RateLimit-Limit") != "", "rate limits are announced", "no X-RateLimit-Limit")
	history := ask("GET", "/api/chat/messages?limit=10&conversationId="+id, "")
	r.must(history.status == http.StatusOK && bytes.Contains(history.body, []byte(sent.field("userMessage", "id"))), "the history contains it", "status %d", history.status)
	demo := bytes.Contains(sent.body, []byte(`"demo":true`))
	r.transport(ctx, base, token, id, demo)
	r.audited(ctx, c)
	r.metrics(ctx, c)
}

// audited looks for the audit entry of the message that live has sent, in the
// configured database, which must be the API's own.
func (r *examination) audited(ctx context.Context, c config.Config) {
	store, err := openStore(ctx, c)
	if err != nil {
		return // reported before
	}
	defer store.Close()
	var n int
	err = store.DB().QueryRowContext(ctx, "SELECT count(*) FROM audit_logs WHERE user_id = '"+doctorUser+
		"' AND action = 'chat.message_sent' AND status = 'success'").Scan(&n)
	r.must(err == nil && n > 0, "the audit log has an entry for it", "no entry; is this the API's own database?")
}

func (r *examination) metrics(ctx context.Context, c config.Config) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Server.AdminAddr+"/metrics", nil)
	if err != nil {
		return
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err == nil {
		resp.Body.Close()
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		r.Warn("api.metrics", "set ADMIN_ADDR to that of the instance, or run doctor beside it", "nothing is served at %s/metrics from here", c.Server.AdminAddr)
		return
	}
	r.OK("api.metrics", "served at %s/metrics", c.Server.AdminAddr)
}
