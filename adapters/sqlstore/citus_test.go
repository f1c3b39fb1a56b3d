package sqlstore_test

import (
	"os"
	"slices"
	"testing"

	"parley/adapters/sqlstore"
	"parley/platform/testing/testdb"
)

// citusStub stands for create_distributed_table. It refuses what Citus' documentation
// says that Citus refuses: a unique index without the distribution column, a reference
// to or from a table while one of the two is not distributed, and a colocation with a
// table that is not distributed.
const citusStub = `
CREATE TABLE distributed (name regclass PRIMARY KEY, colocated text NOT NULL);
CREATE FUNCTION create_distributed_table(table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash', colocate_with text DEFAULT 'default')
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  number smallint := (SELECT attnum FROM pg_attribute WHERE attrelid = table_name AND attname = distribution_column);
BEGIN
  IF number IS NULL THEN
    RAISE EXCEPTION '% has no column %', table_name, distribution_column;
  END IF;
  IF EXISTS (SELECT FROM pg_index WHERE indrelid = table_name AND indisunique AND NOT number = ANY (indkey)) THEN
    RAISE EXCEPTION '% has a unique index without %', table_name, distribution_column;
  END IF;
  IF EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND (conrelid = table_name OR confrelid = table_name)) THEN
    RAISE EXCEPTION '% has references to or from tables that are not distributed', table_name;
  END IF;
  IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = table_name AND NOT tgisinternal) AND current_setting('citus.enable_unsafe_triggers') <> 'on' THEN
    RAISE EXCEPTION '% has triggers', table_name;
  END IF;
  IF colocate_with <> 'none' AND NOT EXISTS (SELECT FROM distributed WHERE name = colocate_with::regclass) THEN
    RAISE EXCEPTION '% is not distributed', colocate_with;
  END IF;
  INSERT INTO distributed VALUES (table_name, colocate_with);
END $$;`

// deploy/scale/citus.sql distributes each table that has the user in its key, but for
// those of the audit, and leaves references and triggers as they were.
func TestCitus_EveryTableOfUsers(t *testing.T) {
	t.Parallel()
	store := open(t, sqlstore.Options{URL: testdb.Postgres(t)})
	script, err := os.ReadFile("../../deploy/scale/citus.sql")
	if err != nil {
		t.Fatal(err)
	}
	execAll(t, store, citusStub, string(script))
	var distributed, ofUsers []string
	for _, row := range query(t, store.DB(), "SELECT name::text FROM distributed ORDER BY 1") {
		distributed = append(distributed, row[0])
	}
	for _, row := range query(t, store.DB(), `SELECT c.relname::text FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'user_id'
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname LIKE 'chat\_%' ORDER BY 1`) {
		ofUsers = append(ofUsers, row[0])
	}
	if !slices.Equal(distributed, ofUsers) {
		t.Errorf("distributed: %v\ntables of users: %v", distributed, ofUsers)
	}
	var between int
	err = store.DB().QueryRow(`SELECT count(*) FROM pg_constraint AS k LEFT JOIN distributed AS a ON a.name = k.conrelid LEFT JOIN distributed AS b ON b.name = k.confrelid
		WHERE k.contype = 'f' AND (a.name IS NULL OR b.name IS NULL)`).Scan(&between)
	if err != nil || between > 0 {
		t.Errorf("%d references between a distributed table and another one, %v", between, err)
	}
	differences, err := store.SchemaDifferences(t.Context())
	if err != nil || len(differences) != 1 || differences[0].Name != "chat_shares_token_key" {
		t.Errorf("%v, %v", differences, err)
	}
}
