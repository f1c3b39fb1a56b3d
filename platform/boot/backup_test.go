package boot_test

import (
	"archive/zip"
	"bytes"
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
)

// twoDatabases runs a test with a database to back up and an empty one.
func twoDatabases(t *testing.T, test func(t *testing.T, from, into []string)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, []string{"DATA_DIR=" + dataDir(t)}, []string{"DATA_DIR=" + t.TempDir()})
	})
	t.Run("Postgres", func(t *testing.T) {
		t.Parallel()
		from := []string{"DATA_DIR=" + t.TempDir(), "DATABASE_URL=" + testdb.Postgres(t)}
		test(t, from, []string{"DATA_DIR=" + t.TempDir(), "DATABASE_URL=" + testenv.Postgres(t)})
	})
	t.Run("PostgresRolesAndRLS", func(t *testing.T) {
		t.Parallel()
		from, app, into := rolesAndRLS(t)
		run(t, from, "migrate", "up")
		app()
		test(t, from, into)
	})
}

const backupSecret = "AUTH_SECRET=a secret of thirty-two characters!"

// A service is backed up while it serves; the restored copy serves the same
// history, its audit chain verifies, and doctor finds nothing to fix.
func TestBackup_RestoredCopyServes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Parallel()
	twoDatabases(t, func(t *testing.T, from, into []string) {
		from, into = append(from, backupSecret), append(into, backupSecret)
		p := start(t, serving(from)...)
		auth := bearer(t, from, "alice")
		texts := []string{"!echo ascii", "!echo tab\tnewline\nbackslash\\ \\N \\. 'quote' \"double\"", "!echo 👩‍👩‍👧 ünïcödé"}
		for _, text := range texts {
			if a := call(t, "POST", p.url+"/api/chat/messages", message(text), auth); a.status != http.StatusCreated {
				t.Fatalf("send: %d %s", a.status, a.body)
			}
		}
		file := filepath.Join(t.TempDir(), "parley.backup")
		said := run(t, from, "backup", file)
		if !strings.Contains(said, "read back") || !strings.Contains(said, " 0 findings") {
			t.Errorf("backup: %s", said)
		}
		history := call(t, "GET", p.url+"/api/chat/messages", "", auth).json(t)["messages"]
		p.terminate()

		said = run(t, into, "restore", file)
		if !strings.Contains(said, "restored ") || !strings.Contains(said, " 0 entries waiting to be sealed, 0 findings") {
			t.Errorf("restore: %s", said)
		}
		if out := run(t, into, "doctor"); strings.Contains(out, "FAIL") {
			t.Errorf("doctor: %s", out)
		}
		p = start(t, into...)
		if diff := cmp.Diff(history, call(t, "GET", p.url+"/api/chat/messages", "", auth).json(t)["messages"]); diff != "" {
			t.Errorf("history (-before +restored):\n%s", diff)
		}
		if a := call(t, "POST", p.url+"/api/chat/messages", message("!echo goes on"), auth); a.status != http.StatusCreated {
			t.Errorf("send to the restored copy: %d %s", a.status, a.body)
		}
		p.terminate()
		if out := run(t, into, "audit", "verify"); !strings.Contains(out, " 0 findings") {
			t.Errorf("audit verify: %s", out)
		}

		// What is there is not replaced.
		if out, code := fails(t, from, "backup", file); code != 2 || !strings.Contains(out, "--force") {
			t.Errorf("over a backup: %d %s", code, out)
		}
		before, err := os.Stat(file)
		if err != nil || before.Mode().Perm() != 0o600 {
			t.Errorf("the backup's mode: %v, %v", before.Mode(), err)
		}
		run(t, from, "backup", "--force", file)
		if out, code := fails(t, into, "restore", file); code != 2 || !strings.Contains(out, "Nothing was changed") || !strings.Contains(out, "new") {
			t.Errorf("over a database: %d %s", code, out)
		}
		if left, err := filepath.Glob(file + ".*"); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// serving turns the environment of the tables' owner into that of serve.
func serving(env []string) []string {
	for _, e := range env {
		if app, ok := strings.CutPrefix(e, "TEST_APP_URL="); ok {
			env = append(env, "DATABASE_URL="+app)
		}
	}
	return env
}

// A damaged, cut or foreign file is not restored, and leaves the database empty.
func TestRestore_DamagedFile(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Parallel()
	twoDatabases(t, func(t *testing.T, from, into []string) {
		from, into = append(from, backupSecret), append(into, backupSecret)
		p := start(t, serving(from)...)
		call(t, "POST", p.url+"/api/chat/messages", message("!echo "+strings.Repeat("words of all sorts ", 100)), bearer(t, from, "alice"))
		p.terminate()
		file := filepath.Join(t.TempDir(), "parley.backup")
		run(t, from, "backup", file)
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		refused := func(what string, content []byte) {
			t.Helper()
			damaged := filepath.Join(t.TempDir(), "damaged.backup")
			if err := os.WriteFile(damaged, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, _ := fails(t, into, "restore", damaged); !strings.Contains(out, "damaged") && !strings.Contains(out, "not a complete backup") {
				t.Errorf("%s: %s", what, out)
			}
		}
		refused("empty", nil)
		refused("text", []byte("-- PostgreSQL database dump\n"))
		for _, part := range []int{10, len(good) / 2, len(good) - 1} {
			refused("cut", good[:part])
		}
		archive, err := zip.NewReader(bytes.NewReader(good), int64(len(good)))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range archive.File {
			offset, err := entry.DataOffset()
			if err != nil {
				t.Fatal(err)
			}
			if entry.UncompressedSize64 == 0 {
				continue
			}
			flipped := bytes.Clone(good)
			flipped[offset+int64(entry.CompressedSize64)/2] ^= 0x10
			refused("a flipped bit of "+entry.Name, flipped)
		}
		run(t, into, "restore", file) // nothing of the failures is in the way
	})
}

func TestBackup_NothingToBackUp(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "parley.backup")
	dir := t.TempDir()
	if out, code := fails(t, []string{"DATA_DIR=" + dir, backupSecret}, "backup", file); code != 2 || !strings.Contains(out, "no database in DATA_DIR") {
		t.Errorf("no SQLite file: %d %s", code, out)
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Errorf("made %v, %v", made, err)
	}
	if out, _ := fails(t, []string{"DATABASE_URL=" + testenv.Postgres(t), backupSecret}, "backup", file); !strings.Contains(out, "nothing to back up") {
		t.Errorf("an empty database: %s", out)
	}
	if out, _ := fails(t, []string{"DATABASE_URL=postgres://u:canary@127.0.0.1:1/none", backupSecret}, "backup", file); strings.Contains(out, "canary") {
		t.Errorf("nobody there: %s", out)
	}
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A backup of the other database says which setting to change.
func TestRestore_OtherDatabase(t *testing.T) {
	t.Parallel()
	from := []string{"DATA_DIR=" + dataDir(t), backupSecret}
	start(t, from...).terminate()
	file := filepath.Join(t.TempDir(), "parley.backup")
	run(t, from, "backup", file)
	if out, code := fails(t, []string{"DATABASE_URL=" + testenv.Postgres(t), backupSecret}, "restore", file); code != 2 || !strings.Contains(out, "unset DATABASE_URL") {
		t.Errorf("%d %s", code, out)
	}
}

// Files of other tools are refused with the tool that restores them.
func TestRestore_FileOfAnotherTool(t *testing.T) {
	t.Parallel()
	for content, tool := range map[string]string{
		"--\n-- PostgreSQL database dump\n--\n": "psql", "PGDMP\x01\x0e": "pg_restore", "SQLite format 3\x00": "parley.db", "": "not a complete backup",
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, _ := fails(t, []string{"DATA_DIR=" + t.TempDir(), backupSecret}, "restore", file); !strings.Contains(out, tool) {
			t.Errorf("%q: %s", content, out)
		}
	}
}

// A backup that is killed leaves no file of its name, and is in nobody's way;
// two at once do not write the same file.
func TestBackup_Killed(t *testing.T) {
	t.Parallel()
	env := []string{"DATA_DIR=" + dataDir(t), backupSecret}
	start(t, env...).terminate()
	file := filepath.Join(t.TempDir(), "parley.backup")
	part, err := os.Create(file + ".part") // as one that was killed left it
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	if _, err := part.WriteString(strings.Repeat("half a backup ", 100000)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(part.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if out, code := fails(t, env, "backup", file); code != 2 || !strings.Contains(out, "another parley backup") {
		t.Errorf("beside another: %d %s", code, out)
	}
	if err := syscall.Flock(int(part.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	run(t, env, "backup", file)
	run(t, []string{"DATA_DIR=" + t.TempDir(), backupSecret}, "restore", file)
}

// In development mode the secret travels with the backup; with another secret
// the rows are restored, and the operator is told about the audit chain.
func TestRestore_Secrets(t *testing.T) {
	t.Parallel()
	from := []string{"DATA_DIR=" + dataDir(t)}
	p := start(t, from...)
	auth := bearer(t, from, "alice")
	call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), auth)
	p.terminate()
	file := filepath.Join(t.TempDir(), "parley.backup")
	run(t, from, "backup", file)

	into := []string{"DATA_DIR=" + t.TempDir()}
	run(t, into, "restore", file)
	p = start(t, into...)
	if a := call(t, "GET", p.url+"/api/chat/messages", "", auth); a.status != http.StatusOK || !strings.Contains(a.body, "!echo x") {
		t.Errorf("with the token of before: %d %s", a.status, a.body)
	}
	p.terminate()
	if out := run(t, into, "audit", "verify"); !strings.Contains(out, " 0 findings") {
		t.Error(out)
	}

	other := []string{"DATA_DIR=" + t.TempDir(), backupSecret}
	if out, code := fails(t, other, "restore", file); code != 1 || !strings.Contains(out, "rows are restored") || !strings.Contains(out, "AUDIT_KEY") {
		t.Errorf("with another secret: %d %s", code, out)
	}
}

// rolesAndRLS is a database as docs/checklist.md sets it up: an owner who is no
// superuser, the application's role, row-level security; and an empty database
// of that owner. app makes the application's role once there are tables.
func rolesAndRLS(t *testing.T) (from []string, app func(), into []string) {
	t.Helper()
	first, second := testenv.Postgres(t), testenv.Postgres(t)
	at := func(server, role string) string {
		u, err := url.Parse(server)
		if err != nil {
			t.Fatal(err)
		}
		if role != "" {
			u.User = url.UserPassword(role, "secret")
		}
		return u.String()
	}
	exec := func(server, statements string) {
		t.Helper()
		ctx := context.Background() // the test's own is over when it cleans up
		conn, err := pgx.Connect(ctx, server)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, statements); err != nil {
			t.Fatalf("%s: %v", statements, err)
		}
	}
	u, err := url.Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	owner, role := strings.TrimPrefix(u.Path, "/")+"_owner", strings.TrimPrefix(u.Path, "/")+"_app"
	exec(first, "CREATE ROLE "+owner+" LOGIN CREATEROLE PASSWORD 'secret'")
	for _, server := range []string{first, second} {
		u, _ := url.Parse(server)
		exec(server, "ALTER SCHEMA public OWNER TO "+owner+"; GRANT ALL ON DATABASE "+strings.TrimPrefix(u.Path, "/")+" TO "+owner)
	}
	t.Cleanup(func() {
		for _, server := range []string{second, first} {
			exec(server, "REASSIGN OWNED BY "+owner+" TO CURRENT_USER; DROP OWNED BY "+owner)
		}
		exec(first, "DROP OWNED BY "+role+"; DROP ROLE "+role+"; DROP ROLE "+owner)
	})
	app = func() {
		script, err := os.ReadFile("../../deploy/postgres/roles.sql")
		if err != nil {
			t.Fatal(err)
		}
		exec(at(first, owner), strings.ReplaceAll(string(script), "parley_app", role))
		exec(at(first, owner), "ALTER ROLE "+role+" PASSWORD 'secret'")
	}
	dir := "DATA_DIR=" + dataDir(t)
	from = []string{dir, "DATABASE_URL=" + at(first, owner), "DB_RLS=true", "TEST_APP_URL=" + at(first, role)}
	return from, app, []string{dir, "DATABASE_URL=" + at(second, owner), "DB_RLS=true"}
}
