package sqlstore_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"parley/adapters/sqlstore"
	"parley/domain/audit"
)

// appRole makes the role of deploy/postgres/roles.sql and returns the URL by
// which it connects, and its name.
func appRole(t *testing.T, owner *sqlstore.Store) (url, role string) {
	t.Helper()
	script, err := os.ReadFile("../../deploy/postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.DB().QueryRow("SELECT current_database() || '_app'").Scan(&role); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it can be run again
		if _, err := owner.DB().Exec(strings.ReplaceAll(string(script), "parley_app", role)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := owner.DB().Exec("DROP OWNED BY " + role + "; DROP ROLE " + role); err != nil {
			t.Errorf("drop role: %v", err)
		}
	})
	if _, err := owner.DB().Exec("ALTER ROLE " + role + " PASSWORD 'secret'"); err != nil {
		t.Fatal(err)
	}
	return as(t, owner, role, "secret"), role
}

// TestAudit_ApplicationRoleCannot tries, as the application's role, what
// docs/audit.md says that it cannot do: change or delete what is recorded, erase
// a user without a link that says so, change the root, disable what refuses it.
func TestAudit_ApplicationRoleCannot(t *testing.T) {
	owner := openPostgres(t)
	url, role := appRole(t, owner)
	if err := owner.Record(t.Context(), audited("ann", "done", audit.Success), audited("bob", "open", audit.Pending)); err != nil {
		t.Fatal(err)
	}
	chained(t, owner, 10)
	if err := owner.Record(t.Context(), audited("ann", "queued", audit.Success)); err != nil {
		t.Fatal(err)
	}
	var owns string
	if err := owner.DB().QueryRow("SELECT current_user").Scan(&owns); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.DB().Exec(`INSERT INTO audit_root (id, wrapped) VALUES (1, '\x01')`); err != nil {
		t.Fatal(err)
	}
	before := recorded(t, owner)
	sum := `decode(repeat('ab', 32), 'hex')`
	zero := `decode(repeat('00', 32), 'hex')`
	subject := "(SELECT subject FROM audit_keys WHERE user_id = 'ann')"
	tail := "(SELECT hash FROM audit_chain ORDER BY seq DESC LIMIT 1)"
	link := func(seq, subject, kind, prev, hash string) string {
		return "INSERT INTO audit_chain (seq, subject, entry_id, kind, digest, prev, hash, sealed_at) VALUES (" +
			strings.Join([]string{seq, subject, "''", "'" + kind + "'", zero, prev, hash, "now()"}, ", ") + ")"
	}
	declare := func(user, subject, seq, prev, hash string) string {
		return "SELECT audit_declare_erasure(" + strings.Join([]string{user, subject, seq, prev, hash, "now()"}, ", ") + ")"
	}
	for _, group := range []struct {
		name string
		sql  []string
	}{
		{"ChangeEntries", []string{
			"UPDATE audit_logs SET action = 'b'", "UPDATE audit_logs SET created_at = now()", "UPDATE audit_logs SET user_id = 'b'",
			"UPDATE audit_logs SET status = 'failure' WHERE id = 'done'", "UPDATE audit_logs SET error_message = 'b' WHERE id = 'done'",
			"UPDATE audit_logs SET updated_at = now() WHERE id = 'done'", "UPDATE audit_logs SET status = 'pending' WHERE id = 'done'",
			"UPDATE audit_logs SET updated_at = now() WHERE id = 'open'",
			`INSERT INTO audit_logs SELECT * FROM audit_logs WHERE id = 'done' ON CONFLICT (user_id, id) DO UPDATE SET action = 'b'`,
			`INSERT INTO audit_logs SELECT * FROM audit_logs WHERE id = 'done' ON CONFLICT (user_id, id) DO UPDATE SET status = 'failure'`,
			"DELETE FROM audit_logs", "DELETE FROM audit_logs WHERE id = 'open'", "TRUNCATE audit_logs", "TRUNCATE audit_logs CASCADE",
			"WITH gone AS (DELETE FROM audit_logs RETURNING 1) SELECT count(*) FROM gone",
		}},
		{"ChangeTheChain", []string{
			"UPDATE audit_chain SET entry_id = 'b'", "DELETE FROM audit_chain", "TRUNCATE audit_chain",
			link("9", "'s'", "closed", tail, sum), link("9223372036854775807", "'s'", "closed", tail, sum), link("0", "'s'", "closed", zero, sum),
			link("-1", "'s'", "closed", zero, sum), link("3", "'s'", "closed", sum, sum), link("3", "'s'", "closed", tail, "'x'"),
			link("3", subject, "erased", tail, sum),
			link("3", "'s'", "other", tail, sum),
		}},
		{"ChangeKeys", []string{
			"UPDATE audit_keys SET user_id = 'b'", "UPDATE audit_keys SET salt = ''", "DELETE FROM audit_keys", "TRUNCATE audit_keys",
			`INSERT INTO audit_keys VALUES ('ann', 's', '') ON CONFLICT (user_id) DO UPDATE SET salt = ''`,
		}},
		{"ChangeTheRoot", []string{
			`UPDATE audit_root SET wrapped = '\x00'`, "UPDATE audit_root SET id = 2", "DELETE FROM audit_root", "TRUNCATE audit_root",
			`INSERT INTO audit_root VALUES (1, '\x00') ON CONFLICT (id) DO UPDATE SET wrapped = excluded.wrapped`,
		}},
		{"FillTheQueue", []string{
			"INSERT INTO audit_unsealed (user_id, entry_id, kind) VALUES ('ann', 'x', 'bogus')",
			"UPDATE audit_unsealed SET entry_id = 'x'", "TRUNCATE audit_unsealed",
			"SELECT nextval('audit_unsealed_n_seq')", "SELECT setval('audit_unsealed_n_seq', 1)",
			"ALTER SEQUENCE audit_unsealed_n_seq RESTART",
		}},
		{"EraseWithoutALink", []string{
			"INSERT INTO audit_erasures VALUES ('ann', 's', now())", "INSERT INTO audit_erasures SELECT user_id, subject, now() FROM audit_keys",
			"UPDATE audit_erasures SET declared_at = now()", "DELETE FROM audit_erasures", "TRUNCATE audit_erasures",
			"SELECT audit_erase('ann', 10)", "SELECT audit_end_erasure('ann')",
			declare("''", "'s'", "3", tail, sum),                // entries without a user
			declare("'ann'", "'s'", "3", tail, sum),             // another subject
			declare("'eve'", subject, "3", tail, sum),           // another user's
			declare("'eve'", "'erased before'", "9", tail, sum), // a gap
			declare("'ann'", subject, "3", sum, sum),            // not behind the last link
			declare("'ann'", subject, "3", tail, "'x'"),         // no hash
			declare("'ann'", subject, "2", tail, sum), "COPY audit_erasures FROM '/dev/null'",
		}},
		{"DisableTriggers", []string{
			"ALTER TABLE audit_logs DISABLE TRIGGER ALL", "ALTER TABLE audit_chain DISABLE TRIGGER USER", "ALTER TABLE audit_root DISABLE TRIGGER ALL",
			"DROP TRIGGER audit_logs_delete ON audit_logs", "DROP TABLE audit_chain", "ALTER TABLE audit_logs RENAME TO gone",
			"CREATE RULE r AS ON DELETE TO audit_logs DO INSTEAD NOTHING",
			"CREATE TRIGGER t BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
			"CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
			"ALTER FUNCTION audit_refuse() RESET search_path", "DROP FUNCTION audit_refuse() CASCADE",
			"SET session_replication_role = replica", "ALTER TABLE audit_logs OWNER TO CURRENT_USER",
			"CREATE TABLE mine (id int)", "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
		}},
		{"BecomeTheOwner", []string{
			"SET ROLE " + owns, "SET SESSION AUTHORIZATION " + owns,
			"GRANT DELETE ON audit_logs TO " + role + "; DELETE FROM audit_logs", "GRANT DELETE ON audit_logs TO " + role, "GRANT " + owns + " TO " + role,
			"REASSIGN OWNED BY " + owns + " TO " + role, "ALTER ROLE " + role + " SUPERUSER", "ALTER ROLE " + role + " BYPASSRLS",
		}},
		{"WithATemporaryTable", []string{
			// Names of our tables, in a schema that is searched first.
			`CREATE TEMP TABLE audit_erasures (user_id text, subject text, declared_at timestamptz);
			 INSERT INTO pg_temp.audit_erasures VALUES ('ann', 's', now()); SELECT audit_erase('ann', 10)`,
			`CREATE TEMP TABLE audit_erasures (user_id text, subject text, declared_at timestamptz);
			 CREATE TEMP TABLE audit_chain (subject text, kind text);
			 INSERT INTO pg_temp.audit_erasures VALUES ('ann', 's', now()); INSERT INTO pg_temp.audit_chain VALUES ('s', 'erased');
			 SELECT audit_end_erasure('ann')`,
			`SET search_path = pg_temp, public; CREATE TEMP TABLE audit_erasures (user_id text, subject text, declared_at timestamptz);
			 CREATE TEMP TABLE audit_chain (subject text, kind text);
			 INSERT INTO audit_erasures VALUES ('ann', 's', now()); INSERT INTO pg_temp.audit_chain VALUES ('s', 'erased');
			 DELETE FROM public.audit_keys`,
			// Our functions, with the owner's rights, on a table of the role's own.
			`CREATE TEMP TABLE mine (user_id text, id text, status text);
			 CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION public.audit_enqueue(); INSERT INTO mine VALUES ('ann', 'x', 'x')`,
			`CREATE TEMP TABLE mine (user_id text, id text); INSERT INTO mine VALUES ('ann', 'queued');
			 CREATE TRIGGER t AFTER DELETE ON mine FOR EACH ROW EXECUTE FUNCTION public.audit_dequeue(); DELETE FROM mine`,
			// An operator that ours would use.
			`CREATE FUNCTION pg_temp.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
			 CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.same);
			 SET search_path = pg_temp, public; SELECT public.audit_erase('ann', 10)`,
		}},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, statement := range group.sql {
				// A session of its own: what a trick leaves behind ends with it.
				attacker := open(t, sqlstore.Options{URL: url})
				_, err := attacker.DB().Exec(statement)
				if after := recorded(t, owner); !slices.Equal(before, after) {
					t.Fatalf("%s changed what is recorded: %q, was %q", statement, after, before)
				}
				if err == nil && statement != "GRANT DELETE ON audit_logs TO "+role { // which is a warning, and no grant
					t.Errorf("%s: allowed", statement)
				}
			}
		})
	}
	t.Run("CopyIntoTheChain", func(t *testing.T) {
		attacker := open(t, sqlstore.Options{URL: url})
		conn, err := attacker.DB().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, target := range []string{"audit_chain", "audit_erasures", "audit_unsealed (user_id, entry_id, kind)"} {
			err = conn.Raw(func(driver any) error {
				_, err := driver.(*stdlib.Conn).Conn().PgConn().CopyFrom(context.WithoutCancel(t.Context()),
					strings.NewReader(map[string]string{
						"audit_chain":    "9\ts\te\tclosed\t\\\\x00\t\\\\x00\t\\\\x00\t2026-01-01\n",
						"audit_erasures": "ann\ts\t2026-01-01\n",
					}[target]+""), "COPY "+target+" FROM STDIN")
				return err
			})
			if err == nil {
				t.Errorf("COPY %s: allowed", target)
			}
		}
		if after := recorded(t, owner); !slices.Equal(before, after) {
			t.Errorf("COPY changed what is recorded: %q, was %q", after, before)
		}
	})
	t.Run("OnlyOurFunctionsHaveTheOwnersRights", func(t *testing.T) {
		var unpinned []string
		err := raw(owner).NewRaw(`SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
			WHERE n.nspname = 'public' AND p.proname LIKE 'audit\_%'
			AND NOT coalesce(p.proconfig::text LIKE '%search_path=pg_catalog, public, pg_temp%', false)`).Scan(t.Context(), &unpinned)
		if err != nil || len(unpinned) > 0 {
			t.Errorf("functions without a pinned search_path: %v, %v", unpinned, err)
		}
	})
}

// recorded describes every row of the audit that no role may change.
func recorded(t *testing.T, owner *sqlstore.Store) (list []string) {
	t.Helper()
	for _, table := range []string{"audit_logs", "audit_chain", "audit_keys", "audit_root", "audit_erasures", "audit_unsealed"} {
		var rows []string
		if err := raw(owner).NewRaw("SELECT r::text FROM "+table+" AS r ORDER BY 1").Scan(t.Context(), &rows); err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			list = append(list, table+" "+r)
		}
	}
	return list
}

// TestAudit_ApplicationRoleErases shows the one way in which the role can erase
// a user: its link stands in the chain afterwards, genuine or not.
func TestAudit_ApplicationRoleErases(t *testing.T) {
	owner := openPostgres(t)
	url, _ := appRole(t, owner)
	store := open(t, sqlstore.Options{URL: url})
	if err := store.Record(t.Context(), audited("ann", "1", audit.Success), audited("bob", "2", audit.Success)); err != nil {
		t.Fatal(err)
	}
	chained(t, store, 10)
	e := erasure("ann")
	if known, err := store.DeclareErasure(t.Context(), e, appended); err != nil || !known {
		t.Fatalf("declare: %v, %v", known, err)
	}
	for more := true; more; {
		var err error
		if more, err = store.EraseSome(t.Context(), e, 1); err != nil {
			t.Fatal(err)
		}
	}
	last, err := store.LastLink(t.Context())
	if err != nil || last.Kind != audit.Erased || last.Seq != 3 {
		t.Errorf("last link %+v, %v", last, err)
	}
	var left string
	if err := owner.DB().QueryRow("SELECT string_agg(user_id, ',') FROM audit_logs").Scan(&left); err != nil || left != "bob" {
		t.Errorf("entries of %s, %v", left, err)
	}
	if known, err := store.DeclareErasure(t.Context(), e, appended); err != nil || known {
		t.Errorf("again: %v, %v", known, err)
	}
	if list, err := store.Revocations(t.Context(), time.Now().Add(-time.Hour)); err != nil || len(list) != 1 || list[0].UserHash != e.UserHash {
		t.Errorf("revocations %+v, %v", list, err)
	}
}
