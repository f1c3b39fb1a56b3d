package boot

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/domain/fault"
	"parley/platform/config"
)

type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Apply what is pending."`
	Status migrateStatus `cmd:"" help:"Say what is pending; exit code 1 if anything is."`
}

type migrateUp struct{}

func (migrateUp) Run(ctx context.Context, p Process) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	defer store.Close()
	applied, err := store.Migrate(ctx)
	for _, name := range applied {
		fmt.Fprintln(p.Stdout, "applied", name)
	}
	if err == nil && len(applied) == 0 {
		fmt.Fprintln(p.Stdout, "up to date")
	}
	return err
}

type migrateStatus struct{}

func (migrateStatus) Run(ctx context.Context, p Process) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	defer store.Close()
	status, err := store.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	current := status.Current
	if current == "" {
		current = "none"
	}
	fmt.Fprintln(p.Stdout, "database", store.Dialect())
	fmt.Fprintln(p.Stdout, "version ", current)
	for _, name := range status.Pending {
		fmt.Fprintln(p.Stdout, "pending ", name)
	}
	if status.Ahead {
		fmt.Fprintln(p.Stdout, "ahead    a newer release has migrated this database")
	}
	if n := len(status.Pending); n > 0 {
		return fmt.Errorf("%d pending; run: parley migrate up", n)
	}
	return nil
}

// openStore opens the database that the configuration names.
func openStore(ctx context.Context, c config.Config, hooks ...bun.QueryHook) (*sqlstore.Store, error) {
	opt := sqlstore.Options{
		URL: c.Store.DatabaseURL.Reveal(), ExecMode: c.Store.DBExecMode, MaxConns: c.Store.DBMaxConns, RowSecurity: c.Store.DBRLS,
		Now: time.Now, Hooks: hooks,
	}
	if opt.URL == "" {
		if err := makeDataDir(c.Store.DataDir); err != nil {
			return nil, err
		}
		opt.URL = filepath.Join(c.Store.DataDir, "parley.db")
	}
	return sqlstore.Open(ctx, opt)
}

// patience is how long serve waits for a database that starts at the same time.
const patience = 30 * time.Second

// migrated sees to it that the schema is the one this binary knows. The
// embedded database has no other user, so it is migrated at once; a shared one
// is only if the operator said so, because others are using it.
func migrated(ctx context.Context, c config.Config, store *sqlstore.Store, log *slog.Logger) (sqlstore.Status, error) {
	status, err := store.MigrationStatus(ctx)
	for until := time.Now().Add(patience); fault.Is(err, fault.Unavailable) && time.Now().Before(until); {
		log.Warn("the database does not answer yet", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return status, context.Cause(ctx)
		}
		status, err = store.MigrationStatus(ctx)
	}
	if err != nil {
		return status, err
	}
	if len(status.Pending) == 0 {
		return status, store.CheckRowSecurity(ctx)
	}
	if c.Store.DatabaseURL.Set() && !c.Store.MigrateOnStart {
		return status, usageError{fmt.Errorf("the database lacks %d migration(s), the first is %s; "+
			"run: parley migrate up (or set MIGRATE_ON_START=true)", len(status.Pending), status.Pending[0])}
	}
	if _, err := store.Migrate(ctx); err != nil {
		return status, err
	}
	if err := store.CheckRowSecurity(ctx); err != nil {
		return status, err
	}
	return store.MigrationStatus(ctx)
}
