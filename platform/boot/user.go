package boot

import (
	"context"
	"fmt"

	"parley/adapters/sqlstore"
	"parley/platform/config"
)

type userErase struct {
	User string `required:"" help:"Id of the user."`
}

// Run removes everything of the user. It may run beside instances that serve:
// they stop the user's replies, and a request that comes meanwhile makes a new
// user.
func (u userErase) Run(ctx context.Context, p Process) error {
	return withStore(ctx, p, func(c config.Config, store *sqlstore.Store) error {
		auditor, err := newAuditor(c, store, nil, silence{})
		if err != nil {
			return err
		}
		if err := auditor.EraseUser(ctx, u.User); err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.Stdout, "erased")
		return err
	})
}
