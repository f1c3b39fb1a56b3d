package boot

import (
	"context"
	"fmt"
	"io"

	"parley/adapters/sqlstore"
	"parley/platform/config"
	"parley/ports"
)

type userErase struct {
	User string `required:"" help:"Id of the user."`
}

// Run deletes everything of the user and ends the user's credentials. It may run
// beside instances that serve: they stop the user's replies, and refuse every
// session and API key that was issued until now.
func (u userErase) Run(ctx context.Context, p Process) error {
	return withStore(ctx, p, func(c config.Config, store *sqlstore.Store) error {
		b, err := openBackends(c, instanceName(c), ports.NopObserver{})
		if err != nil {
			return err
		}
		defer b.close()
		auditor, err := newAuditor(c, store, &b, taskWarnings{p.Stderr})
		if err != nil {
			return err
		}
		sessions, err := openSessions(c)
		if err != nil {
			return err
		}
		if sessions != nil {
			defer sessions.Close()
			auditor.Sessions = sessions.Digests
		}
		if err := auditor.EraseUser(ctx, u.User); err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.Stdout, "erased")
		return err
	})
}

// taskWarnings prints failures of background tasks, which do not fail the command.
type taskWarnings struct{ out io.Writer }

// Observe implements ports.Observer.
func (c taskWarnings) Observe(_ context.Context, fact any) {
	if f, ok := fact.(ports.BackgroundFailed); ok {
		fmt.Fprintf(c.out, "copies in Redis could not be removed; they expire within 10 minutes: %v\n", f.Err)
	}
}
