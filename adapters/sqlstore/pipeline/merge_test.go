package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parley/platform/testing/testenv"
)

// Statements that have the same text meet, wherever they stand in their lists, and
// no list is executed out of order.
func TestInTurn(t *testing.T) {
	admit := []Stmt{New("thread"), New("message"), New("run")}
	finish := []Stmt{New("end"), New("usage"), New("thread"), New("message")}
	var got []string
	for _, same := range inTurn([][]Stmt{admit, finish, nil, admit, {New("other"), New("message"), New("thread")}}) {
		got = append(got, fmt.Sprint(len(same), " ", same[0].text))
	}
	want := []string{"1 end", "1 usage", "1 other", "3 thread", "4 message", "2 run", "1 thread"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Merged statements do what they do one after another, and their rows go to the
// functions of their own statements.
func TestMerge(t *testing.T) {
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `CREATE TABLE things (owner text, id bigint, name text, at timestamptz, facts json, PRIMARY KEY (owner, id))`)
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]string{}
	one := func(owner string, id int) []Stmt {
		var name any = "it's " + owner
		if id == 2 {
			name = nil
		}
		return []Stmt{
			New("INSERT INTO things (owner, id, name, at, facts) VALUES (?, ?, upper(?), now(), ?) ON CONFLICT (owner, id) DO UPDATE SET name = excluded.name", owner, id, name, `{"id":1}`),
			New("UPDATE things SET name = COALESCE(?, name), at = NULL\n\t\tWHERE owner = ? AND id = ?", nil, owner, id),
			New("SELECT name, id FROM things WHERE owner = ? AND id <= ? ORDER BY id DESC LIMIT ?", owner, 99, 2).ScanRow(func(scan func(...any) error) error {
				var name *string
				var id int64
				err := scan(&name, &id)
				if name == nil {
					name = new("NULL")
				}
				read[owner] += fmt.Sprintf("%s %d;", *name, id)
				return err
			}),
			New("SELECT count(*) FROM things").ScanRow(func(scan func(...any) error) error { // has no arguments
				var n int
				err := scan(&n)
				read["all"] += fmt.Sprint(n, ";")
				return err
			}),
			New("DELETE FROM things WHERE owner = ? AND id > 1", owner),
		}
	}
	var merged []Stmt
	for _, same := range inTurn([][]Stmt{one("ann", 1), one("bob", 2), one("cid", 3)}) {
		more, err := merge(ctx, conn, same)
		if err != nil {
			t.Fatal(err)
		}
		merged = append(merged, more...)
	}
	if len(merged) != 4+3 {
		t.Errorf("%d statements", len(merged))
	}
	if err := sendBatch(ctx, conn, merged); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"ann": "IT'S ANN 1;", "bob": "NULL 2;", "cid": "IT'S CID 3;", "all": "3;3;3;"}
	if diff := cmp.Diff(want, read); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var left string
	if err := conn.QueryRow(ctx, "SELECT string_agg(owner, ',') FROM things").Scan(&left); err != nil || left != "ann" {
		t.Errorf("left %q, %v", left, err)
	}
	t.Run("Fails", func(t *testing.T) {
		same := []Stmt{New("INSERT INTO things (owner, id) VALUES (?, ?)", "dot", 1), New("INSERT INTO things (owner, id) VALUES (?, ?)", "dot", 1)}
		one, err := merge(ctx, conn, same)
		if err != nil {
			t.Fatal(err)
		}
		var refused *pgconn.PgError
		if err := sendBatch(ctx, conn, one); !errors.As(err, &refused) || refused.Code != "23505" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("NotMerged", func(t *testing.T) {
		for _, q := range []Stmt{
			New("SELECT ? = ANY (?::text[])", "a", []string{"a"}), // unnest would make the array its elements
			New("WITH a AS (SELECT ?::int) SELECT * FROM a", 1),
		} {
			if got, err := merge(ctx, conn, []Stmt{q, q}); err != nil || len(got) != 2 || strings.Contains(got[0].text, "unnest") {
				t.Errorf("%s: %d statements, %v", q.text, len(got), err)
			}
		}
	})
}
