package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// packages names the Debian packages of each program that tests use.
var packages = map[string]string{
	"initdb":       "postgresql",
	"postgres":     "postgresql",
	"psql":         "postgresql-client",
	"pg_dump":      "postgresql-client",
	"pgbench":      "postgresql",
	"pgbouncer":    "pgbouncer",
	"redis-server": "redis-server",
	"prometheus":   "prometheus",
	"promtool":     "prometheus",
	"amtool":       "prometheus-alertmanager",
	"haproxy":      "haproxy",
	"nginx":        "nginx",

	"prometheus-alertmanager": "prometheus-alertmanager",
	"chromium":                "chromium",
	"systemd-analyze":         "systemd",
	"npm":                     "npm",
	"gcc":                     "gcc libc6-dev",
}

// Binary returns the path of a program. One that is missing is installed on
// Debian as root; elsewhere the test fails with the command that would.
func Binary(t testing.TB, name string) string {
	t.Helper()
	skipShort(t)
	path, err := find(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Program is Binary outside any test.
func Program(name string) (string, error) { return find(name) }

func find(name string) (string, error) {
	if path, ok := lookup(name); ok {
		return path, nil
	}
	pkg, known := packages[name]
	if !known {
		return "", fmt.Errorf("%s is not installed", name)
	}
	_, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return "", fmt.Errorf("%s is not installed; run: %s", name, advice(pkg, err == nil))
	}
	if err := install(name, pkg); err != nil {
		return "", err
	}
	if path, ok := lookup(name); ok {
		return path, nil
	}
	return "", fmt.Errorf("%s is not in the package %s", name, pkg)
}

// lookup finds a program on the PATH or where distributions keep the servers
// of which there may be several versions; the newest wins.
func lookup(name string) (string, bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin/", "/usr/pgsql-*/bin/", "/usr/local/bin/",
		"/opt/homebrew/opt/postgresql@*/bin/", "/usr/sbin/",
	} {
		found, _ := filepath.Glob(pattern + name)
		if len(found) > 0 {
			return slices.MaxFunc(found, byVersion), true
		}
	}
	return "", false
}

// byVersion orders .../9/... before .../15/....
func byVersion(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func advice(pkg string, debian bool) string {
	if debian {
		return "sudo apt-get update && sudo apt-get install -y --no-install-recommends " + pkg
	}
	return "the package manager of this system for " + pkg + ", or set " + EnvPostgres + " and " + EnvRedis
}

// install runs apt-get, one test process at a time: they would trip over apt's
// own lock.
func install(name, pkg string) error {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "parley-testenv-apt.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock apt: %w", err)
	}
	if _, ok := lookup(name); ok { // while we waited
		return nil
	}
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-q", "-y", "--no-install-recommends"}, strings.Fields(pkg)...),
	} {
		cmd := exec.Command("apt-get", args...)
		// Runlevel 1 keeps the package from starting a server of its own.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return errors.Join(fmt.Errorf("apt-get %s: %w\n%s", args[0], err, out),
				fmt.Errorf("run: %s", advice(pkg, true)))
		}
	}
	return nil
}
