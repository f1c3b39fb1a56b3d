package boot

import (
	"context"
	"errors"

	"parley/platform/ops"
)

// adminCommand is what runbooks call: it needs no program but this one, so that the
// same command works on a host and in a container without a shell.
type adminCommand struct {
	SQL   adminSQL   `cmd:"" name:"sql" help:"Run a named read-only query of the database, such as locks; without a name, list them."`
	Get   adminGet   `cmd:"" help:"Request a path of the admin address, such as /readyz or /debug/models."`
	Redis adminRedis `cmd:"" help:"Check whether Redis answers, how fast, and what it reports."`
}

type adminSQL struct {
	Name string `arg:"" optional:"" help:"Name of the query."`
}

// Run runs the query without opening a store: it must work while the schema is not
// the expected one or tables are locked.
func (a adminSQL) Run(ctx context.Context, p Process) error {
	q, err := ops.FindQuery(a.Name)
	if err != nil {
		return usageError{err}
	}
	c, err := p.config()
	if err != nil {
		return err
	}
	database := c.AdminDatabase()
	url := database.URL.Reveal()
	if url == "" {
		return usageError{errors.New("the named queries are for PostgreSQL, and DATABASE_URL is not set; open the embedded database with sqlite3 DATA_DIR/parley.db")}
	}
	return ops.RunQuery(ctx, url, database.SearchPath, q, p.Stdout)
}

type adminGet struct {
	Path string `arg:"" help:"Path with query, such as /readyz."`
	Addr string `help:"Admin address of another instance; without, ADMIN_ADDR."`
}

// Run writes the response also if it is an error, as that of /readyz is.
func (a adminGet) Run(ctx context.Context, p Process) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	addr := c.Server.AdminAddr
	if a.Addr != "" {
		addr = a.Addr
	}
	url, err := ops.AdminURL(addr)
	if err != nil {
		return usageError{err}
	}
	return ops.Get(ctx, url, a.Path, p.Stdout)
}

type adminRedis struct{}

// Run does not print the URL, which may hold a password.
func (adminRedis) Run(ctx context.Context, p Process) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	return ops.CheckRedis(ctx, c.Store.RedisURL.Reveal(), p.Stdout)
}
