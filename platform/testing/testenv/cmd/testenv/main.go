// Command testenv runs a command with a private Postgres beside it:
//
//	go run ./platform/testing/testenv/cmd/testenv go test ./...
package main

import (
	"fmt"
	"os"

	"parley/platform/testing/testenv"
)

func main() {
	code, err := testenv.Run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
	}
	os.Exit(code)
}
