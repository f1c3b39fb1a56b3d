package boot

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"parley/platform/config"
)

func TestWeakSecrets(t *testing.T) {
	for _, s := range []string{
		"x", "secret", "your-secret-key", "changeme", "changeme-changeme-changeme-changeme", "CHANGE_ME_TO_SOMETHING_RANDOM_0123456789",
		strings.Repeat("a", 64), strings.Repeat("ab", 32), strings.Repeat("password1", 8), "12345678901234567890123456789012",
		"abcdefghijklmnopqrstuvwxyz0123456789", "0123456789abcdef0123456789abcdef", "zyxwvutsrqponmlkjihgfedcba9876543210",
		"your-super-secret-key-with-at-least-32-chars", "<your secret, 32 characters or more>", "generate-a-secret-with-openssl-rand-base64-32",
		"a-string-secret-at-least-256-bits-long", "a secret of thirty-one bytes!!!", "your_nextauth_secret_here_for_the_app", "test-secret-test-secret-test-secret-",
		"please-change-this-to-a-long-random-value", "${AUTH_SECRET:-something-that-is-not-set}",
	} {
		c := config.Config{}
		c.Auth.AuthSecret = []config.Secret{config.Secret(s)}
		weak := weakSecrets(c)
		if len(weak) != 1 {
			t.Errorf("AUTH_SECRET=%q is accepted", s)
			continue
		}
		if msg := weak[0].Error(); !strings.Contains(msg, "openssl rand -base64 33") || len(s) > 6 && strings.Contains(msg, s) {
			t.Errorf("%q: %s", s, msg)
		}
		c.Auth.AuthSecret = []config.Secret{config.Secret(random()), config.Secret(s)}
		if len(weakSecrets(c)) != 1 {
			t.Errorf("AUTH_SECRET=good,%q is accepted", s)
		}
		c.Auth.AuthSecret = c.Auth.AuthSecret[:1]
		c.Store.AuditKey = []config.Secret{config.Secret(s)}
		if weak := weakSecrets(c); len(weak) != 1 || !strings.Contains(weak[0].Error(), "AUDIT_KEY") {
			t.Errorf("AUDIT_KEY=%q: %v", s, weak)
		}
		c.Store.AuditKey = []config.Secret{config.Secret(random()), config.Secret(s)}
		if weak := weakSecrets(c); len(weak) != 0 {
			t.Errorf("a weak AUDIT_KEY cannot be replaced: %v", weak)
		}
	}
	for _, s := range []string{
		"a secret of thirty-two characters!", "crash-harness-secret-of-no-value-0123456789", "secret-0123456789abcdef0123456789abcdef",
		"e6c930e93ffe06feeec03f3c0e3ece3c", "q9XvMiN32uTz0Lw4PyKcGd8RbHsJaEoF5mYl", "correct horse battery staple, and more",
	} {
		if why := secretWeakness(s); why != "" {
			t.Errorf("%q %s", s, why)
		}
	}
	for range 1_000 {
		for _, s := range []string{random(), hexRandom()} {
			c := config.Config{}
			c.Auth.AuthSecret = []config.Secret{config.Secret(s)}
			if weak := weakSecrets(c); len(weak) > 0 {
				t.Fatalf("%s: %v", s, weak)
			}
		}
	}
}

func random() string {
	var raw [33]byte
	_, _ = rand.Read(raw[:])
	return base64.StdEncoding.EncodeToString(raw[:])
}

func hexRandom() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}
