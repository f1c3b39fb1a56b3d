package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"parley/domain/chat"
	"parley/domain/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func replyOf(t *testing.T, l Limits) (*Reply, *strings.Builder) {
	_, w := NewWatchdog(context.Background(), l.OrDefaults())
	t.Cleanup(w.Stop)
	var got strings.Builder
	return NewReply(w, "test", "m-1", func(d chat.Delta) {
		if !utf8.ValidString(d.Text) || d.Text == "" {
			t.Errorf("chunk %q", d.Text)
		}
		got.WriteString(d.Text)
	}), &got
}

// However a reply is cut into chunks, the same characters come out.
func TestReply_CutsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("ab é한😀\u200d\n\x00\x1b"))).Draw(rt, "text")
		r, got := replyOf(t, Limits{})
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, min(len(rest), 5)).Draw(rt, "cut")
			if err := r.Text(rest[:n]); err != nil {
				rt.Fatal(err)
			}
			rest = rest[n:]
		}
		if want, _ := chat.CleanOutput(text); got.String() != want {
			rt.Fatalf("%q became %q", text, got.String())
		}
	})
}

func TestReply_IsBounded(t *testing.T) {
	r, got := replyOf(t, Limits{MaxReply: 5})
	if err := r.Reasoning("한국"); err != nil {
		t.Fatal(err)
	}
	if err := r.Text("abc"); err != nil {
		t.Fatalf("exactly full: %v", err)
	}
	err := r.Text("d")
	if ReasonOf(err) != ReplyTooLong || got.String() != "한국abc" {
		t.Errorf("%q, %v", got.String(), err)
	}
}

func TestReply_FaultAfterBegin(t *testing.T) {
	r, _ := replyOf(t, Limits{})
	busy := Fail(Overloaded, errors.New("busy")).After(time.Second)
	if err := r.afterBegin(busy); !fault.Is(err, fault.AIUnavailable) || RetryAfter(err) != time.Second {
		t.Errorf("before it began: %v", err)
	}
	if err := r.Text("a"); err != nil {
		t.Fatal(err)
	}
	if err := r.afterBegin(busy); !fault.Is(err, fault.AIFailed) || ReasonOf(err) != Overloaded || RetryAfter(err) != 0 {
		t.Errorf("after it began: %v", err)
	}
}

func TestWatchdog(t *testing.T) {
	l := Limits{FirstToken: 10 * time.Second, Idle: 5 * time.Second}.OrDefaults()
	ended := func(ctx context.Context, begun time.Time) (Reason, time.Duration) {
		<-ctx.Done()
		return ReasonOf(Ended(ctx)), time.Since(begun)
	}
	for name, c := range map[string]struct {
		do     func(w *Watchdog)
		reason Reason
		after  time.Duration
	}{
		"FirstToken":       {func(*Watchdog) {}, FirstToken, 10 * time.Second},
		"PingsAreNoChunks": {func(w *Watchdog) { time.Sleep(9 * time.Second); w.KeepAlive() }, FirstToken, 10 * time.Second},
		"Idle":             {func(w *Watchdog) { time.Sleep(9 * time.Second); w.Begin() }, Idle, 14 * time.Second},
		"PingsCount":       {func(w *Watchdog) { w.Begin(); time.Sleep(4 * time.Second); w.KeepAlive() }, Idle, 9 * time.Second},
		"BeginsOnce":       {func(w *Watchdog) { w.Begin(); time.Sleep(4 * time.Second); w.Begin() }, Idle, 5 * time.Second},
		"GraceIsShort":     {func(w *Watchdog) { w.Begin(); w.Complete() }, Idle, grace},
		"PingsAreNoChunk":  {func(w *Watchdog) { w.Complete(); time.Sleep(time.Second); w.KeepAlive() }, Idle, grace},
		"GraceFromLast":    {func(w *Watchdog) { w.Complete(); time.Sleep(time.Second); w.Begin() }, Idle, grace + time.Second},
		"GraceFromFinish":  {func(w *Watchdog) { w.Complete(); time.Sleep(time.Second); w.Complete() }, Idle, grace + time.Second},
		"EndIsNoFailure":   {func(w *Watchdog) { w.Stop() }, Canceled, 0},
		"EndStopsTheClock": {func(w *Watchdog) { w.Begin(); w.Stop(); time.Sleep(time.Minute) }, Canceled, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				ctx, w := NewWatchdog(t.Context(), l)
				defer w.Stop()
				c.do(w)
				if reason, after := ended(ctx, begun); reason != c.reason || after != c.after {
					t.Errorf("%s after %v", reason, after)
				}
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		key, value string
		want       time.Duration
	}{
		"Seconds":   {"Retry-After", "7", 7 * time.Second},
		"Fraction":  {"Retry-After", "0.5", 500 * time.Millisecond},
		"Millis":    {"Retry-After-Ms", "250", 250 * time.Millisecond},
		"Date":      {"Retry-After", "Thu, 01 Jan 2026 12:00:30 GMT", 30 * time.Second},
		"PastDate":  {"Retry-After", "Thu, 01 Jan 2026 11:00:00 GMT", 0},
		"Negative":  {"Retry-After", "-5", 0},
		"Nonsense":  {"Retry-After", "soon", 0},
		"Endless":   {"Retry-After", "1e300", 24 * time.Hour},
		"NotNumber": {"Retry-After", "NaN", 0},
		"Absent":    {"Other", "1", 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			h.Set(c.key, c.value)
			if got := retryAfter(h, now); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}

// A provider's words reach a log only as short plain labels.
func TestRefusal_IsPlain(t *testing.T) {
	h := http.Header{}
	h.Set("X-Request-Id", "req\n1\x1b[31m")
	err := Refusal{
		Status: 400, Type: "odd \"type\"\n" + strings.Repeat("x", 1000), Code: "c", Message: "your key sk-123 is bad", Header: h,
	}.Fault()
	text := fmt.Sprint(err)
	if strings.ContainsAny(text, "\n\x1b") || strings.Contains(text, "sk-123") || len(text) > 250 {
		t.Errorf("%q", text)
	}
	if ReasonOf(err) != BadRequest {
		t.Errorf("reason %q", ReasonOf(err))
	}
}

func TestEveryReasonHasItsTraits(t *testing.T) {
	for r := range traitsOf {
		if f := Fail(r, nil); f.Details["reason"] != string(r) || (f.Kind == fault.AIUnavailable) != traitsOf[r].unavailable {
			t.Errorf("%s: %+v", r, f)
		}
		if r.Retry() && !r.Failover() {
			t.Errorf("%s: what is worth a second try is worth another provider", r)
		}
	}
}

// TestBroken_NamesWhyThereIsNoConnection: a name that is not resolved and a
// certificate that is not valid are told apart from a server that does not listen.
func TestBroken_NamesWhyThereIsNoConnection(t *testing.T) {
	quiet := log.New(io.Discard, "", 0)
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = quiet
	untrusted.StartTLS()
	defer untrusted.Close()
	plain := httptest.NewUnstartedServer(http.NotFoundHandler())
	plain.Config.ErrorLog = quiet
	plain.Start()
	defer plain.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	noNames := func(next http.RoundTripper) http.RoundTripper {
		t := next.(*http.Transport).Clone()
		t.DialContext = (&net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no name server")
		}}}).DialContext
		return t
	}
	for name, c := range map[string]struct {
		url  string
		wrap func(http.RoundTripper) http.RoundTripper
		want Reason
	}{
		"NoSuchName":           {url: "https://provider.test/v1", wrap: noNames, want: DNSFailed},
		"UntrustedCertificate": {url: untrusted.URL + "/v1", want: TLSFailed},
		"NoTLSAtAll":           {url: strings.Replace(plain.URL, "http:", "https:", 1) + "/v1", want: TLSFailed},
		"NotListening":         {url: closed.URL + "/v1", want: Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := NewEndpoint("openai", c.url, nil, Client{Wrap: c.wrap})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			ctx, watchdog := e.Watch(t.Context())
			defer watchdog.Stop()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := e.HTTP.Do(req)
			if err == nil {
				resp.Body.Close()
				t.Fatalf("an answer: %s", resp.Status)
			}
			broken := Broken(ctx, err)
			if ReasonOf(broken) != c.want || !fault.Is(broken, fault.AIUnavailable) || strings.Contains(broken.Error(), "/v1") {
				t.Errorf("%s, want %s: %v", ReasonOf(broken), c.want, broken)
			}
		})
	}
}
