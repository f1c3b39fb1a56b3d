package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"parley/platform/config"
)

// lockDataDir makes this process the only one that serves the embedded
// database: limits, live replies and leases are kept in process there. The lock
// is the kernel's and ends with the process, however it ends. Commands beside
// serve do not take it. With Postgres nothing is locked.
func lockDataDir(c config.Config) (unlock func(), err error) {
	if c.Store.DatabaseURL.Set() {
		return func() {}, nil
	}
	if err := makeDataDir(c.Store.DataDir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.Store.DataDir, "serve.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock DATA_DIR: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder := ""
		if pid, err := io.ReadAll(io.LimitReader(f, 16)); err == nil && len(pid) > 0 {
			holder = " (process " + strings.TrimSpace(string(pid)) + ")"
		}
		f.Close()
		return nil, usageError{fmt.Errorf("another parley serve%s uses DATA_DIR %s; stop it, set DATA_DIR to another directory, "+
			"or set DATABASE_URL to run several instances on PostgreSQL", holder, c.Store.DataDir)}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) { // the number is for people only
		f.Close()
		return nil, fmt.Errorf("lock DATA_DIR: %w", err)
	}
	return func() { f.Close() }, nil
}
