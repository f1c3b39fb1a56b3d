package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"parley/adapters/identity"
	"parley/adapters/sqlstore"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/platform/config"
	"parley/ports"
)

type keyCommand struct {
	Create keyCreate `cmd:"" help:"Make an API key and print it, once."`
	List   keyList   `cmd:"" help:"List a user's API keys."`
	Revoke keyRevoke `cmd:"" help:"End an API key."`
}

type keyCreate struct {
	User   string   `required:"" help:"Id of the user that the key acts for."`
	Name   string   `default:"" help:"What it is for."`
	Scopes []string `name:"scope" enum:"chat:read,chat:write" help:"chat:read or chat:write; more than one if repeated. Without: both."`
}

// Run prints the key and nothing else on standard output.
func (k keyCreate) Run(ctx context.Context, p Process) error {
	return withStore(ctx, p, func(_ config.Config, store *sqlstore.Store) error {
		if err := chat.ValidateText(k.User + k.Name); err != nil || k.User == "" || len(k.User) > 255 || len(k.Name) > 200 {
			return usageError{fmt.Errorf("--user must have 1 to 255 bytes, --name at most 200")}
		}
		key, secret := identity.NewKey(k.User, newID())
		key.Name, key.CreatedAt = k.Name, time.Now()
		for _, s := range k.Scopes {
			key.Scopes = append(key.Scopes, access.Scope(s))
		}
		if err := store.CreateKey(ctx, key, operatorEntry(k.User, audit.ActionKeyCreated, audit.ResourceKey, key.ID)); err != nil {
			return err
		}
		_, err := fmt.Fprintln(p.Stdout, secret)
		return err
	})
}

type keyList struct {
	User string `required:"" help:"Id of the user."`
}

// Run lists the keys. Their secrets are not stored.
func (k keyList) Run(ctx context.Context, p Process) error {
	return withStore(ctx, p, func(_ config.Config, store *sqlstore.Store) error {
		keys, err := store.Keys(ctx, k.User)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tNAME\tSCOPES\tCREATED\tREVOKED")
		for _, key := range keys {
			scopes := make([]string, len(key.Scopes))
			for i, s := range key.Scopes {
				scopes[i] = string(s)
			}
			if len(scopes) == 0 {
				scopes = []string{"all"}
			}
			revoked := "-"
			if !key.RevokedAt.IsZero() {
				revoked = key.RevokedAt.Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", key.ID, key.Name, strings.Join(scopes, ","), key.CreatedAt.Format(time.RFC3339), revoked)
		}
		return w.Flush()
	})
}

type keyRevoke struct {
	User string `required:"" help:"Id of the user."`
	ID   string `arg:"" help:"Id of the key, as parley key list shows it."`
}

// Run ends the key: it is refused from the next request on.
func (k keyRevoke) Run(ctx context.Context, p Process) error {
	return withStore(ctx, p, func(_ config.Config, store *sqlstore.Store) error {
		err := store.RevokeKey(ctx, k.User, k.ID, time.Now(), operatorEntry(k.User, audit.ActionKeyRevoked, audit.ResourceKey, k.ID))
		if err == nil {
			fmt.Fprintln(p.Stdout, "revoked")
		}
		return err
	})
}

type userCommand struct {
	Revoke userRevoke `cmd:"" help:"End all sessions and API keys of a user."`
	Erase  userErase  `cmd:"" help:"Remove everything of a user from every table. This cannot be undone."`
}

type userRevoke struct {
	User string `required:"" help:"Id of the user."`
}

// Run ends every session and API key of the user that was issued until now.
// Instances refuse them at once through Redis, else within revocationInterval.
func (u userRevoke) Run(ctx context.Context, p Process) error {
	return withStore(ctx, p, func(c config.Config, store *sqlstore.Store) error {
		b, err := openBackends(c, instanceName(c), ports.NopObserver{})
		if err != nil {
			return err
		}
		defer b.close()
		sessions, err := openSessions(c)
		if err != nil {
			return err
		}
		var digests []string
		if sessions != nil {
			defer sessions.Close()
			if digests, err = sessions.Digests(ctx, u.User); err != nil {
				return err
			}
		}
		r, err := store.RevokeSessions(ctx, u.User, time.Now(), digests,
			operatorEntry(u.User, audit.ActionSessionsRevoked, audit.ResourceUser, u.User))
		if err == nil {
			b.feed.Notify(ctx, ports.TopicRevoked)
			fmt.Fprintf(p.Stdout, "sessions and API keys issued until now are ended; session version %d\n", r.Version)
		}
		return err
	})
}

// revocationInterval is how often an instance reads the list of revocations.
const revocationInterval = 5 * time.Second

// withStore runs a command on the configured store. The schema must be up to
// date; that of an embedded database is migrated first.
func withStore(ctx context.Context, p Process, run func(config.Config, *sqlstore.Store) error) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := migrated(ctx, c, store, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	return run(c, store)
}

// operatorEntry returns an audit entry for an action of the command line.
func operatorEntry(user, action, resource, id string) audit.Entry {
	now := time.Now()
	return audit.Entry{
		ID: newID(), UserID: user, Action: action, Resource: resource, ResourceID: id,
		Metadata: map[string]any{"by": "operator"}, Status: audit.Success, CreatedAt: now, UpdatedAt: now,
	}
}

// newCallers sets up every configured way to authenticate.
func newCallers(c config.Config, secrets []string, keys *sqlstore.Store) (*identity.Authenticator, func(), error) {
	tokens, err := identity.New(secrets, time.Now)
	if err != nil {
		return nil, nil, err
	}
	callers := &identity.Authenticator{Tokens: tokens, Keys: keys}
	done := func() {}
	if c.Auth.OIDCIssuer != "" {
		callers.OIDC = identity.NewOIDC(c.Auth.OIDCIssuer, c.Auth.OIDCAudience, time.Now)
	}
	if callers.Sessions, err = openSessions(c); err != nil {
		return nil, nil, err
	}
	if callers.Sessions != nil {
		done = func() { _ = callers.Sessions.Close() }
	}
	return callers, done, nil
}

// openSessions prepares for the sessions in the database of the app; nil when
// sessions are encrypted cookies.
func openSessions(c config.Config) (*identity.Sessions, error) {
	if c.Auth.SessionStrategy != "database" {
		return nil, nil
	}
	database := c.AuthDatabase()
	sessions, err := identity.NewSessions(database.URL.Reveal(), identity.Tables{
		Session: c.Auth.SessionTable, Token: c.Auth.SessionTokenColumn, User: c.Auth.SessionUserColumn, Expires: c.Auth.SessionExpiresColumn,
		SearchPath: database.SearchPath, MaxConns: database.MaxConns,
	}, time.Now)
	if err != nil {
		return nil, usageError{err}
	}
	return sessions, nil
}

// checkSessions looks a session up in the app's database. A fatal error is one
// of the set-up, and says what to change; others may be temporary.
func checkSessions(ctx context.Context, sessions *identity.Sessions) (fatal bool, err error) {
	if err = sessions.Check(ctx); err == nil {
		return false, nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		setting := map[string]string{"42P01": "AUTH_SESSION_TABLE", "3F000": "AUTH_SESSION_TABLE", "42703": "AUTH_SESSION_TOKEN_COLUMN, AUTH_SESSION_USER_COLUMN and AUTH_SESSION_EXPIRES_COLUMN"}[pg.Code]
		if setting != "" {
			return true, usageError{fmt.Errorf("AUTH_DATABASE_URL: %s; check %s, or the schema in AUTH_DATABASE_URL", pg.Message, setting)}
		}
		if setup := sqlstore.Explain(err); setup != nil && pg.Code == "42501" {
			return true, usageError{fmt.Errorf("AUTH_DATABASE_URL: %s; GRANT SELECT on the table of sessions to that role", pg.Message)}
		}
	}
	explained := explainDatabase("AUTH_DATABASE_URL", err)
	return errors.As(explained, &usageError{}), explained
}
