package pipeline

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"
)

func openKept(t *testing.T) *Pipeline {
	t.Helper()
	db := sql.OpenDB(KeepPrepared(&sqlite.Driver{}, filepath.Join(t.TempDir(), "kept.db")))
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	p := &Pipeline{DB: bun.NewDB(db, sqlitedialect.New())}
	if _, err := db.Exec("CREATE TABLE things (id integer PRIMARY KEY, name text, at timestamp, facts blob, live boolean)"); err != nil {
		t.Fatal(err)
	}
	return p
}

// within runs fn in a transaction, with the connection under it.
func (p *Pipeline) within(t *testing.T, fn func(ctx context.Context, tx bun.IDB) error) error {
	t.Helper()
	conn, err := p.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return p.RunPlain(t.Context(), conn, Begin{}, fn)
}

// kept are the statements that the one connection keeps.
func (p *Pipeline) kept(t *testing.T) (texts []string) {
	t.Helper()
	conn, err := p.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.Raw(func(driver any) error {
		for text := range driver.(*keptConn).kept {
			texts = append(texts, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// A statement with arguments writes what the same statement as text does, of
// whatever types, and reads it again.
func TestKeepPrepared_Values(t *testing.T) {
	p := openKept(t)
	at := time.Date(2026, 2, 3, 4, 5, 6, 789_012_000, time.FixedZone("", 3600))
	for id, values := range [][]any{
		{"it's", at, []byte{0, 1, 255}, true},
		{nil, nil, nil, false},
		{"", at.Truncate(time.Second), []byte{}, nil},
	} {
		insert := "INSERT INTO things (id, name, at, facts, live) VALUES (?, ?, ?, ?, ?)"
		if err := p.within(t, func(ctx context.Context, tx bun.IDB) error {
			return p.Exec(ctx, tx, New(insert, append([]any{2 * id}, values...)...))
		}); err != nil {
			t.Fatal(err)
		}
		if err := p.ExecText(t.Context(), p.DB, New(insert, append([]any{2*id + 1}, values...)...)); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	if err := p.within(t, func(ctx context.Context, tx bun.IDB) error {
		return p.Exec(ctx, tx, New("SELECT quote(name), quote(at), quote(facts), quote(live), typeof(live) FROM things WHERE id >= ? ORDER BY id", 0).ScanRow(func(scan func(...any) error) error {
			var row [5]string
			err := scan(&row[0], &row[1], &row[2], &row[3], &row[4])
			seen = append(seen, strings.Join(row[:], " "))
			return err
		}))
	}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 6 {
		t.Fatalf("%d rows", len(seen))
	}
	for i := 0; i < len(seen); i += 2 {
		if seen[i] != seen[i+1] {
			t.Errorf("bound %s, as text %s", seen[i], seen[i+1])
		}
	}
	if kept := p.kept(t); len(kept) != 2 {
		t.Errorf("kept: %q", kept)
	}
}

// A statement can be executed while its own rows are being read, after it failed, and
// after the schema has changed; a list of rows is part of the text and not kept.
func TestKeepPrepared_Reused(t *testing.T) {
	p := openKept(t)
	insert := func(id int, name any) Stmt { return New("INSERT INTO things (id, name) VALUES (?, ?)", id, name) }
	var names []string
	read := New("SELECT name FROM things WHERE id <= ? ORDER BY id", 2)
	collect := func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	}
	err := p.within(t, func(ctx context.Context, tx bun.IDB) error {
		if err := p.Exec(ctx, tx, insert(1, "a"), insert(2, "b")); err != nil {
			return err
		}
		return p.Exec(ctx, tx, read.ScanRow(func(scan func(...any) error) error {
			if err := collect(scan); err != nil {
				return err
			}
			return p.Exec(ctx, tx, read.ScanRow(collect))
		}))
	})
	if got := strings.Join(names, " "); err != nil || got != "a a b b a b" {
		t.Errorf("read %s, %v", got, err)
	}
	for range 2 {
		err = p.within(t, func(ctx context.Context, tx bun.IDB) error {
			return p.Exec(ctx, tx, insert(3, "c"), insert(1, "again"))
		})
		if err == nil || !strings.Contains(err.Error(), "UNIQUE") {
			t.Errorf("a second row with one key: %v", err)
		}
	}
	if _, err := p.DB.Exec("ALTER TABLE things ADD COLUMN more text"); err != nil {
		t.Fatal(err)
	}
	names = nil
	err = p.within(t, func(ctx context.Context, tx bun.IDB) error {
		return p.Exec(ctx, tx, insert(0, "z"), New("INSERT INTO things (id, name) ?", bun.SafeQuery("VALUES (?, ?)", -1, "y")), read.ScanRow(collect))
	})
	if got := strings.Join(names, " "); err != nil || got != "y z a b" {
		t.Errorf("read %s, %v", got, err)
	}
	if kept := p.kept(t); len(kept) != 2 {
		t.Errorf("kept: %q", kept)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.within(t, func(_ context.Context, tx bun.IDB) error { return p.Exec(canceled, tx, insert(9, "x")) }); err == nil {
		t.Error("a canceled call was executed")
	}
}

// A connection keeps a bounded number of statements, and executes others too.
func TestKeepPrepared_IsBounded(t *testing.T) {
	p := openKept(t)
	err := p.within(t, func(ctx context.Context, tx bun.IDB) error {
		for i := range maxKept + 10 {
			if err := p.Exec(ctx, tx, New(fmt.Sprintf("INSERT INTO things (id, name) VALUES (%d, ?)", i), "x")); err != nil {
				return err
			}
		}
		return nil
	})
	var rows int
	if err := p.DB.QueryRow("SELECT count(*) FROM things").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if kept := len(p.kept(t)); err != nil || kept != maxKept || rows != maxKept+10 {
		t.Errorf("%d kept, %d rows, %v", kept, rows, err)
	}
}
