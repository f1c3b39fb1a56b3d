package ops_test

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/adapters/sqlstore"
	"parley/platform/ops"
	"parley/platform/testing/testenv"
)

// database returns the URL of a database with the schema and the role of the app.
func database(t *testing.T) (owner, app string) {
	t.Helper()
	owner = testenv.StartPostgres(t).URL()
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: owner, Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"roles.sql", "reader.sql"} {
		out, err := exec.Command(testenv.Binary(t, "psql"), owner, "-v", "ON_ERROR_STOP=1", "-v", "password=reader", "-q",
			"-f", "../../deploy/postgres/"+script).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	return owner, strings.Replace(owner, "parley@", "parley_app@", 1)
}

func output(t *testing.T, url, name string) string {
	t.Helper()
	q, err := ops.FindQuery(name)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := ops.RunQuery(t.Context(), url, nil, q, &out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out.String()
}

// TestQueries shares one server, whose schema the last part changes.
func TestQueries(t *testing.T) {
	owner, app := database(t)
	for _, test := range []struct {
		name string
		run  func(t *testing.T, owner, app string)
	}{
		{"AllRunAsAppAndReader", allRun}, {"LocksNameTheHolder", locksNameTheHolder}, {"CannotWrite", cannotWrite},
		{"IndexesNameTheMissingOne", indexesNameTheMissingOne},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, owner, app) })
	}
}

func asReader(app string) string {
	return strings.Replace(app, "parley_app@", "parley_reader:reader@", 1)
}

func allRun(t *testing.T, _, app string) {
	for _, q := range ops.Queries() {
		if q.Help == "" || !strings.HasSuffix(q.Help, ".") {
			t.Errorf("%s is explained by %q", q.Name, q.Help)
		}
		for _, url := range []string{app, asReader(app)} {
			if out := output(t, url, q.Name); !strings.Contains(out, " rows)") {
				t.Errorf("%s: %s", q.Name, out)
			}
		}
	}
}

// The role of the app sees neither state nor statement of other roles' sessions, but
// which session to end.
func locksNameTheHolder(t *testing.T, owner, app string) {
	connect := func(url string) *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	holder, waiting := connect(owner+"&application_name=monthly-report"), connect(app)
	if _, err := holder.Exec(t.Context(), "BEGIN; LOCK TABLE chat_runs"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); waiting.Exec(ctx, "SELECT count(*) FROM chat_runs") }()
	defer func() { cancel(); <-done }()
	for {
		out := output(t, app, "locks")
		if strings.Contains(out, "monthly-report") && strings.Contains(out, "pg_terminate_backend") && strings.Contains(out, "hidden") {
			if out := output(t, asReader(app), "locks"); !strings.Contains(out, "idle in transaction") {
				t.Errorf("the reader does not see what the holder does: %s", out)
			}
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(out)
		}
	}
}

func indexesNameTheMissingOne(t *testing.T, owner, app string) {
	if out := output(t, app, "indexes"); !strings.Contains(out, "(0 rows)") {
		t.Errorf("after all migrations: %s", out)
	}
	conn, err := pgx.Connect(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "DROP INDEX chat_messages_user_idx"); err != nil {
		t.Fatal(err)
	}
	if out := output(t, app, "indexes"); !strings.Contains(out, "chat_messages_user_idx") || !strings.Contains(out, "missing") {
		t.Errorf("after the drop: %s", out)
	}
}

func cannotWrite(t *testing.T, owner, _ string) {
	var out bytes.Buffer
	err := ops.RunQuery(t.Context(), owner, []string{"public"}, ops.Query{SQL: "DELETE FROM chat_users RETURNING 1"}, &out)
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("%v %s", err, &out)
	}
}
