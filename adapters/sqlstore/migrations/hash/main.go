// Command hash writes the atlas.sum of each migration directory, as
// "atlas migrate hash" does. Run it from the repository's root after editing
// or adding a migration:
//
//	go run ./adapters/sqlstore/migrations/hash
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"ariga.io/atlas/sql/migrate"
)

func main() {
	root := filepath.Join("adapters", "sqlstore", "migrations")
	for _, name := range []string{"postgres", "sqlite"} {
		if err := hash(filepath.Join(root, name)); err != nil {
			fmt.Fprintf(os.Stderr, "hash %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

func hash(path string) error {
	dir, err := migrate.NewLocalDir(path)
	if err != nil {
		return err
	}
	sum, err := dir.Checksum()
	if err != nil {
		return err
	}
	return migrate.WriteSumFile(dir, sum)
}
