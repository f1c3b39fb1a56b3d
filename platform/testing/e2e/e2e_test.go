//go:build e2e

package e2e_test

import (
	"context"
	"path/filepath"
	"testing"
)

// frontEnd is a front end in one version.
type frontEnd struct {
	name   string
	source string // in testdata
	react  string // the package that its import of @ai-sdk/react means
}

var frontEnds = []frontEnd{
	{"ai5", "usechat.jsx", "react-ai5"},
	{"ai5-oldest", "usechat.jsx", "react-ai5-oldest"}, // like ai6-oldest it refuses events with unknown members
	{"ai6", "usechat.jsx", "react-ai6"},
	{"ai6-oldest", "usechat.jsx", "react-ai6-oldest"},
	{"ai7", "usechat.jsx", "@ai-sdk/react"},
	{"assistant-ui", "assistant.jsx", "@ai-sdk/react"},
}

// TestFrontEnds goes through every scenario with every front end.
func TestFrontEnds(t *testing.T) {
	installPackages(t)
	bundles := t.TempDir()
	for _, f := range frontEnds {
		bundle(t, f.source, f.react, filepath.Join(bundles, f.name+".js"))
	}
	browser := startBrowser(t)
	for _, f := range frontEnds {
		t.Run(f.name, func(t *testing.T) {
			w := startScripted(t, bundles, browser) // one each: many failures in a row would open the breaker
			for _, s := range scenarios {
				if s.useChatOnly && f.source != "usechat.jsx" {
					continue
				}
				t.Run(s.name, func(t *testing.T) {
					t.Parallel()
					s.run(newUser(t, w, f.name))
				})
			}
		})
	}
}

// startScripted starts a world with the scripted provider.
func startScripted(t *testing.T, bundles string, browser context.Context) *world {
	provider := startProvider(t)
	w := startWorld(t, bundles, browser,
		"OPENAI_API_KEY=sk-e2e", "OPENAI_BASE_URL="+provider.OpenAIURL(), "OPENAI_MODEL=scripted", "OPENAI_FILES=images",
		"AI_FIRST_TOKEN_TIMEOUT=10m", "AI_IDLE_TIMEOUT=10m", "RATE_LIMIT_AUTHENTICATED=100000",
		"MAX_CONCURRENT_REPLIES=1") // so that a second one is refused
	w.provider = provider
	return w
}
