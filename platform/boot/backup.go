package boot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"parley/adapters/sqlstore"
	appaudit "parley/app/audit"
	"parley/platform/config"
	"parley/ports"
)

type backupCommand struct {
	File  string `arg:"" type:"path" help:"File to write. It appears when it is complete and has been read back."`
	Force bool   `help:"Replace the file if it exists."`
}

// secretEntry is the entry of a backup that holds the development secret.
const secretEntry = "auth_secret"

// Run writes a backup beside the file, reads it back, and renames it.
func (b backupCommand) Run(ctx context.Context, p Process) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	if err := b.refuseExisting(); err != nil {
		return err
	}
	if path := sqliteFile(c); path != "" {
		if _, err := os.Stat(path); err != nil {
			return usageError{fmt.Errorf("there is no database in DATA_DIR (%s); set DATA_DIR or DATABASE_URL to the one to back up", c.Store.DataDir)}
		}
	}
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	defer store.Close()
	part, err := createPart(b.File)
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	defer part.discard()

	files, err := secretFiles(c)
	if err != nil {
		return err
	}
	var verdict auditVerdict
	manifest, err := store.Backup(ctx, part, sqlstore.BackupOptions{
		Release: Version, Scratch: part.Name() + ".db", Files: files,
		Check: func(ctx context.Context, ledger ports.Ledger) (err error) {
			verdict, err = verifyLedger(ctx, c, ledger)
			return err
		},
	})
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if err := part.readBack(ctx); err != nil {
		return fmt.Errorf("read the backup back: %w", err)
	}
	if err := b.refuseExisting(); err != nil { // someone else may have made it meanwhile
		return err
	}
	size, err := part.publish(b.File)
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	fmt.Fprintf(p.Stdout, "%s: %d rows of %d tables (%s, schema %s), %d bytes, read back\n",
		b.File, manifest.Rows(), len(manifest.Tables), manifest.Database, manifest.Schema, size)
	fmt.Fprintln(p.Stdout, verdict)
	if verdict.doubtful() {
		fmt.Fprintln(p.Stderr, "parley: the backup is complete, but what it holds of the audit log was not found in order; run: parley audit verify")
	}
	if len(files) > 0 {
		fmt.Fprintln(p.Stderr, "parley: the backup holds the secret of development mode, since AUTH_SECRET is not set")
	}
	return nil
}

func (b backupCommand) refuseExisting() error {
	info, err := os.Stat(b.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("write backup: %w", err)
	case info.IsDir():
		return usageError{fmt.Errorf("%s is a directory; name a file in it", b.File)}
	case !info.Mode().IsRegular():
		return usageError{fmt.Errorf("%s is not a regular file: the backup could not be read back", b.File)}
	case b.Force:
		return nil
	}
	return usageError{fmt.Errorf("%s exists; choose another name, or replace it with --force", b.File)}
}

// partFile is a backup that is being written: FILE.part. It is locked, so that
// one that was left by a killed process can be told from one that is in work.
type partFile struct {
	*os.File
	buffer *bufio.Writer
}

func createPart(path string) (partFile, error) {
	name := path + ".part"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return partFile{}, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return partFile{}, usageError{fmt.Errorf("another parley backup is writing %s", name)}
	}
	if err := errors.Join(f.Truncate(0), f.Chmod(0o600), removeAll(name+".db")); err != nil {
		f.Close()
		return partFile{}, err
	}
	return partFile{f, bufio.NewWriterSize(f, 1<<20)}, nil
}

func removeAll(path string) error {
	var err error
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if e := os.Remove(path + suffix); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Write implements io.Writer.
func (f partFile) Write(p []byte) (int, error) { return f.buffer.Write(p) }

// readBack makes what was written durable and compares it with its manifest.
func (f partFile) readBack(ctx context.Context) error {
	if err := errors.Join(f.buffer.Flush(), f.Sync()); err != nil {
		return err
	}
	backup, err := sqlstore.OpenBackup(f.Name())
	if err != nil {
		return err
	}
	defer backup.Close()
	return backup.Verify(ctx)
}

// publish gives the backup its name.
func (f partFile) publish(path string) (size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return 0, err
	}
	return info.Size(), sqlstore.SyncDir(filepath.Dir(path))
}

// discard removes the file, unless it has got its name, and ends its lock.
func (f partFile) discard() {
	if mine, err := f.Stat(); err == nil {
		if there, err := os.Stat(f.Name()); err == nil && os.SameFile(mine, there) {
			_ = os.Remove(f.Name())
		}
	}
	_ = f.Close()
}

// sqliteFile is the path of the embedded database, "" with Postgres.
func sqliteFile(c config.Config) string {
	if c.Store.DatabaseURL.Set() {
		return ""
	}
	return filepath.Join(c.Store.DataDir, "parley.db")
}

// secretFiles is the development secret, without which a restored copy could
// not read its own audit chain. A secret that an operator has set is not there.
func secretFiles(c config.Config) (map[string][]byte, error) {
	if !c.Development() {
		return nil, nil
	}
	secret, err := readSecret(secretFile(c.Store.DataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return map[string][]byte{secretEntry: []byte(secret + "\n")}, err
}

// auditVerdict is what a verification of the audit chain came to.
type auditVerdict struct {
	report  appaudit.Report
	problem string // why it could not be verified
}

func (v auditVerdict) doubtful() bool { return v.problem != "" || v.report.Findings > 0 }

// String is one line for the operator.
func (v auditVerdict) String() string {
	if v.problem != "" {
		return "audit chain: not verified: " + v.problem
	}
	return fmt.Sprintf("audit chain: %d links verified, %d entries waiting to be sealed, %d findings",
		v.report.Links, v.report.Waiting, v.report.Findings)
}

// verifyLedger verifies the audit chain with the secrets that are configured.
// Its error means that the database could not be read.
func verifyLedger(ctx context.Context, c config.Config, ledger ports.Ledger) (auditVerdict, error) {
	wrapped, err := ledger.AuditRoots(ctx)
	if err != nil {
		return auditVerdict{}, err
	}
	secrets, err := existingSecrets(c)
	if err != nil {
		return auditVerdict{}, err
	}
	if len(wrapped) > 0 && len(secrets) == 0 {
		return auditVerdict{problem: "neither AUDIT_KEY nor AUTH_SECRET is set"}, nil
	}
	auditor := appaudit.New(appaudit.Deps{Ledger: ledger, Secrets: secrets, Observer: ports.NopObserver{}, Now: time.Now}, appaudit.Options{})
	report, err := auditor.Verify(ctx, nil, func(appaudit.Finding) {})
	if err != nil && ctx.Err() == nil {
		return auditVerdict{report: report, problem: err.Error()}, nil
	}
	return auditVerdict{report: report}, err
}

// existingSecrets are those that open the audit chain. It makes none.
func existingSecrets(c config.Config) (list []string, err error) {
	for _, s := range c.Store.AuditKey {
		list = append(list, strings.TrimSpace(s.Reveal()))
	}
	if c.Development() {
		secret, err := readSecret(secretFile(c.Store.DataDir))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return list, nil
		case err != nil:
			return nil, err
		}
		return append(list, secret), nil
	}
	more, _, err := secrets(c)
	return append(list, more...), err
}
