package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"parley/adapters/sqlstore"
	appaudit "parley/app/audit"
	"parley/platform/config"
	"parley/ports"
)

type restoreCommand struct {
	File string `arg:"" type:"path" help:"Backup file to read."`
}

// Run restores a backup into an empty database, brings it up to date, and
// checks that it can serve.
func (r restoreCommand) Run(ctx context.Context, p Process) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	backup, err := sqlstore.OpenBackup(r.File)
	if errors.Is(err, sqlstore.ErrNotBackup) {
		err = fmt.Errorf("%w%s", err, otherTool(r.File))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.File, err)
	}
	defer backup.Close()
	if err := matchDatabase(c, backup.Manifest); err != nil {
		return err
	}
	if err := backup.Verify(ctx); err != nil {
		return fmt.Errorf("%s: %w; nothing was restored", r.File, err)
	}
	if err := restoreDatabase(ctx, c, backup); err != nil {
		return err
	}
	m := backup.Manifest
	fmt.Fprintf(p.Stdout, "restored %d rows of %d tables, backed up at %s by Parley %s\n",
		m.Rows(), len(m.Tables), m.MadeAt.Format(time.RFC3339), m.Release)
	return checkRestored(ctx, p, c)
}

// otherTool says how to restore files that other tools made.
func otherTool(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	begin := make([]byte, 64)
	n, _ := f.Read(begin)
	switch text := string(begin[:n]); {
	case strings.HasPrefix(text, "PGDMP"):
		return "; it is an archive of pg_dump: restore it with pg_restore -d \"$DATABASE_URL\" FILE"
	case strings.Contains(text, "PostgreSQL database dump"):
		return "; it is a dump of pg_dump: restore it with psql \"$DATABASE_URL\" < FILE"
	case strings.HasPrefix(text, "SQLite format 3"):
		return "; it is a SQLite file: stop parley serve and copy it to DATA_DIR/parley.db"
	}
	return ""
}

// matchDatabase refuses a configuration that names the other kind of database.
func matchDatabase(c config.Config, m sqlstore.Manifest) error {
	switch {
	case m.Database == "postgres" && !c.Store.DatabaseURL.Set():
		return usageError{errors.New("the backup is of PostgreSQL: set DATABASE_URL to a new, empty database")}
	case m.Database == "sqlite" && c.Store.DatabaseURL.Set():
		return usageError{errors.New("the backup is of the embedded database: unset DATABASE_URL, and set DATA_DIR to a new directory")}
	}
	return nil
}

func restoreDatabase(ctx context.Context, c config.Config, backup *sqlstore.Backup) error {
	if path := sqliteFile(c); path != "" {
		if err := makeDataDir(c.Store.DataDir); err != nil {
			return err
		}
		err := sqlstore.RestoreSQLite(ctx, backup, path)
		if errors.Is(err, sqlstore.ErrOccupied) {
			return usageError{fmt.Errorf("%w. Nothing was changed. Restore into a new directory with DATA_DIR=NEW parley restore FILE; "+
				"then stop parley serve and start it with that DATA_DIR", err)}
		}
		if err != nil {
			return err
		}
		return restoreSecret(c, backup)
	}
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	defer store.Close()
	err = store.Restore(ctx, backup)
	if errors.Is(err, sqlstore.ErrOccupied) {
		return usageError{fmt.Errorf("%w. Nothing was changed. Create a new database (createdb NAME), restore with DATABASE_URL naming it, "+
			"and then start parley serve with that DATABASE_URL", err)}
	}
	if err != nil {
		return fmt.Errorf("restore: %w; nothing was changed", err)
	}
	return restoreSecret(c, backup)
}

// restoreSecret puts the development secret of a backup into DATA_DIR. One that
// is there stays.
func restoreSecret(c config.Config, backup *sqlstore.Backup) error {
	secret, err := backup.File(secretEntry)
	if errors.Is(err, fs.ErrNotExist) || !c.Development() {
		return nil
	}
	if err != nil {
		return err
	}
	if err := makeDataDir(c.Store.DataDir); err != nil {
		return err
	}
	path := secretFile(c.Store.DataDir)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		present, err := readSecret(path)
		if err == nil && present != strings.TrimSpace(string(secret)) {
			err = fmt.Errorf("the rows are restored, but %s is another secret than that of the backup: "+
				"sessions and the audit chain of the backup need its own; restore into a new DATA_DIR", path)
		}
		return err
	}
	if err != nil {
		return err
	}
	_, err = f.Write(secret)
	return errors.Join(err, f.Sync(), f.Close())
}

// checkRestored brings a restored database up to date, and proves that it can
// serve: its schema, its audit chain, a page of its history.
func checkRestored(ctx context.Context, p Process, c config.Config) error {
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	defer store.Close()
	applied, err := store.Migrate(ctx)
	for _, name := range applied {
		fmt.Fprintln(p.Stdout, "applied", name)
	}
	if err != nil {
		return fmt.Errorf("the rows are restored, but not migrated to this release; run: parley migrate up (%w)", err)
	}
	verdict, err := sealAndVerify(ctx, c, store)
	if err != nil {
		return err
	}
	if err := readHistory(ctx, store); err != nil {
		return fmt.Errorf("the rows are restored, but cannot be served: %w", err)
	}
	fmt.Fprintln(p.Stdout, verdict)
	if verdict.doubtful() {
		return errors.New("the rows are restored, but the audit chain was not found in order; " +
			"set AUDIT_KEY or AUTH_SECRET as they were when the backup was made, and run: parley audit verify")
	}
	if c.Store.DatabaseURL.Set() {
		fmt.Fprintln(p.Stdout, "next: run deploy/postgres/roles.sql if parley serve has a role of its own, then parley doctor")
	} else {
		fmt.Fprintln(p.Stdout, "next: parley doctor")
	}
	return nil
}

// sealAndVerify seals what waited when the backup was made, as serve would, and
// verifies the audit chain.
func sealAndVerify(ctx context.Context, c config.Config, store *sqlstore.Store) (auditVerdict, error) {
	secrets, err := existingSecrets(c)
	if err != nil {
		return auditVerdict{}, err
	}
	if len(secrets) > 0 {
		auditor := appaudit.New(appaudit.Deps{Ledger: store, Secrets: secrets, Observer: ports.NopObserver{}, Now: time.Now}, appaudit.Options{})
		if err := auditor.Seal(ctx); err != nil && ctx.Err() == nil {
			return auditVerdict{problem: err.Error()}, nil
		}
	}
	return verifyLedger(ctx, c, store)
}

// readHistory reads the newest conversation and its messages of a user who has
// any, as a request would.
func readHistory(ctx context.Context, store *sqlstore.Store) error {
	user, err := store.AnyUser(ctx)
	if err != nil || user == "" {
		return err
	}
	list, _, err := store.Conversations(ctx, user, ports.Page{Limit: 1})
	if err != nil {
		return err
	}
	conversation := ""
	if len(list) > 0 {
		conversation = list[0].ID
	}
	_, _, err = store.Messages(ctx, user, conversation, ports.Page{Limit: 10})
	return err
}
