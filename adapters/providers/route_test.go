package providers

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func TestRouter_Route(t *testing.T) {
	a, b := &scripted{name: "a"}, &scripted{name: "b"}
	r := routerOf(nil, a, b)
	r.providers[1].models.set("b-1", "common", "meta/llama", "a/a-1")
	for name, c := range map[string]struct {
		params chat.Params
		want   []string
		named  bool
	}{
		"Default":             {chat.Params{}, []string{"a a-1", "b b-1"}, false},
		"Provider":            {chat.Params{Provider: "b"}, []string{"b b-1", "a a-1"}, true},
		"Model":               {chat.Params{Model: "b-1"}, []string{"b b-1", "a a-1"}, true},
		"ModelOfBoth":         {chat.Params{Model: "common"}, []string{"a common", "b common"}, true},
		"Both":                {chat.Params{Provider: "b", Model: "common"}, []string{"b common", "a common"}, true},
		"InOneName":           {chat.Params{Model: "b/common"}, []string{"b common", "a common"}, true},
		"NameWithASlash":      {chat.Params{Model: "meta/llama"}, []string{"b meta/llama", "a a-1"}, true},
		"OwnNameGoesFirst":    {chat.Params{Model: "a/a-1"}, []string{"b a/a-1", "a a-1"}, true},
		"OwnNameInOneName":    {chat.Params{Model: "b/meta/llama"}, []string{"b meta/llama", "a a-1"}, true},
		"UnknownModel":        {chat.Params{Model: "gpt-9"}, nil, false},
		"UnknownProvider":     {chat.Params{Provider: "c"}, nil, false},
		"ModelOfTheOther":     {chat.Params{Provider: "a", Model: "b-1"}, nil, false},
		"ProvidersDisagree":   {chat.Params{Provider: "a", Model: "b/common"}, nil, false},
		"UnknownInOneName":    {chat.Params{Model: "c/common"}, nil, false},
		"NothingButAProvider": {chat.Params{Model: "b/"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			route, named, err := r.route(c.params, 0)
			var got []string
			for _, x := range route {
				got = append(got, x.name+" "+x.model)
			}
			if d := cmp.Diff(c.want, got); d != "" || named != c.named {
				t.Error(d, named)
			}
			if c.want == nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("error %v", err)
			}
		})
	}
	if got := ask(t.Context(), r, chat.Params{Model: "gpt-9"}); !fault.Is(got.err, fault.Invalid) || a.calls+b.calls > 0 {
		t.Error(got.err)
	}
}

func TestNew(t *testing.T) {
	models := func(t *testing.T, c Config) []ports.ModelInfo {
		t.Helper()
		r, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		return r.Models()
	}
	t.Run("NoKeyIsTheDemo", func(t *testing.T) {
		want := []ports.ModelInfo{{Provider: "demo", Model: "demo", Default: true, State: "closed", Demo: true}}
		if d := cmp.Diff(want, models(t, Config{})); d != "" {
			t.Error(d)
		}
	})
	t.Run("ThoseThatHaveAKey", func(t *testing.T) {
		want := []ports.ModelInfo{
			{Provider: "openai", Model: "gpt-4o", Default: true, State: "closed"},
			{Provider: "openai", Model: "o3", State: "closed"},
			{Provider: "anthropic", Model: DefaultAnthropic, State: "closed"},
		}
		got := models(t, Config{OpenAI: Provider{Key: "k", Models: []string{"gpt-4o", "o3"}}, Anthropic: Provider{Key: "k"}})
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
	t.Run("OrderIsAsSaid", func(t *testing.T) {
		got := models(t, Config{Order: []string{"demo", "openai"}, OpenAI: Provider{BaseURL: "http://localhost:11434/v1"}})
		if got[0].Provider != "demo" || got[1].Provider != "openai" || got[1].Model != "" {
			t.Errorf("%v", got)
		}
	})
	for name, c := range map[string]Config{
		"UnknownProvider": {Order: []string{"openia"}},
		"NamedTwice":      {Order: []string{"demo", "demo"}},
		"BaseURL":         {OpenAI: Provider{BaseURL: "localhost"}},
		"Prices":          {PricesFile: "nowhere.json"},
		"CacheWithoutOne": {CacheTTL: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(c); err == nil {
				t.Error("was taken")
			}
		})
	}
}

func TestRouter_MaxTokens(t *testing.T) {
	for asked, want := range map[int]int{0: 0, 500: 500, 5000: 1000} {
		var got int
		r := routerOf(nil, &scripted{name: "a", outcomes: []outcome{say("hi")}})
		r.maxTokens = 1000
		r.providers[0].client = spy{func(p ports.Prompt) { got = p.Params.MaxTokens }, r.providers[0].client}
		if ask(t.Context(), r, chat.Params{MaxTokens: asked}); got != want {
			t.Errorf("%d became %d, want %d", asked, got, want)
		}
	}
}
