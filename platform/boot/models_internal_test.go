package boot

import (
	"testing"

	"parley/adapters/providers"
	"parley/domain/chat"
	"parley/platform/config"
)

// What a model reads is set for each provider.
func TestModelConfig_Files(t *testing.T) {
	c, err := config.Load([]string{
		"OPENAI_BASE_URL=http://localhost:1/v1", "OPENAI_MODEL=llava", "OPENAI_FILES=images", "ANTHROPIC_API_KEY=k", "ANTHROPIC_FILES=none",
	})
	if err != nil {
		t.Fatal(err)
	}
	router, err := providers.New(modelConfig(c))
	if err != nil {
		t.Fatal(err)
	}
	defer router.Close()
	for provider, reads := range map[string]map[string]bool{
		"openai":    {"image/png": true, "application/pdf": false, "text/csv": true},
		"anthropic": {"image/png": false, "application/pdf": false, "text/csv": true},
	} {
		for mediaType, want := range reads {
			if err := router.AcceptsFile(chat.Params{Provider: provider}, mediaType); (err == nil) != want {
				t.Errorf("%s, %s: %v", provider, mediaType, err)
			}
		}
	}
}
