package providers

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// A disabled provider is not asked, as if its breaker were open: the others reply,
// and without another one the refusal says when to try again.
func TestRouter_DisabledProvider(t *testing.T) {
	for name, params := range map[string]chat.Params{"Default": {}, "Named": {Provider: "a"}, "NamedModel": {Model: "a-1"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen := &facts{}
				a, b := &scripted{name: "a", outcomes: []outcome{say("from a")}}, &scripted{name: "b", outcomes: []outcome{say("from b")}}
				r := routerOf(seen, a, b)
				disabled := map[string]bool{"a": true}
				r.disabled = func(provider string) bool { return disabled[provider] }
				got := ask(t.Context(), r, params)
				if got.err != nil || got.text != "from b" || got.answer.Metadata["fallback"] != true || a.calls != 0 {
					t.Errorf("%q, %v, %v; %d calls of a", got.text, got.answer.Metadata, got.err, a.calls)
				}
				if d := cmp.Diff(any(ports.ProviderSkipped{Provider: "a", Model: "a-1", Reason: "disabled"}), seen.list[0]); d != "" {
					t.Error(d)
				}
				if m := r.Models(); !m[0].Disabled || m[len(m)-1].Disabled {
					t.Errorf("models: %+v", m)
				}
				disabled["b"] = true
				got = ask(t.Context(), r, params)
				if !fault.Is(got.err, fault.AIUnavailable) || upstream.ReasonOf(got.err) != upstream.Disabled || upstream.RetryAfter(got.err) != time.Minute {
					t.Errorf("all disabled: %v after %v", got.err, upstream.RetryAfter(got.err))
				}
				clear(disabled)
				if got = ask(t.Context(), r, params); got.text != "from a" {
					t.Errorf("enabled again: %q, %v", got.text, got.err)
				}
			})
		})
	}
}

// What a provider replied before it was disabled is not shown again, nor is its
// server asked for its models.
func TestRouter_DisabledProviderRepliesNotFromTheCache(t *testing.T) {
	a, b := &scripted{name: "a", outcomes: []outcome{say("from a")}}, &scripted{name: "b", outcomes: []outcome{say("from b")}}
	r := cachedRouter(false, a, b)
	for _, want := range []string{"from a", "from a"} {
		if got := ask(t.Context(), r, chat.Params{}); got.text != want {
			t.Fatalf("%q, %v", got.text, got.err)
		}
	}
	r.disabled = func(provider string) bool { return provider == "a" }
	if got := ask(t.Context(), r, chat.Params{}); got.text != "from b" || a.calls != 1 {
		t.Errorf("%q, %v; %d calls of a", got.text, got.err, a.calls)
	}
	r.providers[0].models.set("") // its server would have to be asked
	if got := ask(t.Context(), r, chat.Params{}); got.text != "from b" {
		t.Errorf("without a model: %q, %v", got.text, got.err)
	}
}
