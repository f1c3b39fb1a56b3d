package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"parley/domain/audit"
)

// TestSend_BadInput: every refusal has its status, its code and its sentence;
// nothing is stored; the process lives.
func TestSend_BadInput(t *testing.T) { onBoth(t, badInput) }

func badInput(t *testing.T, b *bench) {
	text := func(s string) string { return `{"content":"` + s + `"}` }
	const json = "Invalid JSON in request body"
	const unicode = "Request body must be valid Unicode text"
	const control = "Text must not contain control characters"
	for name, tt := range map[string]struct {
		body    string
		status  int
		code    string
		says    string
		headers []string
	}{
		"NoContent":         {`{}`, 400, "INVALID_INPUT", "Message content is required", nil},
		"EmptyContent":      {text(""), 400, "INVALID_INPUT", "Message content is required", nil},
		"NullContent":       {`{"content":null}`, 400, "INVALID_INPUT", "Message content is required", nil},
		"NumberContent":     {`{"content":7}`, 400, "INVALID_INPUT", "Message content is required", nil},
		"ObjectContent":     {`{"content":{"$ne":null}}`, 400, "INVALID_INPUT", "Message content is required", nil},
		"BlankContent":      {text(" \\n\\t\u3000"), 400, "INVALID_INPUT", "Message content cannot be empty", nil},
		"10001CodePoints":   {text(strings.Repeat("é", 10_001)), 400, "INVALID_INPUT", "Message cannot exceed 10000 characters", nil},
		"10001Emoji":        {text(strings.Repeat("😀", 10_001)), 400, "INVALID_INPUT", "Message cannot exceed 10000 characters", nil},
		"NUL":               {text(`a\u0000b`), 400, "INVALID_INPUT", control, nil},
		"Escape":            {text(`\u001b[31m`), 400, "INVALID_INPUT", control, nil},
		"RawNUL":            {text("a\x00b"), 400, "INVALID_INPUT", json, nil},
		"LoneSurrogate":     {text(`\ud800`), 400, "INVALID_INPUT", unicode, nil},
		"InvalidUTF8":       {text("\xff\xfe"), 400, "INVALID_INPUT", unicode, nil},
		"MetadataNUL":       {`{"content":"x","metadata":{"a":["\u0000"]}}`, 400, "INVALID_INPUT", control, nil},
		"MetadataKeyNUL":    {`{"content":"x","metadata":{"\u0000":1}}`, 400, "INVALID_INPUT", control, nil},
		"MetadataText":      {`{"content":"x","metadata":"y"}`, 400, "INVALID_INPUT", "metadata must be an object", nil},
		"MetadataHuge":      {`{"content":"x","metadata":{"a":1e999}}`, 400, "INVALID_INPUT", "Numbers must be in the range of a double and have at most 400 characters", nil},
		"Null":              {`null`, 400, "INVALID_INPUT", json, nil},
		"Array":             {`[{"content":"x"}]`, 400, "INVALID_INPUT", json, nil},
		"Trailing":          {text("x") + `{}`, 400, "INVALID_INPUT", json, nil},
		"SameKey":           {`{"content":"x","content":"y"}`, 400, "INVALID_INPUT", "Invalid JSON in request body: duplicate key", nil},
		"WrongCase":         {`{"Content":"x"}`, 400, "INVALID_INPUT", `Unknown field "Content"`, nil},
		"UnknownField":      {`{"content":"x","api_base":"http://evil"}`, 400, "INVALID_INPUT", `Unknown field "api_base"`, nil},
		"UnknownFieldText":  {`{"content":"x","my dearest secret":1}`, 400, "INVALID_INPUT", "Unknown field in request body", nil},
		"OwnField":          {`{"content":"x","userId":"alice"}`, 400, "INVALID_INPUT", `Unknown field "userId"`, nil},
		"Depth33":           {`{"content":"x","metadata":` + strings.Repeat(`{"a":`, 32) + "1" + strings.Repeat("}", 32) + `}`, 400, "INVALID_INPUT", "Request body is nested deeper than 32 levels", nil},
		"NotJSON":           {`content=x`, 400, "INVALID_INPUT", json, nil},
		"ConversationType":  {`{"content":"x","conversationId":7}`, 400, "INVALID_INPUT", "Invalid conversation ID", nil},
		"UnknownConv":       {`{"content":"x","conversationId":"nope"}`, 404, "NOT_FOUND", "Conversation not found or access denied", nil},
		"MalformedConv":     {`{"content":"x","conversationId":"a b"}`, 404, "NOT_FOUND", "Conversation not found or access denied", nil},
		"MalformedID":       {`{"content":"x","id":"a/b"}`, 400, "INVALID_INPUT", "Invalid message ID", nil},
		"WhenBusy":          {`{"content":"x","whenBusy":"panic"}`, 400, "INVALID_INPUT", "whenBusy must be reject, queue or interrupt", nil},
		"Background":        {`{"content":"x","background":"yes"}`, 400, "INVALID_INPUT", "background must be true or false", nil},
		"StreamBackground":  {`{"content":"x","background":true,"stream":true}`, 400, "INVALID_INPUT", "A reply is either streamed or made in the background", nil},
		"Temperature":       {`{"content":"x","temperature":2.1}`, 400, "INVALID_INPUT", "temperature must be between 0 and 2", nil},
		"TemperatureText":   {`{"content":"x","temperature":"hot"}`, 400, "INVALID_INPUT", "temperature must be between 0 and 2", nil},
		"MaxTokens":         {`{"content":"x","maxTokens":0}`, 400, "INVALID_INPUT", "maxTokens must be between 1 and 1000000", nil},
		"MaxTokensFraction": {`{"content":"x","maxTokens":1.5}`, 400, "INVALID_INPUT", "maxTokens must be between 1 and 1000000", nil},
		"Reasoning":         {`{"content":"x","reasoning":"extreme"}`, 400, "INVALID_INPUT", "reasoning must be low, medium or high", nil},
		"SystemControl":     {`{"content":"x","system":"\u0001"}`, 400, "INVALID_INPUT", control, nil},
		"ModelControl":      {`{"content":"x","model":"\u001b"}`, 400, "INVALID_INPUT", "Invalid model", nil},
		"LongKey":           {text("x"), 400, "INVALID_INPUT", "Idempotency key cannot exceed 255 characters", []string{"Idempotency-Key", strings.Repeat("k", 256)}},
		"EmptyKey":          {text("x"), 400, "INVALID_INPUT", "Idempotency key cannot be empty", []string{"Idempotency-Key", `""`}},
		"OddKey":            {text("x"), 400, "INVALID_INPUT", "Idempotency key must be printable ASCII", []string{"Idempotency-Key", "ключ"}},
		"BadQuery":          {text("x"), 400, "INVALID_INPUT", "Invalid query string", []string{"?", "%zz"}},
		"StreamQuery":       {text("x"), 400, "INVALID_INPUT", "stream must be true or false", []string{"?", "stream=maybe"}},
		"NoContentType":     {text("x"), 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type must be application/json", []string{"Content-Type", ""}},
		"TextPlain":         {text("x"), 415, "UNSUPPORTED_MEDIA_TYPE", "", []string{"Content-Type", "text/plain"}},
		"Form":              {"content=x", 415, "UNSUPPORTED_MEDIA_TYPE", "", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		"Latin1":            {text("x"), 415, "UNSUPPORTED_MEDIA_TYPE", "", []string{"Content-Type", "application/json; charset=latin1"}},
		"Gzip":              {text("x"), 415, "UNSUPPORTED_MEDIA_TYPE", "", []string{"Content-Encoding", "gzip"}},
		"Identity":          {text("x"), 415, "UNSUPPORTED_MEDIA_TYPE", "", []string{"Content-Encoding", "identity"}},
		"TooLarge":          {text(strings.Repeat("x", 129<<10)), 413, "PAYLOAD_TOO_LARGE", "Request body cannot exceed 131072 bytes", nil},
		"AcceptHTML":        {text("x"), 406, "NOT_ACCEPTABLE", "This address answers with application/json", []string{"Accept", "text/html, image/*"}},
		"AcceptNotJSON":     {text("x"), 406, "NOT_ACCEPTABLE", "", []string{"Accept", "application/json;q=0, */*;q=0"}},
	} {
		for _, path := range []string{"/api/chat/messages", "/api/chat/stream"} {
			if strings.HasPrefix(name, "Accept") && path == "/api/chat/stream" {
				continue
			}
			t.Run(name+path[len("/api/chat"):], func(t *testing.T) {
				b.t = t
				target, headers := path, tt.headers
				if len(headers) == 2 && headers[0] == "?" {
					target, headers = path+"?"+headers[1], nil
				}
				a := b.do("ann", "POST", target, tt.body, headers...).refused(tt.status, tt.code, tt.says)
				if strings.Contains(a.raw, "dearest") {
					t.Errorf("leaks %s", a.raw)
				}
			})
		}
	}
	b.t = t
	if rows := b.rows(); rows != "chat_conversations 0, chat_messages 0, chat_runs 0" {
		t.Error(rows)
	}
	b.alive()
}

func TestSend_GoodInput(t *testing.T) {
	b := setup(t)
	for name, content := range map[string]string{
		"10000Emoji":  strings.Repeat("😀", 10_000),
		"Script":      `<script>alert("x")</script> & O'Hara`,
		"Joiners":     "👩‍👩‍👧 שלום \u200f",
		"Whitespace":  "  kept as typed\r\n\t",
		"OneChar":     "x",
		"NotEscaped":  `&lt;b&gt;`,
		"LineBreaks":  "a\u2028b\u2029",
		"Replacement": "\ufffd",
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			a := b.do("ann", "POST", "/api/chat/messages", `{"content":`+quote(content)+`}`).must(201)
			if got := a.text("userMessage", "content"); got != content {
				t.Errorf("came back as %.80q (%d)", got, utf8.RuneCountInString(got))
			}
			id := a.text("userMessage", "id")
			page := b.do("ann", "GET", "/api/chat/messages?leaf="+id+"&limit=1", "").must(200)
			if got := page.get("messages").([]any)[0].(map[string]any)["content"]; got != content {
				t.Errorf("stored as %.80q", got)
			}
		})
	}
	t.Run("FullyEscapedEmoji", func(t *testing.T) {
		b.t = t
		a := b.do("ann", "POST", "/api/chat/messages", `{"content":"`+strings.Repeat(`\ud83d\ude00`, 10_000)+`"}`).must(201)
		if n := utf8.RuneCountInString(a.text("userMessage", "content")); n != 10_000 {
			t.Errorf("%d code points", n)
		}
	})
	t.Run("CharsetUTF8", func(t *testing.T) {
		b.t = t
		b.do("ann", "POST", "/api/chat/messages", `{"content":"x"}`, "Content-Type", "application/json; charset=UTF-8", "Accept", "text/plain, */*;q=0.1").must(201)
	})
}

// quote is a JSON string without any escape but the necessary ones.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\r", `\r`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}

// TestBody_Chunked: a body that does not say how long it is has the same bound.
func TestBody_Chunked(t *testing.T) {
	b := setup(t)
	for _, tt := range []struct {
		size, status int
	}{{1000, 201}, {200 << 10, 413}} {
		conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		body := `{"content":"` + strings.Repeat("x", min(tt.size, 1000)) + `"` + strings.Repeat(" ", tt.size-min(tt.size, 1000)) + `}`
		go func() {
			fmt.Fprintf(conn, "POST /api/chat/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"+
				"Authorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n", token(t, "ann"))
			for len(body) > 0 {
				n := min(len(body), 4000)
				if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", n, body[:n]); err != nil {
					return
				}
				body = body[n:]
			}
			fmt.Fprint(conn, "0\r\n\r\n")
		}()
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		conn.Close()
		if res.StatusCode != tt.status {
			t.Errorf("%d bytes: %d", tt.size, res.StatusCode)
		}
	}
}

// TestBody_Slow: a client that sends its body slowly holds nothing for long, whether the
// request would be let in or not.
func TestBody_Slow(t *testing.T) {
	t.Parallel()
	b := setup(t, func(s *settings) { s.ReadTimeout = 150 * time.Millisecond })
	for name, tt := range map[string]struct {
		credential string
		status     int
	}{"LetIn": {token(t, "ann"), 400}, "Refused": {"garbage", 401}} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			fmt.Fprintf(conn, "POST /api/chat/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
				"Authorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n{", tt.credential)
			in := bufio.NewReader(conn)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != tt.status {
				t.Errorf("status %d, %v", res.StatusCode, err)
			}
			if _, err := in.ReadByte(); err != io.EOF {
				t.Errorf("the connection is kept: %v", err)
			}
		})
	}
}

// TestBody_ReadInTime: the deadline of a body does not end the wait for its reply.
func TestBody_ReadInTime(t *testing.T) {
	t.Parallel()
	b := setup(t, scripted, func(s *settings) { s.ReadTimeout = 50 * time.Millisecond })
	later := b.sendLater("ann", "/api/chat/messages", `{"content":"x"}`)
	call := b.model.Next()
	time.Sleep(150 * time.Millisecond)
	call.Say("late")
	call.Done()
	(<-later).must(201)
}

// TestQuery_BadInput: parameters are checked as bodies are.
func TestQuery_BadInput(t *testing.T) { onBoth(t, badQueries) }

func badQueries(t *testing.T, b *bench) {
	for target, tt := range map[string]struct{ code, says string }{
		"/api/chat/messages?limit=abc":                {"INVALID_INPUT", "Limit must be between 1 and 100"},
		"/api/chat/messages?limit=0":                  {"INVALID_INPUT", "Limit must be between 1 and 100"},
		"/api/chat/messages?limit=101":                {"INVALID_INPUT", "Limit must be between 1 and 100"},
		"/api/chat/messages?limit=-1":                 {"INVALID_INPUT", "Limit must be between 1 and 100"},
		"/api/chat/messages?limit=":                   {"INVALID_INPUT", "Limit must be between 1 and 100"},
		"/api/chat/messages?limit=1e1":                {"INVALID_INPUT", "Limit must be between 1 and 100"},
		"/api/chat/messages?limit=5&limit=6":          {"INVALID_INPUT", "limit is given more than once"},
		"/api/chat/messages?offset=-1":                {"INVALID_INPUT", "Offset must be non-negative"},
		"/api/chat/messages?offset=x":                 {"INVALID_INPUT", "Offset must be non-negative"},
		"/api/chat/messages?offset=99999999999999999": {"INVALID_INPUT", "Offset must be non-negative"},
		"/api/chat/messages?before=x":                 {"INVALID_INPUT", "Invalid cursor"},
		"/api/chat/messages?before=":                  {"INVALID_INPUT", "Invalid cursor"},
		"/api/chat/messages?before=YQ&after=YQ":       {"INVALID_INPUT", "Give only one of offset, before and after"},
		"/api/chat/messages?offset=1&after=YQ":        {"INVALID_INPUT", "Give only one of offset, before and after"},
		"/api/chat/messages?leaf=current&offset=1":    {"INVALID_INPUT", "A branch is read from its leaf: leave out offset, before and after"},
		"/api/chat/messages?limit=%zz":                {"INVALID_INPUT", "Invalid query string"},
		"/api/chat/messages?limit=1;offset=2":         {"INVALID_INPUT", "Invalid query string"},
		"/api/chat/conversations?limit=NaN":           {"INVALID_INPUT", "Limit must be between 1 and 100"},
		"/api/chat/conversations?offset=-5":           {"INVALID_INPUT", "Offset must be non-negative"},
		"/api/chat/messages/x/stream?after=abc":       {"INVALID_INPUT", "Invalid cursor"},
		"/api/chat/messages/x/stream?after=-1":        {"INVALID_INPUT", "Invalid cursor"},
	} {
		t.Run(target, func(t *testing.T) {
			b.t = t
			b.do("ann", "GET", target, "").refused(400, tt.code, tt.says)
		})
	}
}

// TestNoRoute: what does not exist is a problem too, not the router's text.
func TestNoRoute(t *testing.T) {
	b := setup(t)
	for _, tt := range []struct {
		method, target string
		status         int
		allow          string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/nope", 404, ""},
		{"GET", "/api/chat/messages/", 404, ""},
		{"GET", "//api/chat/messages", 404, ""},
		{"GET", "/api/./health", 404, ""},
		{"GET", "/api/chat/../health", 404, ""},
		{"GET", "/.env", 404, ""},
		{"DELETE", "/api/chat/messages", 405, "GET, HEAD, OPTIONS, POST"},
		{"PUT", "/api/chat/conversations", 405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST"},
		{"GET", "/api/chat/stream", 405, "OPTIONS, POST"},
		{"POST", "/api/health", 405, "GET, HEAD, OPTIONS"},
		{"HEAD", "/api/chat/live", 405, "GET, OPTIONS"},
		{"BREW", "/api/health", 405, "GET, HEAD, OPTIONS"},
	} {
		t.Run(tt.method+tt.target, func(t *testing.T) {
			b.t = t
			a := b.do("ann", tt.method, tt.target, "")
			if tt.method == "HEAD" {
				a.must(tt.status)
			} else {
				a.refused(tt.status, map[int]string{404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}[tt.status], "")
			}
			if a.header.Get("Allow") != tt.allow {
				t.Errorf("Allow: %q", a.header.Get("Allow"))
			}
		})
	}
	b.t = t
	if a := b.do("", "OPTIONS", "/api/chat/messages", "").must(204); a.header.Get("Allow") != "GET, HEAD, OPTIONS, POST" {
		t.Errorf("Allow: %q", a.header.Get("Allow"))
	}
	if a := b.do("ann", "HEAD", "/api/chat/messages", "").must(200); a.raw != "" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %q %v", a.raw, a.header)
	}
}

// TestEmptyBodies: a body that is missing or null harms no route.
func TestEmptyBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, route := range b.api.Routes() {
		if route.Stream && route.Method == "GET" {
			continue
		}
		for _, body := range []string{"", "null", "{}", "[]", `""`} {
			target := strings.ReplaceAll(route.Path, "{id}", "nope")
			a := b.do("ann", route.Method, target, body, "Content-Type", "application/json")
			if a.status >= 500 || a.status == 0 {
				t.Errorf("%s with %q: %d %s", route.Label(), body, a.status, a.raw)
			}
		}
	}
	b.alive()
}

// TestCaller_CannotBreakTheAudit: what a client says about itself is stored as
// text that every database takes.
func TestCaller_CannotBreakTheAudit(t *testing.T) {
	b := setup(t)
	conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /api/chat/conversations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n"+
		"Authorization: Bearer %s\r\nUser-Agent: \xff\xfe bad\tagent %s\r\n\r\n", token(t, "ann"), strings.Repeat("é", 600))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	var agent, ip string
	err = b.store.DB().QueryRow("SELECT user_agent, ip_address FROM audit_logs WHERE action = ?", audit.ActionConversationCreated).Scan(&agent, &ip)
	if err != nil || res.StatusCode != 201 {
		t.Fatalf("%d, %v", res.StatusCode, err)
	}
	if !utf8.ValidString(agent) || len(agent) > 512 || !strings.HasPrefix(agent, "\ufffd bad agent é") || ip != "127.0.0.1" {
		t.Errorf("%q from %q", agent, ip)
	}
}
