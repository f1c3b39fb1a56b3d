package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"parley/adapters/prisma"
	"parley/adapters/sqlstore"
	"parley/app/imports"
	"parley/domain/chat"
	"parley/platform/config"
	"parley/ports"
)

type importCommand struct {
	Prisma importPrisma `cmd:"" help:"Copy from a Next.js backend with Prisma on PostgreSQL: its tables chat_conversations and chat_messages. It can be interrupted and repeated, beside running instances of both."`
}

type importPrisma struct {
	URL    string `arg:"" name:"url" help:"Database of the backend, as in its DATABASE_URL (schema=NAME for another schema than public); - reads it from standard input, which keeps a password out of the list of processes."`
	DryRun bool   `help:"Read and decide everything, and store nothing."`
}

// Run imports into the database that the configuration names, and prints what has
// become of the rows, by id and without text.
func (i importPrisma) Run(ctx context.Context, p Process) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	source, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	store, err := openStore(ctx, c, func(o *sqlstore.Options) { o.Timeout, o.AcquireTimeout, o.MaxConns = time.Minute, 10*time.Second, 2 })
	if err != nil {
		return err
	}
	defer store.Close()
	if i.DryRun {
		err = requireMigrated(ctx, store)
	} else {
		_, err = migrated(ctx, c, store, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		return err
	}
	if err := rememberErased(ctx, c, store); err != nil {
		return err
	}
	progress := &importProgress{out: p.Stderr, next: time.Now().Add(progressEvery)}
	service := imports.Service{
		Source: source, Store: store, Now: time.Now, IDs: newID, From: "prisma",
		Note: progress.note, Progress: progress.report, Pause: pause,
	}
	report, err := service.Run(ctx, i.DryRun)
	printImport(p.Stdout, report, i.DryRun, err == nil)
	var read *imports.SourceError
	switch {
	case errors.As(err, &read):
		return fmt.Errorf("%w; what is imported stays, and the same command goes on", explainDatabase("the URL of the source", err))
	case err != nil:
		return fmt.Errorf("%w; what is imported stays, and the same command goes on", err)
	}
	return judgeImport(report, i.DryRun)
}

// open connects to the source. Its errors name the argument, not DATABASE_URL.
func (i importPrisma) open(ctx context.Context) (*prisma.Source, error) {
	raw := i.URL
	if raw == "-" {
		text, err := io.ReadAll(io.LimitReader(os.Stdin, 16<<10))
		if err != nil {
			return nil, fmt.Errorf("read the URL of the source: %w", err)
		}
		raw = strings.TrimSpace(string(text))
	}
	database, err := config.ParsePostgres(raw)
	if err != nil {
		return nil, usageError{fmt.Errorf("the URL of the source %w", err)}
	}
	source, err := prisma.Open(ctx, database.URL.Reveal(), database.SearchPath)
	var layout *prisma.LayoutError
	switch {
	case errors.As(err, &layout):
		return nil, usageError{layout}
	case err != nil:
		return nil, fmt.Errorf("open the source: %w", explainDatabase("the URL of the source", err))
	}
	return source, nil
}

// requireMigrated refuses a database that a dry run would have to migrate.
func requireMigrated(ctx context.Context, store *sqlstore.Store) error {
	status, err := store.MigrationStatus(ctx)
	if err == nil && len(status.Pending) > 0 {
		err = usageError{fmt.Errorf("%d migrations are pending; run: parley migrate up", len(status.Pending))}
	}
	return err
}

// rememberErased has the store recognise users who were erased. A database without
// an audit chain has none.
func rememberErased(ctx context.Context, c config.Config, store *sqlstore.Store) error {
	roots, err := store.AuditRoots(ctx)
	if err != nil || len(roots) == 0 {
		return err
	}
	auditor, err := newAuditor(c, store, nil, ports.NopObserver{})
	if err != nil {
		return err
	}
	hash, err := auditor.UserHash(ctx)
	if err != nil {
		return fmt.Errorf("erased users cannot be recognised, so that the import would bring them back; set AUDIT_KEY or AUTH_SECRET as parley serve has them: %w", err)
	}
	store.SetUserHash(hash)
	return nil
}

// progressEvery is the time between two lines of progress.
const progressEvery = 10 * time.Second

// importProgress prints what happens on standard error.
type importProgress struct {
	out  io.Writer
	next time.Time
}

func (i *importProgress) note(table imports.Table, o chat.ImportOutcome) {
	what := strings.TrimSuffix(string(table), "s")
	if o.Result == chat.ImportRefused {
		fmt.Fprintf(i.out, "refused: %s %q of user %q: %s\n", what, o.ID, o.UserID, o.Reason)
	}
	for _, change := range o.Changes {
		fmt.Fprintf(i.out, "changed: %s %q of user %q: %s\n", what, o.ID, o.UserID, change)
	}
}

func (i *importProgress) report(r imports.Report) {
	if now := time.Now(); now.After(i.next) {
		i.next = now.Add(progressEvery)
		fmt.Fprintf(i.out, "read so far: %d conversations, %d messages\n", r.Conversations.Read, r.Messages.Read)
	}
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// printImport prints a table of counts.
func printImport(out io.Writer, r imports.Report, dryRun, ended bool) {
	added := "imported"
	if dryRun {
		added = "to import"
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\tread\t%s\talready there\tdeleted\trefused\tchanged\t\n", added)
	for _, row := range []struct {
		name imports.Table
		imports.Counts
	}{{imports.Conversations, r.Conversations}, {imports.Messages, r.Messages}} {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", row.name, row.Read, row.Added, row.Present, row.Deleted, row.Refused, row.Changed)
	}
	_ = w.Flush()
	switch {
	case dryRun:
		fmt.Fprintln(out, "dry run: nothing was stored")
	case ended && r.Conversations.Complete() && r.Messages.Complete():
		fmt.Fprintf(out, "verified: Parley has the %d conversations and %d messages that were imported or already there\n",
			r.Conversations.Added+r.Conversations.Present, r.Messages.Added+r.Messages.Present)
	}
}

// judgeImport is the end of an import that was not interrupted.
func judgeImport(r imports.Report, dryRun bool) error {
	if n := r.Conversations.Late + r.Messages.Late; n > 0 {
		return fmt.Errorf("%d rows were added to the source during the import; run the same command again, best when the other backend has stopped writing", n)
	}
	if !dryRun && (!r.Conversations.Complete() || !r.Messages.Complete()) {
		return fmt.Errorf("the counts differ: Parley has %d of %d conversations and %d of %d messages; something was deleted during the import, or run the same command again",
			r.Conversations.Found, r.Conversations.Added+r.Conversations.Present, r.Messages.Found, r.Messages.Added+r.Messages.Present)
	}
	if n := r.Conversations.Refused + r.Messages.Refused; n > 0 {
		return fmt.Errorf("%d rows were refused; standard error lists them", n)
	}
	return nil
}
