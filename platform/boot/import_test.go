package boot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
)

// replaced makes a database of the backend that Parley replaces, with users of
// every sort, and returns its URL.
func replaced(t *testing.T, more ...string) string {
	t.Helper()
	return testdb.Prisma(t, append([]string{`
		SET timezone = 'Asia/Tokyo';
		INSERT INTO users VALUES ('cuid1', 'Ann', 'ann@example.com'), ('cuid2', 'Bob', 'bob@example.com'), ('no-chat', NULL, NULL);
		INSERT INTO chat_conversations (id, "userId", title, "lastMessageAt", "createdAt", "updatedAt") VALUES
			('cm1', 'cuid1', 'Häuser & <b>Gärten</b>', '2025-11-06 12:00:09.5', '2025-11-06 12:00:00', '2025-11-06 12:00:09.5'),
			('cm2', 'cuid1', NULL, '2025-11-07 00:00:00.001', '2025-11-05 23:59:59.999', '2025-11-07'),
			('cm3', 'cuid1', 'Empty', '2025-11-01', '2025-11-01', '2025-11-01'),
			('cm4', 'cuid2', 'Bob''s', '2025-11-02', '2025-11-01', '2025-11-02');
		INSERT INTO chat_messages (id, "conversationId", "userId", content, role, metadata, "createdAt", "updatedAt")
			SELECT 'cm1m' || lpad(n::text, 3, '0'), 'cm1', 'cuid1', 'text ' || n || E'\n\t\\ ''"', CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
				CASE n % 2 WHEN 1 THEN '{"generatedAt": "2025-11-06T12:00:00.000Z", "contextLength": 2, "n": 9007199254740993}'::jsonb END,
				timestamp '2025-11-06 12:00' + interval '1 second' * (n / 7), now() FROM generate_series(0, 69) AS n;
		INSERT INTO chat_messages (id, "conversationId", "userId", content, role, "createdAt", "updatedAt") VALUES
			('b1', 'cm2', 'cuid1', 'Two at once', 'USER', '2025-11-06 10:00', now()), ('b2', 'cm2', 'cuid1', '', 'Assistant', '2025-11-06 10:00', now()),
			('d1', NULL, 'cuid1', 'No conversation 👩‍👩‍👧', 'user', '2025-11-06 09:00', now()), ('d2', NULL, 'cuid1', 'Answer', 'assistant', '2025-11-06 09:00:00.001', now()),
			('d3', NULL, 'cuid1', repeat('long ', 60000), 'user', '2025-11-06 13:00', now()),
			('e1', 'cm4', 'cuid2', 'Bob', 'user', '2025-11-02', now()), ('f1', NULL, 'cuid2', 'Bob alone', 'user', '2025-11-02', now());`}, more...)...)
}

// rowsOf is the result of a query, each row as JSON.
func rowsOf(t *testing.T, url, query string, args ...any) (list []map[string]any) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	found, err := conn.Query(context.Background(), "SELECT to_jsonb(r)::text FROM ("+query+") AS r", args...)
	if err != nil {
		t.Fatal(err)
	}
	for found.Next() {
		var text string
		if err := found.Scan(&text); err != nil {
			t.Fatal(err)
		}
		list = append(list, decodeNumbers(t, text))
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// decodeNumbers decodes JSON and keeps numbers as they are written.
func decodeNumbers(t *testing.T, text string) (v map[string]any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

const isoTime = `to_char(%[1]s, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`

// replacedMessages is what the replaced backend answers to GET /api/chat/messages:
// the newest page, oldest first, as its client sees it. Of messages of one time it
// promises no order; ids are in the order in which they were made.
func replacedMessages(t *testing.T, url, user, where string) []map[string]any {
	t.Helper()
	list := rowsOf(t, url, fmt.Sprintf(`SELECT id, "conversationId", "userId", content, lower(role) AS role, metadata, `+isoTime+` AS "createdAt"
		FROM chat_messages WHERE "userId" = $1 AND %[2]s ORDER BY chat_messages."createdAt" DESC, id DESC LIMIT 50`, `chat_messages."createdAt"`, where), user)
	slices.Reverse(list)
	return list
}

// members leaves those that the replaced backend has.
func members(list any, names ...string) (out []map[string]any) {
	items, _ := list.([]any)
	for _, item := range items {
		m, kept := item.(map[string]any), map[string]any{}
		for _, name := range names {
			kept[name] = m[name]
		}
		out = append(out, kept)
	}
	return out
}

// What a client of the replaced backend reads after the import is what it read
// before: conversations in the same order, messages in the same order, with the
// same ids, texts, times and metadata. The import can be repeated, and the
// conversations go on.
func TestImport_OldClientSeesTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		env = append(env, "AUTH_SECRET="+testSecret)
		from := replaced(t)
		before := sourceState(t, from)
		said := run(t, env, "import", "prisma", from)
		if !strings.Contains(said, "verified: Parley has the 4 conversations and 77 messages") {
			t.Errorf("import:\n%s", said)
		}
		p := start(t, env...)
		ann := bearer(t, env, "cuid1")
		same := func() {
			t.Helper()
			conversations := rowsOf(t, from, fmt.Sprintf(`SELECT id, "userId", title, `+isoTime+` AS "lastMessageAt", `+fmt.Sprintf(isoTime, `c."createdAt"`)+` AS "createdAt"
				FROM chat_conversations AS c WHERE "userId" = 'cuid1' ORDER BY c."lastMessageAt" DESC`, `c."lastMessageAt"`))
			got := decodeNumbers(t, call(t, "GET", p.url+"/api/chat/conversations", "", ann).body)["conversations"]
			if diff := cmp.Diff(conversations, members(got, "id", "userId", "title", "lastMessageAt", "createdAt")); diff != "" {
				t.Errorf("conversations (-replaced +Parley):\n%s", diff)
			}
			for _, thread := range []string{"cm1", "cm2", "cm3", ""} {
				where, query := `"conversationId" IS NULL`, ""
				if thread != "" {
					where, query = `"conversationId" = '`+thread+`'`, "?conversationId="+thread
				}
				got := decodeNumbers(t, call(t, "GET", p.url+"/api/chat/messages"+query, "", ann).body)["messages"]
				want := replacedMessages(t, from, "cuid1", where)
				if diff := cmp.Diff(want, members(got, "id", "conversationId", "userId", "content", "role", "metadata", "createdAt")); diff != "" {
					t.Errorf("thread %q (-replaced +Parley):\n%s", thread, diff)
				}
			}
		}
		same()
		said = run(t, env, "import", "prisma", from) // beside serve
		if !strings.Contains(said, "verified: Parley has the 4 conversations and 77 messages") {
			t.Errorf("import again:\n%s", said)
		}
		same()
		if diff := cmp.Diff(before, sourceState(t, from)); diff != "" {
			t.Errorf("the import changed its source:\n%s", diff)
		}

		// The thread goes on where it ended, and a message that came to the old
		// backend meanwhile neither is lost nor moves the end.
		a := call(t, "POST", p.url+"/api/chat/messages", message("!echo goes on", "conversationId", "cm1"), ann)
		if parent := at(a.json(t), "userMessage", "parentId"); a.status != http.StatusCreated || parent != "cm1m069" {
			t.Errorf("send: %d, behind %v: %s", a.status, parent, a.body)
		}
		testdb.Execute(t, from, `INSERT INTO chat_messages (id, "conversationId", "userId", content, role, "createdAt", "updatedAt") VALUES ('late', 'cm1', 'cuid1', 'Late', 'user', '2025-11-06 12:00:30', now())`)
		run(t, env, "import", "prisma", from)
		a = call(t, "POST", p.url+"/api/chat/messages", message("!echo on and on", "conversationId", "cm1"), ann)
		if parent := at(a.json(t), "userMessage", "parentId"); a.status != http.StatusCreated || parent == "late" {
			t.Errorf("send: %d, behind %v", a.status, parent)
		}
		list := call(t, "GET", p.url+"/api/chat/messages?conversationId=cm1&limit=100", "", ann).json(t)["messages"].([]any)
		if len(list) != 75 || at(list, 70, "id") != "late" {
			t.Errorf("%d messages, the 71st is %v", len(list), at(list, 70, "id"))
		}

		// What its user deletes in Parley, and a user who is erased, do not come back.
		if a := call(t, "DELETE", p.url+"/api/chat/conversations?id=cm2", "", ann); a.status != http.StatusOK {
			t.Errorf("delete: %d %s", a.status, a.body)
		}
		run(t, env, "user", "erase", "--user", "cuid2")
		said = run(t, env, "import", "prisma", from)
		if got := a.status; got == 0 || call(t, "GET", p.url+"/api/chat/messages?conversationId=cm2", "", ann).status != http.StatusNotFound {
			t.Errorf("the deleted conversation is back:\n%s", said)
		}
		if list := call(t, "GET", p.url+"/api/chat/conversations", "", bearer(t, env, "cuid2")).json(t)["conversations"].([]any); len(list) > 0 {
			t.Errorf("the erased user is back:\n%s", said)
		}
		p.terminate()
		if out := run(t, env, "audit", "verify"); !strings.Contains(out, " 0 findings") {
			t.Errorf("audit verify: %s", out)
		}
	})
}

// sourceState is everything in the source.
func sourceState(t *testing.T, url string) []map[string]any {
	t.Helper()
	return slices.Concat(rowsOf(t, url, "SELECT *, xmin::text FROM chat_messages ORDER BY id"), rowsOf(t, url, "SELECT *, xmin::text FROM chat_conversations ORDER BY id"),
		rowsOf(t, url, "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"))
}

// Rows that cannot be imported are named by id, without text, and make the exit
// code 1; all others are imported.
func TestImport_BadRows(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		from := replaced(t, `ALTER TABLE chat_messages ALTER content DROP NOT NULL;
			INSERT INTO chat_messages (id, "userId", content, role, "createdAt", "updatedAt") VALUES
				('s1', 'cuid1', 'SECRET1', 'system', now(), now()), ('s2', 'cuid1', NULL, 'user', now(), now()),
				('s3', 'cuid1', 'SECRET3', 'user', 'infinity', now()), ('s 4', 'cuid1', 'SECRET4', 'user', now(), now()),
				('s5', 'cuid1', E'SECRET5\x07', 'user', now(), now());
			INSERT INTO chat_messages (id, "conversationId", "userId", content, role, "createdAt", "updatedAt") VALUES
				('s6', 'cm4', 'cuid1', 'SECRET6', 'user', now(), now())`)
		for _, args := range [][]string{{"import", "prisma", from, "--dry-run"}, {"import", "prisma", from}} {
			out, code := fails(t, append(env, "MIGRATE_ON_START=true"), args...)
			if code == 2 { // the dry run needs the tables
				run(t, env, "migrate", "up")
				out, code = fails(t, env, args...)
			}
			for _, want := range []string{
				`refused: message "s1" of user "cuid1": its role`, `refused: message "s2" of user "cuid1": its content is NULL`, `refused: message "s3" of user "cuid1": its createdAt`,
				`refused: message "s 4" of user "cuid1": its id`, `changed: message "s5" of user "cuid1": control characters`, `changed: message "s6" of user "cuid1": it is in the user's default thread`,
				"4 rows were refused",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("%v lacks %q:\n%s", args, want, out)
				}
			}
			if code != 1 || strings.Contains(out, "SECRET") || strings.Contains(out, from) {
				t.Errorf("%v: exit code %d:\n%s", args, code, out)
			}
		}
		p := start(t, env...)
		list := call(t, "GET", p.url+"/api/chat/messages?limit=100", "", bearer(t, env, "cuid1")).json(t)["messages"].([]any)
		if got := fmt.Sprintln(at(list, 3, "id"), at(list, 3, "content"), at(list, 4, "id")); len(list) != 5 || got != "s5 SECRET5 s6\n" {
			t.Errorf("%d messages in the default thread: %s", len(list), got)
		}
	})
}

// A process that is killed at any moment leaves whole batches, and the next one
// goes on.
func TestImport_Killed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Parallel()
	from := replaced(t, `INSERT INTO chat_messages (id, "userId", content, role, "createdAt", "updatedAt")
		SELECT 'many' || n, 'cuid1', 'text ' || n, 'user', '2025-11-08'::timestamp + interval '1 second' * n, now() FROM generate_series(1, 6000) AS n`)
	into := testenv.Postgres(t)
	env := []string{"DATA_DIR=" + t.TempDir(), "DATABASE_URL=" + into, "AUTH_SECRET=" + testSecret}
	run(t, env, "migrate", "up")
	stored := func() int {
		n, err := strconv.Atoi(fmt.Sprint(rowsOf(t, into, "SELECT count(*) AS n FROM chat_messages")[0]["n"]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	killed := 0
	for range 5 {
		before := stored()
		cmd := exec.Command(os.Args[0], "import", "prisma", from)
		cmd.Env = environment(env)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		eventually(t, "a batch to be stored", func() bool { return stored() != before || len(done) > 0 })
		_ = cmd.Process.Kill()
		if err := <-done; err != nil {
			killed++
		}
	}
	if killed == 0 {
		t.Error("no import was killed")
	}
	if said := run(t, env, "import", "prisma", from); !strings.Contains(said, "verified: Parley has the 4 conversations and 6077 messages") {
		t.Errorf("after the kills:\n%s", said)
	}
	holes := rowsOf(t, into, `SELECT m.id FROM chat_messages AS m LEFT JOIN chat_messages AS p ON p.user_id = m.user_id AND p.id = m.parent_id
		WHERE m.user_id = 'cuid1' AND m.conversation_id IS NULL AND m.id LIKE 'many%' AND p.id IS NULL`)
	twice := rowsOf(t, into, "SELECT parent_id FROM chat_messages WHERE parent_id IS NOT NULL GROUP BY user_id, parent_id HAVING count(*) > 1")
	if len(holes)+len(twice) > 0 {
		t.Errorf("not linked: %v, linked twice: %v", holes, twice)
	}
}

// Parley may have its tables in a schema of the same database, and the source's may
// be in any; a role that can only read them is enough.
func TestImport_SameDatabase(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Parallel()
	from := replaced(t, `ALTER SCHEMA public RENAME TO "Old App"; CREATE SCHEMA public`)
	separator := "?"
	if strings.Contains(from, "?") {
		separator = "&"
	}
	source := from + separator + "schema=Old%20App&connection_limit=1&pgbouncer=true"
	env := []string{"DATA_DIR=" + t.TempDir(), "DATABASE_URL=" + from + separator + "schema=parley", "AUTH_SECRET=" + testSecret}
	run(t, env, "migrate", "up")

	cmd := exec.Command(os.Args[0], "import", "prisma", "-")
	cmd.Env, cmd.Stdin = environment(env), strings.NewReader(source+"\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "verified: Parley has the 4 conversations and 77 messages") {
		t.Errorf("%v:\n%s", err, out.String())
	}
	for _, wrong := range []struct{ url, want string }{
		{from + separator + "schema=parley", "are Parley's own"},
		{from, "has no tables chat_conversations and chat_messages in the schema public"},
		{"mysql://x", "the URL of the source must be a URL that begins with postgres://"},
		{"postgres://127.0.0.1:1/x", "open the source"},
	} {
		said, code := fails(t, env, "import", "prisma", wrong.url)
		if !strings.Contains(said, wrong.want) || code == 0 {
			t.Errorf("%s: %d %s", wrong.want, code, said)
		}
	}
}

// What a user can do with a message that Parley has stored itself, a user can do
// with one that was imported.
func TestImport_MessagesAreLikeOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		env = append(env, "AUTH_SECRET="+testSecret)
		run(t, env, "import", "prisma", replaced(t))
		p := start(t, env...)
		ann := bearer(t, env, "cuid1")
		for _, c := range []struct {
			method, path, body string
			status             int
			want               string
		}{
			{"POST", "/api/chat/messages/cm1m069/regenerate", "", 201, `"parentId":"cm1m068"`},
			{"POST", "/api/chat/messages/d2/regenerate", "", 201, `"parentId":"d1"`},
			{"PATCH", "/api/chat/messages/cm1m068", message("!echo edited"), 201, `"parentId":"cm1m067"`},
			{"POST", "/api/chat/messages/cm1m069/continue", "", 409, ""},
			{"PUT", "/api/chat/messages/cm1m069/feedback", `{"rating":"up"}`, 200, ""},
			{"POST", "/api/chat/conversations/cm1/shares", `{}`, 201, ""},
			{"GET", "/api/chat/search?q=conversation", "", 200, `"messageId":"d1"`},
			{"GET", "/api/chat/search?q=g%C3%A4rten", "", 200, `"conversationId":"cm1"`},
			{"GET", "/api/chat/messages?conversationId=cm1&render=html", "", 200, `"contentHtml"`},
			{"GET", "/api/chat/cm1/messages", "", 200, `"cm1m067"`},
			{"GET", "/api/chat/export", "", 200, `"cm1m069"`},
			{"PATCH", "/api/chat/conversations", `{"conversationId":"cm2","title":"Named"}`, 200, `"Named"`},
			{"DELETE", "/api/chat/conversations?id=cm1", "", 200, ""},
		} {
			a := call(t, c.method, p.url+c.path, c.body, ann)
			if a.status != c.status || !strings.Contains(a.body, c.want) {
				t.Errorf("%s %s: %d without %s: %.600s", c.method, c.path, a.status, c.want, a.body)
			}
		}
	})
}
