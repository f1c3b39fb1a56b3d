// Parley is a backend for AI chat. See README.md, or run parley --help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"parley/platform/boot"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal ends gracefully, the second one at once
	os.Exit(boot.Run(ctx, boot.Process{
		Args: os.Args[1:], Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr,
	}))
}
