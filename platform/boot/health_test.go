package boot

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/adapters/httpapi"
	"parley/adapters/sqlstore"
	"parley/platform/testing/testdb"
	"parley/ports"
)

type noModels struct{}

func (noModels) Models() []ports.ModelInfo { return nil }

// A full disk is told in health and readiness, and its end as well.
func TestHealth_DiskFull(t *testing.T) {
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: testdb.SQLite(t), Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var log bytes.Buffer
	look := func() (string, httpapi.Health) {
		h := &health{log: slog.New(slog.NewTextHandler(&log, nil)), checks: []check{{name: "database", note: "sqlite", required: true, ping: store.CheckWritable}}}
		return h.ready(t.Context()), h.public(noModels{}, nil)(t.Context())
	}
	if because, public := look(); because != "" || public.Status != httpapi.HealthOK {
		t.Errorf("at first: %q, %+v", because, public)
	}
	if _, err := store.DB().Exec("PRAGMA max_page_count = 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.RevokeSessions(t.Context(), strings.Repeat("u", 100_000), time.Now(), nil, operatorEntry("u", "a", "r", "u")); err == nil {
		t.Fatal("there is room")
	}
	because, public := look()
	if because != "database: disk full" || public.Status != httpapi.HealthDegraded || public.Components["database"].Note != "sqlite, disk full" {
		t.Errorf("full: %q, %+v", because, public)
	}
	if !strings.Contains(log.String(), "a dependency fails") || !strings.Contains(log.String(), "disk full") {
		t.Errorf("the log: %s", log.String())
	}
	if _, err := store.DB().Exec("PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if because, public := look(); because != "" || public.Status != httpapi.HealthOK {
		t.Errorf("with room again: %q, %+v", because, public)
	}
}

// Changes are logged once, not each time that health is asked for.
func TestHealth_LogsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var err error
		h := &health{log: slog.New(slog.NewTextHandler(&log, nil)), checks: []check{{name: "redis", ping: func(context.Context) error { return err }}}}
		for _, err = range []error{nil, errors.New("gone"), errors.New("gone"), nil, nil} {
			time.Sleep(2 * time.Second)
			h.conditions(t.Context())
		}
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "works again") {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
	})
}

// A scrape does not wait for a dependency that is frozen, and shows its state after
// the check has ended.
func TestHealth_ScrapeDoesNotWaitForAFrozenDependency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		frozen := false
		h := &health{log: slog.New(slog.DiscardHandler), checks: []check{{name: "database", ping: func(ctx context.Context) error {
			if frozen {
				<-ctx.Done()
			}
			return ctx.Err()
		}}}}
		if up := h.up(t.Context()); !up["database"] {
			t.Errorf("at first: %v", up)
		}
		time.Sleep(2 * time.Second)
		frozen = true
		begun := time.Now()
		if up := h.up(t.Context()); !up["database"] || time.Since(begun) > time.Second {
			t.Errorf("after %v: %v, want the last answer within a second", time.Since(begun), up)
		}
		time.Sleep(2 * time.Second)
		if up := h.up(t.Context()); up["database"] || len(up) != 1 {
			t.Errorf("after the check has ended: %v", up)
		}
	})
}

// TestSchemaState_OfARunningDatabase: the gauge of pending migrations follows the
// database while an instance runs, also when its tables and its record disagree.
func TestSchemaState_OfARunningDatabase(t *testing.T) {
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: testdb.Postgres(t), Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ask := schemaState(store)
	if s, err := ask(t.Context()); err != nil || s.Pending != 0 || s.Version == "" {
		t.Errorf("a migrated database: %+v, %v", s, err)
	}
	const table = "atlas_schema_revisions.atlas_schema_revisions"
	if _, err := store.DB().ExecContext(t.Context(), "DELETE FROM "+table+" WHERE version = (SELECT max(version) FROM "+table+" WHERE version NOT LIKE '.%')"); err != nil {
		t.Fatal(err)
	}
	if s, err := ask(t.Context()); err != nil || s.Pending != 1 {
		t.Errorf("without its last migration: %+v, %v", s, err)
	}
}
