package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/fault"
	"parley/platform/config"
)

type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Apply what is pending."`
	Status migrateStatus `cmd:"" help:"Print what is pending; exit code 1 if anything is."`
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

// openStore opens the database that the configuration names; settings change the
// options.
func openStore(ctx context.Context, c config.Config, settings ...func(*sqlstore.Options)) (*sqlstore.Store, error) {
	database := c.Database()
	opt := sqlstore.Options{
		URL: database.URL.Reveal(), SearchPath: database.SearchPath, ExecMode: c.Store.DBExecMode, MaxConns: c.Store.DBMaxConns,
		RowSecurity: c.Store.DBRLS, Ungrouped: !c.Store.DBGroup, Webhooks: c.Webhooks.WebhookURL.Set(), Now: time.Now, ReplicaMaxLag: c.Store.ReplicaMaxLag,
	}
	for _, r := range c.Replicas() {
		replica := sqlstore.Replica{URL: r.URL.Reveal(), ExecMode: c.Store.DBExecMode, MaxConns: r.MaxConns}
		if r.Pooled {
			replica.ExecMode = "exec"
		}
		opt.Replicas = append(opt.Replicas, replica)
	}
	if opt.URL == "" {
		if err := makeDataDir(c.Store.DataDir); err != nil {
			return nil, err
		}
		opt.URL = filepath.Join(c.Store.DataDir, "parley.db")
	}
	for _, set := range settings {
		set(&opt)
	}
	return sqlstore.Open(ctx, opt)
}

// databaseWait is how long serve waits for a database that starts at the same
// time.
const databaseWait = 30 * time.Second

// migrated brings the schema to the version of this binary, or refuses. The
// embedded database has no other user, so it is migrated at once; a shared one
// only with MIGRATE_ON_START, because others are using it. It waits for a
// database that may be there in a moment, and for no other.
func migrated(ctx context.Context, c config.Config, store *sqlstore.Store, log *slog.Logger) (sqlstore.Status, error) {
	status, err := store.MigrationStatus(ctx)
	for until := time.Now().Add(databaseWait); fault.Is(err, fault.Unavailable) && sqlstore.Explain(err) == nil && time.Now().Before(until); {
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
	if len(status.Pending) > 0 {
		if c.Store.DatabaseURL.Set() && !c.Store.MigrateOnStart {
			return status, usageError{fmt.Errorf("the database lacks %d migration(s), the first is %s; "+
				"run: parley migrate up (or set MIGRATE_ON_START=true)", len(status.Pending), status.Pending[0])}
		}
		if _, err := store.Migrate(ctx); err != nil {
			return status, err
		}
		if status, err = store.MigrationStatus(ctx); err != nil {
			return status, err
		}
	}
	switch err := store.CheckWritable(ctx); {
	case sqlstore.Explain(err) != nil:
		return status, err
	case err != nil: // readiness fails until it can be written to
		log.Warn("the database cannot be written to", "error", err)
	}
	return status, store.CheckRowSecurity(ctx)
}

// checkReplicaURLs refuses the primary as a replica. Whatever else is wrong with a replica
// may be because of a failover: it is not used until it is right.
func checkReplicaURLs(ctx context.Context, store *sqlstore.Store, log *slog.Logger) error {
	list, err := store.ExamineReplicas(ctx)
	if err != nil {
		log.Warn("the read replicas cannot be compared with the primary yet", "error", err)
		return nil
	}
	for _, r := range list {
		if r.ThePrimary {
			return usageError{fmt.Errorf("DATABASE_REPLICA_URLS: %s is the server of DATABASE_URL; take it out", r.Name)}
		}
	}
	return nil
}

// explainDatabase turns an error that means a mistake in the set-up of a
// database into one sentence that names the setting. Other errors stay.
func explainDatabase(setting string, err error) error {
	if setup := sqlstore.Explain(err); setup != nil {
		return usageError{errors.New(setup.Sentence(setting))}
	}
	return err
}
