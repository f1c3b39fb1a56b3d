package sqlstore_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"ariga.io/atlas/sql/postgres"
	"ariga.io/atlas/sql/schema"
	"ariga.io/atlas/sql/sqlite"
	"github.com/google/go-cmp/cmp"

	"parley/adapters/sqlstore"
	"parley/adapters/sqlstore/rows"
)

// TestMigrations_NoDrift compares what the migrations make with what the rows say.
func TestMigrations_NoDrift(t *testing.T) {
	each(t, func(t *testing.T, store *sqlstore.Store) {
		tables := inspect(t, store)
		db := raw(store)
		for _, model := range rows.All {
			table := db.Table(reflect.TypeOf(model).Elem())
			made, ok := tables[table.Name]
			if !ok {
				t.Errorf("no migration makes %s", table.Name)
				continue
			}
			delete(tables, table.Name)
			for _, field := range table.Fields {
				column, ok := made.Column(field.Name)
				if !ok {
					t.Errorf("%s.%s: only in the rows", table.Name, field.Name)
					continue
				}
				nullable := field.NullZero || field.IsPtr
				if column.Type.Null != nullable {
					t.Errorf("%s.%s: nullable %v in the migrations, %v in the rows", table.Name, field.Name, column.Type.Null, nullable)
				}
				if got, want := kind(column.Type.Type), goKind(field.StructField.Type); got != want {
					t.Errorf("%s.%s: %s in the migrations, %s in the rows", table.Name, field.Name, got, want)
				}
			}
			for _, column := range made.Columns {
				if !table.HasField(column.Name) {
					t.Errorf("%s.%s: only in the migrations", table.Name, column.Name)
				}
			}
			var keys []string
			for _, part := range made.PrimaryKey.Parts {
				keys = append(keys, part.C.Name)
			}
			var fields []string
			for _, pk := range table.PKs {
				fields = append(fields, pk.Name)
			}
			if diff := cmp.Diff(keys, fields); diff != "" {
				t.Errorf("%s: primary key (-migrations +rows):\n%s", table.Name, diff)
			}
			if _, ok := crossUser[table.Name]; !ok && keys[0] != "user_id" {
				t.Errorf("%s: the key begins with %s", table.Name, keys[0])
			}
			for _, index := range made.Indexes {
				if part := index.Parts[0].C; part == nil || part.Name != "user_id" {
					if _, ok := crossUser[index.Name]; !ok {
						t.Errorf("%s: index %s does not begin with user_id", table.Name, index.Name)
					}
				}
			}
		}
		for name := range tables {
			t.Errorf("%s: only in the migrations", name)
		}
	})
}

// crossUser are the indexes of questions about all users, and the tables that
// are nobody's.
var crossUser = map[string]string{
	"chat_conversations_expiry_idx": "the sweeper looks for conversations that have ended",
	"chat_runs_lease_idx":           "an instance renews its leases, and looks for runs that no instance works on",
	"chat_users_revoked_idx":        "every instance learns whose sessions were ended",
	"audit_logs_action_idx":         "operators count actions",
	"chat_shares_token_key":         "who opens a link does not say whose it is",
	"chat_shares_expiry_idx":        "the sweeper deletes shares that have ended",
	"chat_files_blob_idx":           "the sweep compares files with the blob store",
	"chat_files_unreferenced_idx":   "the sweep deletes uploads to which no message refers",
	"chat_files_deleted_idx":        "the sweep deletes the blobs of deleted files",
	"chat_webhook_events_due_idx":   "the sender looks for events that are due, the sweeper for those that have expired",
	"audit_unsealed":                "the sealer takes facts as they come",
	"audit_chain":                   "one chain for all",
	"audit_chain_erased_idx":        "of subjects, which are not user ids",
	"audit_keys_subject_key":        "of subjects, which are not user ids",
	"audit_root":                    "one secret for all",
	"chat_erased_users":             "of users who are gone: by a keyed hash of the id",
	"chat_switches":                 "what operators have disabled",
	"chat_erased_users_expiry_idx":  "the sweeper deletes what has expired",
	"chat_erased_usage":             "of users who are gone: by a keyed hash of the id",
	"chat_erased_usage_expiry_idx":  "the sweeper deletes what has expired",
}

func TestMigrations_DialectsAgree(t *testing.T) {
	describe := func(store *sqlstore.Store) map[string][]string {
		out := map[string][]string{}
		for name, table := range inspect(t, store) {
			var parts []string
			for _, c := range table.Columns {
				parts = append(parts, "column "+c.Name+" "+kind(c.Type.Type))
			}
			for _, i := range table.Indexes {
				var on []string
				for _, p := range i.Parts {
					if p.C == nil {
						on = append(on, "an expression")
						continue
					}
					on = append(on, p.C.Name)
				}
				parts = append(parts, "index "+i.Name+" ("+strings.Join(on, ", ")+")")
			}
			for _, fk := range table.ForeignKeys {
				var on []string
				for _, c := range fk.Columns {
					on = append(on, c.Name)
				}
				parts = append(parts, "reference ("+strings.Join(on, ", ")+") to "+fk.RefTable.Name+" on delete "+string(fk.OnDelete))
			}
			slices.Sort(parts)
			out[name] = parts
		}
		return out
	}
	if diff := cmp.Diff(describe(openPostgres(t)), describe(openSQLite(t))); diff != "" {
		t.Errorf("(-postgres +sqlite):\n%s", diff)
	}
}

// inspect returns the tables that the migrations made.
func inspect(t *testing.T, store *sqlstore.Store) map[string]*schema.Table {
	t.Helper()
	connect, name := postgres.Open, "public"
	if store.Dialect() == "sqlite" {
		connect, name = sqlite.Open, "main"
	}
	driver, err := connect(store.DB())
	if err != nil {
		t.Fatal(err)
	}
	made, err := driver.InspectSchema(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]*schema.Table{}
	for _, table := range made.Tables {
		if table.Name != "atlas_schema_revisions" {
			tables[table.Name] = table
		}
	}
	return tables
}

func kind(t schema.Type) string {
	switch t.(type) {
	case *schema.StringType, *schema.JSONType:
		return "text"
	case *schema.IntegerType:
		return "integer"
	case *schema.BoolType:
		return "boolean"
	case *schema.TimeType:
		return "time"
	case *schema.BinaryType:
		return "bytes"
	}
	return reflect.TypeOf(t).String()
}

func goKind(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Bool:
		return "boolean"
	case reflect.Struct:
		return "time"
	case reflect.Slice:
		return "bytes"
	}
	return t.String()
}
