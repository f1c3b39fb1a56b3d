package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/adapters/httpapi"
	"parley/domain/access"
	"parley/platform/testing/testdb"
)

// BenchmarkNotFound times refusals of ids that are another user's, that are
// nobody's, and that cannot be any, by turns, at every place where a route takes
// an id. It reports the median of the unknown ones and how the medians of the
// others compare: a caller who could tell foreign from unknown would know what
// exists. One operation is one request of each kind.
func BenchmarkNotFound(b *testing.B) {
	for name, database := range map[string]func() string{
		"SQLite":   func() string { return "" },
		"Postgres": func() string { return testdb.Postgres(b) },
	} {
		b.Run(name, func(b *testing.B) { timeRefusals(b, database()) })
	}
}

func timeRefusals(b *testing.B, database string) {
	w := setup(b, func(s *settings) {
		s.database = database
		s.limits = access.Limits{access.Authenticated: 1 << 30, access.Anonymous: 1 << 30}
	})
	conversation := w.do("alice", "POST", "/api/chat/conversations", `{"title":"Hers"}`).must(201).text("id")
	sent := w.do("alice", "POST", "/api/chat/messages", `{"content":"Hers","conversationId":"`+conversation+`"}`).must(201)
	const unknown, malformed = "0199a5f0-1111-7111-8111-111111111111", "a b/../c"
	type place struct {
		route   httpapi.Route
		field   httpapi.Field
		foreign string
	}
	var places []place
	for _, route := range w.api.Routes() {
		for _, field := range route.Fields {
			switch {
			case field.Ref == "" || strings.HasPrefix(field.Ref, "new "):
			case strings.Contains(field.Ref, "conversation"):
				places = append(places, place{route, field, conversation})
			default:
				places = append(places, place{route, field, sent.text("assistantMessage", "id")})
			}
		}
	}
	bearer := "Bearer " + token(b, "bob")
	once := func(p place, id string) time.Duration {
		target, body := fill(p.route, p.field, id)
		req := httptest.NewRequest(p.route.Method, target, strings.NewReader(body))
		req.Header.Set("Authorization", bearer)
		req.Header.Set("Content-Type", "application/json")
		if body == "" {
			req.Body = http.NoBody
		}
		answer := httptest.NewRecorder()
		begun := time.Now()
		w.api.ServeHTTP(answer, req)
		took := time.Since(begun)
		if answer.Code != http.StatusNotFound {
			b.Fatalf("%s with %s: %d %s", p.route.Label(), id, answer.Code, answer.Body)
		}
		return took
	}
	var took [3][]time.Duration
	for i := 0; b.Loop(); i++ {
		p := places[i%len(places)]
		ids := [3]string{p.foreign, unknown, malformed}
		for k := range ids { // each is as often the first as the others
			k = (k + i/len(places)) % 3
			took[k] = append(took[k], once(p, ids[k]))
		}
	}
	median := func(k int) float64 {
		slices.Sort(took[k])
		return float64(took[k][len(took[k])/2])
	}
	b.ReportMetric(median(1)/1e3, "unknown-µs")
	b.ReportMetric(median(0)/median(1), "foreign/unknown")
	b.ReportMetric(median(2)/median(1), "malformed/unknown")
	b.ReportMetric(float64(len(places)), "places")
}
