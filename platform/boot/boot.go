// Package boot holds the commands of the program and wires all other packages
// together: serve.go, read from top to bottom, shows of what the service
// consists. Only main imports this package.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"parley/platform/cli"
	"parley/platform/config"
)

// Version is the release; the linker sets it.
var Version = "dev"

// Revision is the commit that a release was made from; the linker sets it.
var Revision string

// Process holds the arguments, environment and output of one run of the program.
type Process struct {
	Args           []string // without the program's name
	Env            []string // as os.Environ
	Stdout, Stderr io.Writer
}

func (p Process) config() (config.Config, error) {
	c, err := config.Load(p.Env)
	if err != nil {
		return c, usageError{err}
	}
	return c, nil
}

// usageError marks a wrong command line or configuration: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

type commands struct {
	Serve       serveCommand       `cmd:"" default:"1" help:"Serve the API (the default)."`
	Migrate     migrateCommand     `cmd:"" help:"Bring the database's schema up to date."`
	Token       tokenCommand       `cmd:"" help:"Print a token for a user."`
	Chat        chatCommand        `cmd:"" help:"The kill switch: disable and enable chat, or one provider, while the service runs."`
	Key         keyCommand         `cmd:"" help:"API keys: create, list, revoke."`
	User        userCommand        `cmd:"" help:"Users: end their sessions, erase them."`
	Audit       auditCommand       `cmd:"" help:"The audit log: verify it."`
	Webhook     webhookCommand     `cmd:"" help:"Events for your receiver: list them, send them again."`
	Backup      backupCommand      `cmd:"" help:"Write the whole database to a file, at one moment, while the service runs."`
	Restore     restoreCommand     `cmd:"" help:"Restore a backup into an empty database."`
	Import      importCommand      `cmd:"" help:"Copy the conversations and messages of a backend that Parley replaces."`
	Doctor      doctorCommand      `cmd:"" help:"Check the configuration and every service that it names."`
	Admin       adminCommand       `cmd:"" help:"Ask the database, the admin address or Redis during an incident; runbooks use it."`
	Top         topCommand         `cmd:"" help:"Show the state of running instances on one screen, and renew it."`
	Healthcheck healthcheckCommand `cmd:"" help:"Check whether the instance with this configuration is ready (for containers)."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
}

// Run runs one command until it is done or ctx is, and returns the exit code:
// 0 for success, 1 for failure, 2 for a wrong command line or configuration.
func Run(ctx context.Context, p Process) (code int) {
	if len(p.Args) == 1 && p.Args[0] == "--version" {
		p.Args = []string{"version"}
	}
	command, err := cli.Parse("parley", "A backend for AI chat. Settings come from environment variables; see docs/configuration.md.", new(commands), p.Args)
	var help cli.Help
	switch {
	case errors.As(err, &help):
		fmt.Fprint(p.Stdout, help.Text)
		return 0
	case err != nil:
		fmt.Fprintln(p.Stderr, "parley:", err)
		fmt.Fprintln(p.Stderr, "Run parley --help for the commands.")
		return 2
	}
	if err := explainDatabase("DATABASE_URL", runCommand(ctx, command, p)); err != nil {
		fmt.Fprintln(p.Stderr, "parley:", err)
		if errors.As(err, &usageError{}) {
			return 2
		}
		return 1
	}
	return 0
}

// runCommand runs the command that the command line names.
func runCommand(ctx context.Context, command any, p Process) error {
	switch c := command.(type) {
	case interface {
		Run(ctx context.Context, p Process) error
	}:
		return c.Run(ctx, p)
	case interface{ Run(p Process) error }:
		return c.Run(p)
	}
	return fmt.Errorf("%T has no Run", command)
}

type versionCommand struct{}

func (versionCommand) Run(p Process) error {
	revision := ""
	if Revision != "" {
		revision = " " + Revision
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	_, err := fmt.Fprintf(p.Stdout, "parley %s%s %s\n", Version, revision, runtime.Version())
	return err
}
