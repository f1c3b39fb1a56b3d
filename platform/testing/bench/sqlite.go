package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// sqlite compares Parley on its embedded database with the bare driver, which
// writes the same rows into the same tables.
func (b *bench) sqlite(ctx context.Context) error {
	const callers = 16
	rows, err := b.recordRows(ctx, callers)
	if err != nil {
		return err
	}
	s, err := b.startServe(b.bin, "sqlite", "DATA_DIR="+filepath.Join(b.dir, "sqlite"))
	if err != nil {
		return err
	}
	defer s.stop()
	var mine, theirs, ratio []float64
	for round := range 1 + b.rounds() { // the first warms
		r, err := s.load(ctx, callers, b.seconds(2))
		if err != nil {
			return err
		}
		bare, err := rows.replay(ctx, filepath.Join(b.dir, fmt.Sprint("bare-", round, ".db")))
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		b.note("round %d: SQLite: %.0f turns/s, bare %.0f", round, r.rate, bare)
		if round > 0 {
			mine, theirs, ratio = append(mine, r.rate), append(theirs, bare), append(ratio, r.rate/bare)
		}
	}
	b.table.add(row{figure: fmt.Sprintf("SQLite, turns/s at c=%d ÷ bare modernc for the same rows", callers), parley: fmt.Sprintf("%.0f", median(mine)),
		baseline: fmt.Sprintf("%.0f", median(theirs)), value: median(ratio), verb: "%.2f", goal: lowerBound(0.5)})
	b.table.section("## SQLite\n\nThe bare driver inserts the rows that %d turns have left, in tables, indexes and triggers of the same schema, with the same durability (WAL, synchronous=FULL), "+
		"in two transactions a turn, one after another, without HTTP: %.0f turns/s. Parley ÷ bare within a round: %s", rows.turns, median(theirs), spreadOf(ratio))
	return nil
}

// recorded is what turns have written into an embedded database.
type recorded struct {
	turns  int
	schema []string
	once   []recordedTable // written before the turns, which refer to them
	each   []recordedTable
}

type recordedTable struct {
	insert string
	rows   [][]any
}

// writtenOnce are the tables that a turn does not add to.
var writtenOnce = map[string]bool{"chat_users": true, "chat_conversations": true, "chat_usage": true, "audit_keys": true, "audit_root": true}

// recordRows has Parley make turns and reads what it wrote.
func (b *bench) recordRows(ctx context.Context, callers int) (*recorded, error) {
	dir := filepath.Join(b.dir, "recorded")
	s, err := b.startServe(b.bin, "recorded", "DATA_DIR="+dir)
	if err != nil {
		return nil, err
	}
	_, _, err = s.drive(ctx, callers, b.seconds(3))
	if err == nil {
		time.Sleep(time.Second) // for the sealer
	}
	s.stop()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("no database in %s: %v", dir, files)
	}
	db, err := sql.Open("sqlite", files[0])
	if err != nil {
		return nil, err
	}
	defer db.Close()
	r := &recorded{}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM chat_runs").Scan(&r.turns); err != nil {
		return nil, err
	}
	objects, err := readAll(ctx, db, "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid")
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		kind, name, statement := o[0].(string), o[1].(string), o[2].(string)
		r.schema = append(r.schema, statement)
		if kind != "table" {
			continue
		}
		// The queue of the sealer is filled by a trigger.
		if name == "audit_unsealed" || strings.Contains(statement, "VIRTUAL TABLE") || strings.HasPrefix(name, "atlas_") {
			continue
		}
		t := recordedTable{}
		if t.rows, err = readAll(ctx, db, "SELECT * FROM "+name+" ORDER BY rowid"); err != nil {
			return nil, err
		}
		if len(t.rows) == 0 {
			continue
		}
		t.insert = "INSERT INTO " + name + " VALUES (" + strings.TrimSuffix(strings.Repeat("?,", len(t.rows[0])), ",") + ")"
		if writtenOnce[name] {
			r.once = append(r.once, t)
		} else {
			r.each = append(r.each, t)
		}
	}
	return r, nil
}

func readAll(ctx context.Context, db *sql.DB, query string) (all [][]any, err error) {
	found, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	columns, err := found.Columns()
	if err != nil {
		return nil, err
	}
	for found.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := found.Scan(into...); err != nil {
			return nil, err
		}
		all = append(all, values)
	}
	return all, found.Err()
}

// replay writes the rows into a new database, and returns how many turns a second.
func (r *recorded) replay(ctx context.Context, path string) (rate float64, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)&_pragma=recursive_triggers(1)&_txlock=immediate")
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, db.Close(), os.Remove(path))
	}()
	db.SetMaxOpenConns(1)
	for _, statement := range r.schema {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return 0, err
		}
	}
	for _, t := range r.once {
		for _, row := range t.rows {
			if _, err := db.ExecContext(ctx, t.insert, row...); err != nil {
				return 0, fmt.Errorf("%s: %w", t.insert, err)
			}
		}
	}
	inserts := make([]*sql.Stmt, len(r.each))
	for i, t := range r.each {
		if inserts[i], err = db.PrepareContext(ctx, t.insert); err != nil { //nolint:sqlclosecheck // closed below
			return 0, err
		}
		defer inserts[i].Close()
	}
	begun := time.Now()
	for turn := range r.turns {
		for half := range 2 {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return 0, err
			}
			for i, t := range r.each {
				n := len(t.rows)
				from, to := 2*n*turn/r.turns, 2*n*(turn+1)/r.turns // in halves of a row
				if middle := (from + to) / 2; half == 0 {
					to = middle
				} else {
					from = middle
				}
				for _, row := range t.rows[(from+1)/2 : (to+1)/2] {
					if _, err := tx.StmtContext(ctx, inserts[i]).ExecContext(ctx, row...); err != nil { //nolint:sqlclosecheck // ends with the transaction
						return 0, errors.Join(fmt.Errorf("%s: %w", t.insert, err), tx.Rollback())
					}
				}
			}
			if err := tx.Commit(); err != nil {
				return 0, err
			}
		}
	}
	return float64(r.turns) / time.Since(begun).Seconds(), nil
}
