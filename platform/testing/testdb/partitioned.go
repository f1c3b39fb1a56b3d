package testdb

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"parley/adapters/sqlstore/migrations"
	"parley/platform/testing/testenv"
)

// Partitions is how many partitions Partitioned gives a table.
const Partitions = 4

// Partitioned returns the URL of a new, migrated database whose tables
// deploy/scale/partition.sql has divided; it is dropped when the test ends.
func Partitioned(t testing.TB) string {
	t.Helper()
	sums, err := migrations.FS.ReadFile("postgres/atlas.sum")
	if err != nil {
		t.Fatal(err)
	}
	psql, script := testenv.Binary(t, "psql"), scaleScript(t, "partition.sql")
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(append(sums, text...))
	return testenv.PostgresCopy(t, fmt.Sprintf("parley_template_partitioned_%.8x", digest), func(url string) error {
		if err := migrate(url); err != nil {
			return err
		}
		if out, err := execute(psql, url, script, fmt.Sprintf("partitions=%d", Partitions)).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", script, err, out)
		}
		return nil
	})
}

// Partition is the execution of deploy/scale/partition.sql on a database, with
// variables such as "partitions=16".
func Partition(t testing.TB, url string, variables ...string) *exec.Cmd {
	t.Helper()
	return execute(testenv.Binary(t, "psql"), url, scaleScript(t, "partition.sql"), variables...)
}

func execute(psql, url, script string, variables ...string) *exec.Cmd {
	args := []string{url, "--no-psqlrc", "--file=" + script}
	for _, v := range variables {
		args = append(args, "--set="+v)
	}
	return exec.Command(psql, args...)
}

// scaleScript returns the path of a file of deploy/scale, in the repository that the
// test is in.
func scaleScript(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir != filepath.Dir(dir) {
		path := filepath.Join(dir, "deploy", "scale", name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
		dir = filepath.Dir(dir)
	}
	t.Fatalf("no deploy/scale/%s above the test", name)
	return ""
}
