package boot_test

import (
	"compress/gzip"
	"encoding/hex"
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
		if code := p.terminate(); code != 0 { // which sends what is left
			t.Errorf("exit code %d", code)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		var request *tracepb.Span
		names := map[string]int{}
		for _, s := range c.spans {
			names[s.Name]++
			if s.Name == "POST /api/chat/messages" {
				request = s
			}
			if strings.Contains(s.String(), "canary") {
				t.Errorf("the span %s shows what was said", s.Name)
			}
		}
		if request == nil || hex.EncodeToString(request.TraceId) != trace || hex.EncodeToString(request.ParentSpanId) != parent {
			t.Fatalf("the request is not in its caller's trace: %v", names)
		}
		statements := 0
		for _, s := range c.spans {
			if string(s.ParentSpanId) == string(request.SpanId) && s.Name == "admit" {
				statements++
			}
		}
		if statements == 0 || names["chat demo"] != 1 {
			t.Errorf("spans: %v", names)
		}
	})
}
