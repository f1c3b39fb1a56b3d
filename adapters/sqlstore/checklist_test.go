package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/sqlstore"
	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
)

// The statements of the deployment checklist that name Parley's tables, as
// they stand there. Operators paste them; they must run and tell the truth.
const (
	sqlTablesExist = `SELECT table_name FROM information_schema.tables
  WHERE table_schema = 'public'
  AND table_name IN ('chat_conversations', 'chat_messages');`

	sqlIndexesExist = `-- Verify indexes exist
  SELECT indexname, tablename FROM pg_indexes
  WHERE tablename IN ('chat_conversations', 'chat_messages');`

	sqlOneConversation = `SELECT * FROM chat_conversations LIMIT 1;`

	sqlOneMessage = `SELECT * FROM chat_messages LIMIT 1;`

	sqlExplain = `EXPLAIN SELECT * FROM chat_messages WHERE user_id = 'test_id' ORDER BY created_at DESC;`

	sqlForeignKeys = `SELECT
    tc.table_name,
    kcu.column_name,
    ccu.table_name AS foreign_table_name,
    ccu.column_name AS foreign_column_name
FROM information_schema.table_constraints AS tc
JOIN information_schema.key_column_usage AS kcu
    ON tc.constraint_name = kcu.constraint_name
JOIN information_schema.constraint_column_usage AS ccu
    ON ccu.constraint_name = tc.constraint_name
WHERE tc.constraint_type = 'FOREIGN KEY'
    AND tc.table_name IN ('chat_conversations', 'chat_messages');`

	sqlRecentActions = `-- Check recent chat actions
SELECT
    action,
    resource,
    status,
    COUNT(*) as count,
    MAX(created_at) as last_occurrence
FROM audit_logs
WHERE action LIKE 'chat.%'
GROUP BY action, resource, status
ORDER BY last_occurrence DESC;`

	sqlErrors = `-- Check for errors
SELECT * FROM audit_logs
WHERE action LIKE 'chat.%'
    AND status = 'failure'
ORDER BY created_at DESC
LIMIT 10;`

	sqlMessagesPerHour = `SELECT
    DATE_TRUNC('hour', created_at) as hour,
    COUNT(*) as message_count,
    COUNT(DISTINCT user_id) as unique_users
FROM chat_messages
WHERE created_at > NOW() - INTERVAL '24 hours'
GROUP BY hour
ORDER BY hour DESC;`

	sqlActiveConversations = `SELECT
    COUNT(*) as total_conversations,
    COUNT(DISTINCT user_id) as unique_users,
    AVG(message_count) as avg_messages_per_conversation
FROM (
    SELECT
        conversation_id,
        user_id,
        COUNT(*) as message_count
    FROM chat_messages
    WHERE conversation_id IS NOT NULL
    GROUP BY conversation_id, user_id
) as conv_stats;`

	sqlResponseTimes = `SELECT
    DATE_TRUNC('hour', created_at) as hour,
    AVG(EXTRACT(EPOCH FROM (updated_at - created_at))) as avg_response_time_seconds
FROM audit_logs
WHERE action = 'chat.message_sent'
    AND status = 'success'
    AND created_at > NOW() - INTERVAL '24 hours'
GROUP BY hour
ORDER BY hour DESC;`

	sqlErrorRate = `SELECT
    action,
    COUNT(CASE WHEN status = 'failure' THEN 1 END) as failures,
    COUNT(*) as total,
    ROUND(100.0 * COUNT(CASE WHEN status = 'failure' THEN 1 END) / COUNT(*), 2) as error_rate_percent
FROM audit_logs
WHERE action LIKE 'chat.%'
    AND created_at > NOW() - INTERVAL '24 hours'
GROUP BY action;`

	sqlStatistics = `-- Check missing indexes
SELECT
    schemaname,
    tablename,
    attname,
    null_frac,
    avg_width,
    n_distinct,
    correlation
FROM pg_stats
WHERE tablename IN ('chat_messages', 'chat_conversations')
ORDER BY null_frac DESC;`

	// Parley's place of the checklist's _prisma_migrations.
	sqlMigration = `SELECT * FROM atlas_schema_revisions.atlas_schema_revisions
WHERE version = '20261127000000';`
)

// TestChecklist_SQL feeds known traffic and reads it back by the checklist's
// own statements.
func TestChecklist_SQL(t *testing.T) {
	t.Parallel()
	store := openPostgres(t)
	// All of it falls in one hour, an hour ago at most.
	at := time.Now().UTC().Truncate(time.Hour).Add(-30 * time.Minute)
	hour := at.Truncate(time.Hour).Format(time.RFC3339)

	// ann: two messages in one conversation (answered after 2 s and 4 s), one
	// in the default thread that fails; bob: one in a conversation, after 6 s.
	traffic := []struct {
		user, conversation string
		took               time.Duration
		state              chat.State
	}{
		{"ann", "c1", 2 * time.Second, chat.Completed},
		{"ann", "c1", 4 * time.Second, chat.Completed},
		{"ann", "", time.Second, chat.Failed},
		{"bob", "c2", 6 * time.Second, chat.Completed},
	}
	for i, turn := range traffic {
		sent := at.Add(time.Duration(i) * time.Minute)
		storeTurn(t, store, turn.user, turn.conversation, turn.state, fmt.Sprint(i), sent, turn.took)
	}
	if _, err := raw(store).Exec("ANALYZE"); err != nil {
		t.Fatal(err)
	}
	zone := func(at time.Time) string { return at.UTC().Format(time.RFC3339) }
	last := zone(at.Add(3 * time.Minute))

	for _, c := range []struct {
		name, statement string
		want            [][]string // the first columns of every row
	}{
		{"TablesExist", sqlTablesExist, [][]string{{"chat_conversations"}, {"chat_messages"}}},
		{"Indexes", sqlIndexesExist, [][]string{
			{"chat_conversations_expiry_idx", "chat_conversations"},
			{"chat_conversations_pkey", "chat_conversations"}, {"chat_conversations_recent_idx", "chat_conversations"},
			{"chat_messages_parent_idx", "chat_messages"}, {"chat_messages_pkey", "chat_messages"},
			{"chat_messages_thread_idx", "chat_messages"}, {"chat_messages_user_idx", "chat_messages"},
		}},
		{"Conversation", sqlOneConversation, [][]string{{"ann", "c1", "0"}}},
		{"Message", sqlOneMessage, [][]string{{"ann", "msg-0", "c1"}}},
		{"MessagesPerHour", sqlMessagesPerHour, [][]string{{hour, "7", "2"}}},
		{"ActiveConversations", sqlActiveConversations, [][]string{{"2", "2", "3.0000000000000000"}}},
		{"ResponseTimes", sqlResponseTimes, [][]string{{hour, "4.0000000000000000"}}},
		{"ErrorRate", sqlErrorRate, [][]string{{"chat.message_sent", "1", "4", "25.00"}}},
		{"RecentActions", sqlRecentActions, [][]string{
			{"chat.message_sent", "chat_message", "failure", "1", zone(at.Add(2 * time.Minute))},
			{"chat.message_sent", "chat_message", "success", "3", last},
		}},
		{"Errors", sqlErrors, [][]string{{"ann", "audit-2", "chat.message_sent", "chat_message", "msg-2"}}},
		{"Migration", sqlMigration, [][]string{{"20261127000000", "init", "2"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := query(t, store.DB(), c.statement)
			for i := range got {
				if i < len(c.want) {
					got[i] = got[i][:min(len(c.want[i]), len(got[i]))]
				}
			}
			slices.SortFunc(got, slices.Compare)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	t.Run("ForeignKeys", func(t *testing.T) {
		got := query(t, store.DB(), sqlForeignKeys)
		for _, want := range [][]string{
			{"chat_conversations", "user_id", "chat_users", "user_id"},
			{"chat_messages", "user_id", "chat_users", "user_id"},
			{"chat_messages", "conversation_id", "chat_conversations", "id"},
		} {
			if !slices.ContainsFunc(got, func(row []string) bool { return slices.Equal(row, want) }) {
				t.Errorf("no %v in %v", want, got)
			}
		}
	})

	t.Run("ExplainUsesAnIndex", func(t *testing.T) {
		tx, err := store.DB().Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.Exec("SET LOCAL enable_seqscan = off"); err != nil { // the table is tiny here
			t.Fatal(err)
		}
		plan := fmt.Sprint(queryTx(t, tx, sqlExplain))
		if !strings.Contains(plan, "chat_messages_user_idx") || strings.Contains(plan, "Sort") {
			t.Errorf("plan: %s", plan)
		}
	})

	t.Run("Statistics", func(t *testing.T) {
		if got := query(t, store.DB(), sqlStatistics); len(got) < 10 {
			t.Errorf("%d rows", len(got))
		}
	})
}

func TestChecklist_TableStructure(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	out, err := exec.Command(testenv.Binary(t, "psql"), url, "-c", `\d chat_messages`).CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
	for _, want := range []string{"content", "timestamp with time zone", "chat_messages_pkey", "ON DELETE CASCADE"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// storeTurn stores one turn that began at sent and took that long.
func storeTurn(t *testing.T, store *sqlstore.Store, user, conversation string, state chat.State, id string, sent time.Time, took time.Duration) {
	t.Helper()
	ctx := context.Background()
	admitted, err := store.Admit(ctx, chat.AdmitRequest{
		Run:     chat.Run{ID: "run-" + id, UserID: user, ConversationID: conversation, Kind: chat.Reply, AuditID: "audit-" + id},
		Message: &chat.Message{ID: "msg-" + id, Content: id, CreatedAt: sent}, CreateConversation: true,
		Audit: audit.Entry{Action: audit.ActionMessageSent, Resource: audit.ResourceMessage, CreatedAt: sent, UpdatedAt: sent},
		Owner: "here", Lease: time.Minute, Context: 50, Now: sent,
	}, chat.Admit)
	if err != nil {
		t.Fatal(err)
	}
	o := chat.Outcome{
		UserID: user, RunID: admitted.Run.ID, Attempt: 1, ConversationID: conversation, State: state, At: sent.Add(took),
	}
	if state == chat.Completed {
		o.Output = chat.TextOutput("re: " + id)
	}
	if _, err := store.Finish(ctx, o, chat.Finish); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, db *sql.DB, statement string) [][]string {
	t.Helper()
	found, err := db.Query(statement)
	return table(t, found, err)
}

func queryTx(t *testing.T, tx *sql.Tx, statement string) [][]string {
	t.Helper()
	found, err := tx.Query(statement)
	return table(t, found, err)
}

func table(t *testing.T, found *sql.Rows, err error) (out [][]string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	columns, err := found.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for found.Next() {
		cells := make([]any, len(columns))
		for i := range cells {
			cells[i] = new(any)
		}
		if err := found.Scan(cells...); err != nil {
			t.Fatal(err)
		}
		var row []string
		for _, c := range cells {
			switch v := (*c.(*any)).(type) {
			case time.Time:
				row = append(row, v.UTC().Format(time.RFC3339))
			case []byte:
				row = append(row, string(v))
			default:
				row = append(row, fmt.Sprint(v))
			}
		}
		out = append(out, row)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestChecklist_PlainDumpAndRestore runs the checklist's two lines as an
// operator pastes them: as the owner of the tables, who is no superuser, and as
// the application's role of deploy/postgres/roles.sql.
func TestChecklist_PlainDumpAndRestore(t *testing.T) {
	t.Parallel()
	owner, ownerURL, appURL := deployed(t)
	at := time.Now().UTC().Add(-time.Minute)
	storeTurn(t, owner, "ann", "c1", chat.Completed, "1", at, time.Second)
	chained(t, owner, 10)
	storeTurn(t, owner, "bob", "", chat.Failed, "2", at, time.Second) // not sealed yet
	before := countRows(t, owner)
	for name, url := range map[string]string{"Owner": ownerURL, "ApplicationRole": appURL} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			shell(t, dir, url, "pg_dump $DATABASE_URL > backup_20251106.sql")
			into := emptyDatabase(t, owner, ownerURL)
			if said := shell(t, dir, into, "psql $DATABASE_URL < backup_20251106.sql"); strings.Contains(said, "ERROR") {
				t.Errorf("psql: %s", said)
			}
			restored := open(t, sqlstore.Options{URL: into})
			if diff := cmp.Diff(before, countRows(t, restored)); diff != "" {
				t.Errorf("rows (-before +restored):\n%s", diff)
			}
			if status, err := restored.MigrationStatus(t.Context()); err != nil || len(status.Pending) > 0 || status.Ahead {
				t.Errorf("migrations: %+v, %v", status, err)
			}
			if _, err := restored.DB().Exec("DELETE FROM audit_logs"); err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("the restored audit log can be deleted: %v", err)
			}
			chained(t, restored, 10)
			storeTurn(t, restored, "ann", "c1", chat.Completed, "3", time.Now(), time.Second)
		})
	}
}

// deployed is a migrated database as the documentation sets it up: its tables
// belong to a role that is no superuser, and the application has another.
func deployed(t *testing.T) (owner *sqlstore.Store, ownerURL, appURL string) {
	t.Helper()
	super := open(t, sqlstore.Options{URL: testenv.Postgres(t)})
	var database string
	if err := raw(super).QueryRow("SELECT current_database()").Scan(&database); err != nil {
		t.Fatal(err)
	}
	ownerRole, appRole := database+"_owner", database+"_app"
	ownerURL, appURL = as(t, super, ownerRole, "secret"), as(t, super, appRole, "secret")
	exec := func(store *sqlstore.Store, statement string) {
		t.Helper()
		if _, err := store.DB().Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	exec(super, "CREATE ROLE "+ownerRole+" LOGIN CREATEROLE CREATEDB PASSWORD 'secret'")
	exec(super, "ALTER DATABASE "+database+" OWNER TO "+ownerRole+"; ALTER SCHEMA public OWNER TO "+ownerRole)
	t.Cleanup(func() {
		exec(super, "ALTER DATABASE "+database+" OWNER TO CURRENT_USER; REASSIGN OWNED BY "+ownerRole+" TO CURRENT_USER; DROP OWNED BY "+ownerRole)
		exec(super, "DROP OWNED BY "+appRole+"; DROP ROLE "+appRole+"; DROP ROLE "+ownerRole)
	})
	owner = migrated(t, sqlstore.Options{URL: ownerURL})
	script, err := os.ReadFile("../../deploy/postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	exec(owner, strings.ReplaceAll(string(script), "parley_app", appRole))
	exec(owner, "ALTER ROLE "+appRole+" PASSWORD 'secret'")
	return owner, ownerURL, appURL
}

// emptyDatabase returns the URL of a second database of the same owner.
func emptyDatabase(t *testing.T, owner *sqlstore.Store, ownerURL string) string {
	t.Helper()
	name := fmt.Sprintf("parley_test_restored_%d", time.Now().UnixNano())
	if _, err := owner.DB().Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := owner.DB().Exec("DROP DATABASE " + name); err != nil {
			t.Errorf("drop the restored database: %v", err)
		}
	})
	u, err := url.Parse(ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// shell runs a line as an operator pastes it and returns what it printed.
func shell(t *testing.T, dir, databaseURL, line string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DATABASE_URL="+databaseURL,
		"PATH="+filepath.Dir(testenv.Binary(t, "pg_dump"))+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// countRows counts the rows of every table.
func countRows(t *testing.T, store *sqlstore.Store) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	for _, model := range rows.All {
		table := raw(store).Table(reflect.TypeOf(model).Elem()).Name
		var n int64
		if err := store.DB().QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		counts[table] = n
	}
	return counts
}
