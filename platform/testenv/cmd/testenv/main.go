// Command testenv runs a command with a private Postgres beside it:
//
//	go run ./platform/testenv/cmd/testenv go test ./...
package main

import (
	"fmt"
	"os"

	"parley/platform/testenv"
)

func main() {
	code, err := testenv.Run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
	}
	os.Exit(code)
}
