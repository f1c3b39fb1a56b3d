package boot

import (
	"context"
	"io"

	"parley/platform/doctor"
)

// Examine is parley doctor in this process.
func Examine(ctx context.Context, env []string, url, prometheus, backups string) (*doctor.Report, error) {
	d := doctorCommand{URL: url, Prometheus: prometheus, Backups: backups}
	return d.examine(ctx, Process{Env: env, Stdout: io.Discard, Stderr: io.Discard}, nil)
}
