package boot_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"parley/platform/testing/testenv"
)

// With DB_RLS every part of the service works under row-level security, as a role
// that it applies to. As a superuser, to whom it does not, serve refuses to start.
func TestServe_RowSecurity(t *testing.T) {
	t.Parallel()
	super := testenv.Postgres(t)
	env := []string{"AUTH_SECRET=" + testSecret, "DB_RLS=true", "MIGRATE_ON_START=true"}
	out, code := fails(t, append(env, "DATABASE_URL="+super, "ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"), "serve")
	if code == 0 || !strings.Contains(out, "BYPASSRLS") {
		t.Errorf("as a superuser: exit code %d\n%s", code, out)
	}

	u, err := url.Parse(super)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	role := database + "_role"
	exec := func(statements string) {
		t.Helper()
		ctx := context.Background() // the test's own is over when it cleans up
		conn, err := pgx.Connect(ctx, super)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, statements); err != nil {
			t.Fatal(err)
		}
	}
	// It failed after it had migrated; what it made is made anew by the role.
	exec("DROP SCHEMA public CASCADE; DROP SCHEMA IF EXISTS atlas_schema_revisions CASCADE; CREATE ROLE " + role +
		" LOGIN PASSWORD 'secret'; CREATE SCHEMA public AUTHORIZATION " + role + "; GRANT CREATE ON DATABASE " + database + " TO " + role)
	t.Cleanup(func() { exec("DROP OWNED BY " + role + " CASCADE; DROP ROLE " + role) })
	u.User = url.UserPassword(role, "secret")
	env = append(env, "DATABASE_URL="+u.String())
	i := start(t, env...)
	alice, bob := bearer(t, env, "alice"), bearer(t, env, "bob")
	sent := call(t, "POST", i.url+"/api/chat/messages", message("!echo hers"), alice)
	if sent.status != http.StatusCreated {
		t.Fatalf("%d %s", sent.status, sent.body)
	}
	for _, path := range []string{"/api/chat/messages", "/api/chat/export"} {
		if got := call(t, "GET", i.url+path, "", alice); got.status != http.StatusOK || !strings.Contains(got.body, "hers") {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
		if got := call(t, "GET", i.url+path, "", bob); got.status != http.StatusOK || strings.Contains(got.body, "hers") {
			t.Errorf("%s of another user: %d %s", path, got.status, got.body)
		}
	}
	if got := call(t, "DELETE", i.url+"/api/chat/account", `{"confirm":true}`, alice); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	doctor := run(t, append(env, "ADMIN_ADDR="+strings.TrimPrefix(i.admin, "http://")), "doctor", "--url", i.url)
	if !strings.Contains(doctor, "the audit log has an entry for it") {
		t.Error(doctor)
	}
	i.terminate() // which seals what is left
	if out := run(t, env, "audit", "verify"); !strings.Contains(out, " 0 findings") {
		t.Error(out)
	}
}
