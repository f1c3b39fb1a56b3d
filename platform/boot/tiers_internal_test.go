package boot

import (
	"os"
	"path/filepath"
	"testing"

	"parley/domain/access"
	"parley/platform/config"
)

// TIERS_FILE replaces what it names; the rest keeps the values of the environment.
func TestTiers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tiers.json")
	c := config.Config{}
	c.Limits.RateLimitAdmin, c.Limits.MaxConcurrentReplies, c.Limits.MaxStreams, c.Limits.TiersFile = 500, 8, 32, file
	c.Limits.RateLimitAnonymous, c.Limits.RateLimitAuthenticated, c.Limits.RateLimitAPIKey, c.Limits.RateLimitWebhook = 1, 2, 3, 4
	if err := os.WriteFile(file, []byte(`{"admin":{"concurrentReplies":100,"openStreams":0,"usdPerDay":1.5}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	limits, budgets, err := tiers(c)
	if err != nil {
		t.Fatal(err)
	}
	if limits[access.Admin] != 500 || limits[access.Webhook] != 4 {
		t.Errorf("limits %v", limits)
	}
	if got, want := budgets[access.Admin], (access.Budget{Replies: 100, DayMicros: 1_500_000}); got != want {
		t.Errorf("admin: %+v, want %+v", got, want)
	}
	if got, want := budgets[access.APIKey], (access.Budget{Replies: 8, Streams: 32}); got != want {
		t.Errorf("api_key: %+v, want %+v", got, want)
	}
	for _, text := range []string{`{"admin":{"openStreams":-1}}`, `{"admin":{"streams":1}}`, `{"king":{}}`, `{`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tiers(c); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}
