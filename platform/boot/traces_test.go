package boot_test

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector receives traces over OTLP.
type collector struct {
	url   string
	mu    sync.Mutex
	spans []*tracepb.Span
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		raw, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
			return
		}
		var req collectorpb.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &req); err != nil {
			t.Error(err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range req.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// A turn can be followed from the caller's trace through the request to its
// statements, and nothing that was said is in it.
func TestServe_Traces(t *testing.T) {
	databases(t, func(t *testing.T, env []string) {
		c := startCollector(t)
		p := start(t, append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.url)...)
		const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
		sent := call(t, "POST", p.url+"/api/chat/messages", message("!echo canary"), bearer(t, env, "alice"),
			"traceparent: 00-"+trace+"-"+parent+"-01")
		if sent.status != http.StatusCreated {
			t.Fatalf("%d %s", sent.status, sent.body)
		}
		// A run in the making, which two other requests are about.
		made := call(t, "POST", p.url+"/api/chat/messages", `{"content":"!hang", "background":true}`, bearer(t, env, "alice"))
		var run struct{ RunID string }
		if err := json.Unmarshal([]byte(made.body), &run); err != nil || run.RunID == "" {
			t.Fatalf("%d %s", made.status, made.body)
		}
		follow, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/api/chat/messages/"+run.RunID+"/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		name, value, _ := strings.Cut(bearer(t, env, "alice"), ": ")
		follow.Header.Set(name, value)
		reading, err := http.DefaultClient.Do(follow)
		if err != nil {
			t.Fatal(err)
		}
		defer reading.Body.Close()
		call(t, "POST", p.url+"/api/chat/messages/"+run.RunID+"/stop", "{}", bearer(t, env, "alice"))
		if _, err := io.Copy(io.Discard, reading.Body); err != nil { // to its end
			t.Error(err)
		}
		if code := p.terminate(); code != 0 { // which sends what is left
			t.Errorf("exit code %d", code)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		var request *tracepb.Span
		names := map[string]int{}
		for _, s := range c.spans {
			names[s.Name]++
			if s.Name == "POST /api/chat/messages" && request == nil {
				request = s
			}
			if strings.Contains(s.String(), "canary") {
				t.Errorf("the span %s shows what was said", s.Name)
			}
		}
		if request == nil || hex.EncodeToString(request.TraceId) != trace || hex.EncodeToString(request.ParentSpanId) != parent {
			t.Fatalf("the request is not in its caller's trace: %v", names)
		}
		// One tree: whatever belongs to the trace hangs under the request.
		byID, inTree := map[string]*tracepb.Span{}, map[string]int{}
		for _, s := range c.spans {
			byID[string(s.SpanId)] = s
		}
		for _, s := range c.spans {
			if hex.EncodeToString(s.TraceId) != trace {
				continue
			}
			top := s
			for byID[string(top.ParentSpanId)] != nil {
				top = byID[string(top.ParentSpanId)]
			}
			if top != request {
				t.Errorf("%s is in the trace, but under %s", s.Name, top.Name)
			}
			name, _, _ := strings.Cut(s.Name, ":") // without what the statements are
			inTree[name]++
		}
		for _, name := range []string{"admit", "finish", "chat demo"} {
			if inTree[name] == 0 {
				t.Errorf("no span %q under the request; all: %v", name, names)
			}
		}
		var begun *tracepb.Span
		for _, s := range c.spans {
			if s.Name == request.Name && s != request {
				begun = s
			}
		}
		// Those who come back to the run link to the request that began it.
		for _, name := range []string{"GET /api/chat/messages/{id}/stream", "POST /api/chat/messages/{id}/stop"} {
			linked := false
			for _, s := range c.spans {
				for _, l := range s.Links {
					linked = linked || s.Name == name && hex.EncodeToString(l.TraceId) == hex.EncodeToString(begun.TraceId)
				}
			}
			if !linked {
				t.Errorf("%s has no link to the request that began the run", name)
			}
		}
	})
}
