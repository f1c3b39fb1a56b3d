package stub

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// RecordedTransport answers every request with the same event stream, without
// a network, and therefore also with the fake clock of testing/synctest.
type RecordedTransport struct {
	Chunks []string
	Pace   time.Duration // before every chunk but the first
}

// Wrap is a provider's Config.Wrap.
func (t *RecordedTransport) Wrap(http.RoundTripper) http.RoundTripper { return t }

// RoundTrip implements http.RoundTripper.
func (t *RecordedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"text/event-stream"}},
		Body:   &recordedBody{ctx: r.Context(), chunks: slices.Clone(t.Chunks), pace: t.Pace},
	}, nil
}

type recordedBody struct {
	ctx    context.Context
	chunks []string
	pace   time.Duration
	begun  bool
}

func (b *recordedBody) Read(p []byte) (int, error) {
	if b.begun && b.pace > 0 {
		t := time.NewTimer(b.pace)
		defer t.Stop()
		select {
		case <-t.C:
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	b.begun = true
	if len(b.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.chunks[0])
	if b.chunks[0] = b.chunks[0][n:]; b.chunks[0] == "" {
		b.chunks = b.chunks[1:]
	}
	return n, nil
}

func (b *recordedBody) Close() error { return nil }

// FuzzEvents checks a provider with any bytes as the events of a reply: it
// returns, emits only what can be stored, and its errors are faults that quote none of
// the bytes. Seeds hold the word canary where text stands.
func FuzzEvents(f *testing.F, open func(f *testing.F, t *RecordedTransport) ports.Model, seeds []string) {
	f.Helper()
	transport := &RecordedTransport{}
	model := open(f, transport)
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	prompt := ports.Prompt{Params: chat.Params{Model: "m"}, Messages: []ports.PromptMessage{ports.PromptText(chat.User, "hi")}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		transport.Chunks = []string{string(raw)}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		a, err := model.Generate(ctx, prompt, func(d chat.Delta) {
			for _, s := range []string{d.Text, d.URL, d.Title, d.State} {
				if clean, _ := chat.CleanOutput(s); clean != s {
					t.Errorf("cannot be stored: %q", s)
				}
			}
			if d.Kind == chat.SourcePart && !strings.HasPrefix(strings.ToLower(d.URL), "http") {
				t.Errorf("a source at %q", d.URL)
			}
		})
		switch {
		case ctx.Err() != nil:
			t.Error("did not return")
		case err == nil && a.FinishReason == "":
			t.Error("complete without a finish reason")
		case err != nil && fault.As(err) == nil:
			t.Errorf("the error is no fault: %v", err)
		case err != nil && strings.Contains(err.Error(), "canary"):
			t.Errorf("the error quotes the provider: %v", err)
		}
	})
}
