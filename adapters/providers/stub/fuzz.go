package stub

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Canned answers every request with the same event stream, without a network.
type Canned struct{ body []byte }

// Wrap is a provider's Config.Wrap.
func (c *Canned) Wrap(http.RoundTripper) http.RoundTripper { return c }

// RoundTrip implements http.RoundTripper.
func (c *Canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(bytes.NewReader(c.body)),
	}, nil
}

// FuzzEvents holds a provider to what must be true whatever bytes come as the
// events of a reply: it ends, what it says is text, and what it fails with is a
// fault that quotes none of them. Seeds hold the word canary where text stands.
func FuzzEvents(f *testing.F, open func(f *testing.F, canned *Canned) ports.Model, seeds []string) {
	f.Helper()
	canned := &Canned{}
	model := open(f, canned)
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	prompt := ports.Prompt{Params: chat.Params{Model: "m"}, Messages: []ports.PromptMessage{{Role: chat.User, Text: "hi"}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		canned.body = raw
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		a, err := model.Generate(ctx, prompt, func(d chat.Delta) {
			if !utf8.ValidString(d.Text) {
				t.Errorf("said what is no text: %q", d.Text)
			}
		})
		switch {
		case ctx.Err() != nil:
			t.Error("did not end")
		case err == nil && a.FinishReason == "":
			t.Error("ended well without a reason to end")
		case err != nil && fault.As(err) == nil:
			t.Errorf("failed with no fault: %v", err)
		case err != nil && strings.Contains(err.Error(), "canary"):
			t.Errorf("the error quotes the provider: %v", err)
		}
	})
}
