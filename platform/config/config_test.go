package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/platform/config"
)

var update = flag.Bool("update", false, "rewrite the table in docs/configuration.md")

func TestLoad_Defaults(t *testing.T) {
	c, err := config.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Addr != "127.0.0.1:8080" || c.Server.AdminAddr != "127.0.0.1:9464" {
		t.Errorf("addresses %q, %q", c.Server.Addr, c.Server.AdminAddr)
	}
	if c.Operations.ShutdownTimeout != 25*time.Second || c.Limits.RateLimitAuthenticated != 100 {
		t.Errorf("defaults not applied: %+v", c)
	}
	if !c.Development() {
		t.Error("no secret must mean development")
	}
}

func TestLoad_EmptyIsUnset(t *testing.T) {
	c, err := config.Load([]string{"DB_MAX_CONNS=", "ADDR= ", "AUTH_SECRET=", "DATABASE_URL="})
	if err != nil {
		t.Fatal(err)
	}
	if c.Store.DBMaxConns != 12 || c.Server.Addr != "127.0.0.1:8080" || !c.Development() || c.Store.DatabaseURL.Set() {
		t.Errorf("an empty variable must count as unset: %+v", c)
	}
}

func TestLoad_Rotation(t *testing.T) {
	c, err := config.Load([]string{"AUTH_SECRET=new-one,old-one"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]config.Secret{"new-one", "old-one"}, c.Auth.AuthSecret); diff != "" {
		t.Error(diff)
	}
}

// Every wrong variable is named, and no value is repeated: it may be a secret
// that was pasted into the wrong place.
func TestLoad_Refuses(t *testing.T) {
	for _, tt := range []struct{ variable, value string }{
		{"ADDR", "canary"},
		{"ADDR", "127.0.0.1:canary"},
		{"ADMIN_ADDR", "127.0.0.1:99999"},
		{"TRUSTED_PROXIES", "canary"},
		{"TRUSTED_PROXIES", "-1"},
		{"TRUSTED_PROXY_RANGES", "10.0.0.0/8,canary"},
		{"DATABASE_URL", "canary://u:p@h/d"},
		{"DATABASE_URL", "postgres:canary"},
		{"REDIS_URL", "http://canary"},
		{"DB_EXEC_MODE", "canary"},
		{"DB_MAX_CONNS", "1"},
		{"MIGRATE_ON_START", "canary"},
		{"AUTH_SECRET", "canary, ,canary"},
		{"AUDIT_KEY", "canary, ,canary"},
		{"AUDIT_HEADS", "ftp://canary"},
		{"NEXTAUTH_URL", "canary"},
		{"AUTH_URL", "ftp://canary"},
		{"ALLOWED_ORIGINS", "https://ok.example,https://canary.example/path"},
		{"RATE_LIMIT_ADMIN", "0"},
		{"CHAT_DISABLED", "canary"},
		{"CONTEXT_MESSAGES", "0"},
		{"RATE_LIMIT_FAIL", "canary"},
		{"AI_PROVIDERS", "demo,canary"},
		{"AI_PROVIDERS", "openai"},
		{"OPENAI_FILES", "images,canary"},
		{"ANTHROPIC_FILES", "pdf,none"},
		{"AI_PROVIDERS", "anthropic"},
		{"OPENAI_BASE_URL", "canary"},
		{"AI_MAX_CONCURRENCY", "0"},
		{"AI_IDLE_TIMEOUT", "0s"},
		{"RESPONSE_CACHE_TTL", "-1s"},
		{"RESPONSE_CACHE_SCOPE", "canary"},
		{"DEMO_DELAY", "canary"},
		{"SHUTDOWN_TIMEOUT", "-1s"},
		{"LOG_LEVEL", "canary"},
		{"LOG_FORMAT", "canary"},
	} {
		t.Run(tt.variable+"="+tt.value, func(t *testing.T) {
			_, err := config.Load([]string{tt.variable + "=" + tt.value})
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.variable) {
				t.Errorf("%q does not name the variable", err)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("%q repeats the value", err)
			}
		})
	}
}

func TestLoad_NamesEveryMistake(t *testing.T) {
	_, err := config.Load([]string{"ADDR=x", "LOG_LEVEL=x", "MAX_QUEUE=-1"})
	for _, name := range []string{"ADDR", "LOG_LEVEL", "MAX_QUEUE"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	_, err = config.Load([]string{"DEMO_DELAY=x", "MAX_QUEUE=x"})
	for _, name := range []string{"DEMO_DELAY", "MAX_QUEUE"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}

func TestConfig_Origins(t *testing.T) {
	c, err := config.Load([]string{
		"NEXTAUTH_URL=https://app.example/api/auth", "AUTH_URL=https://app.example",
		"ALLOWED_ORIGINS=https://b.example:8443,https://a.example",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"https://a.example", "https://app.example", "https://b.example:8443"}
	if diff := cmp.Diff(want, c.Origins()); diff != "" {
		t.Error(diff)
	}
}

func TestSecret_Hides(t *testing.T) {
	c, err := config.Load([]string{"AUTH_SECRET=canary-1,canary-2", "DATABASE_URL=postgres://u:canary-3@h/d", "REDIS_URL=redis://:canary-4@h"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", c)
		fmt.Fprintf(&out, verb+"\n", c.Store.DatabaseURL)
	}
	if err := json.NewEncoder(&out).Encode(c); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "url", c.Store.DatabaseURL, "all", c)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "url", c.Store.DatabaseURL, "all", c)
	if strings.Contains(out.String(), "canary") || strings.Contains(out.String(), fmt.Sprintf("%x", "canary")) {
		t.Errorf("a secret was shown:\n%s", out.String())
	}
	if got := c.Auth.AuthSecret[1].Reveal(); got != "canary-2" {
		t.Errorf("Reveal() = %q", got)
	}
}

func TestVariables_AreDocumented(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range config.Variables() {
		if v.Name == "" || v.Section == "" || !strings.HasSuffix(v.Description, ".") {
			t.Errorf("%+v lacks a name, a section or a sentence", v)
		}
		if seen[v.Name] {
			t.Errorf("%s stands twice", v.Name)
		}
		seen[v.Name] = true
	}
}

// The table in docs/configuration.md is generated from the struct. Run with
// -update after a change.
func TestConfiguration_TableIsCurrent(t *testing.T) {
	const file, begin, end = "../../docs/configuration.md", "<!-- configuration: begin -->\n", "<!-- configuration: end -->"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(raw), begin)
	held, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("docs/configuration.md lacks the markers of the configuration table")
	}
	want := "\n" + config.Table() + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, held); diff != "" {
		t.Errorf("docs/configuration.md is not up to date; run go test ./platform/config -update\n%s", diff)
	}
}

// A replica is a standby of the PostgreSQL at DATABASE_URL, and another place than it.
func TestReplicas(t *testing.T) {
	t.Parallel()
	const primary = "DATABASE_URL=postgres://u:canary@primary/d"
	for _, c := range []struct {
		urls, database string
		want           []string // of the hosts
		refused        string
	}{
		{urls: "postgres://u:p@one/d, postgresql://u:p@two:5433/d", database: primary, want: []string{"one", "two:5433"}},
		{urls: "postgres://u:p@one,two/d?connection_limit=4,postgres://u:p@three/d", database: primary, want: []string{"", "three"}},
		{urls: "postgres://u:canary@one/d", refused: "needs DATABASE_URL"},
		{urls: "postgres://u:canary@one/d?nonsense=1", database: primary, refused: "URL 1"},
		{urls: "postgres://u:canary@one/d,postgres://u:p@two/d?nonsense=1", database: primary, refused: "URL 2"},
		{urls: "canary,postgres://u:p@one/d", database: primary, refused: "postgres://"},
		{urls: "postgres://other:canary@PRIMARY:5432/d?sslmode=disable", database: primary, refused: "itself"},
		{urls: "postgres://u:canary@one/d,postgres://v:p@one:5432/d", database: primary, refused: "twice"},
	} {
		got, err := config.Load([]string{"DATABASE_REPLICA_URLS=" + c.urls, c.database})
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), "DATABASE_REPLICA_URLS") || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v", c.urls, err)
			}
			continue
		}
		var hosts []string
		for _, r := range got.Replicas() {
			u, err := url.Parse(r.URL.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			hosts = append(hosts, u.Host)
		}
		if diff := cmp.Diff(c.want, hosts); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", c.urls, err, diff)
		}
	}
	for _, lag := range []string{"0s", "2s", "-1s"} {
		if _, err := config.Load([]string{"DATABASE_REPLICA_MAX_LAG=" + lag}); err == nil || !strings.Contains(err.Error(), "DATABASE_REPLICA_MAX_LAG") {
			t.Errorf("%s: %v", lag, err)
		}
	}
}
