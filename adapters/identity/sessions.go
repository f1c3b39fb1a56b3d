package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"parley/domain/access"
	"parley/domain/fault"
	"parley/ports"
)

// Tables names where an Auth.js adapter keeps its sessions. The zero value is
// the Prisma adapter's.
type Tables struct {
	Session, Token, User, Expires string
}

func (t Tables) withDefaults() Tables {
	for _, f := range []struct {
		name *string
		def  string
	}{{&t.Session, "Session"}, {&t.Token, "sessionToken"}, {&t.User, "userId"}, {&t.Expires, "expires"}} {
		if *f.name == "" {
			*f.name = f.def
		}
	}
	return t
}

// Sessions recognises Auth.js sessions that a database keeps. It only reads:
// extending and deleting them is the app's business. A session that is deleted
// there is good for nothing at the next request.
type Sessions struct {
	db    *sql.DB
	query string
	now   ports.Clock

	answered atomic.Int64 // when the database last answered, in Unix nanoseconds
}

// NewSessions prepares for the Postgres of the app. It need not be up yet.
func NewSessions(url string, tables Tables, now ports.Clock) (*Sessions, error) {
	config, err := pgx.ParseConfig(url) // its errors hide the password
	if err != nil {
		return nil, fmt.Errorf("read the session database's URL: %w", err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // works behind any PgBouncer
	config.ConnectTimeout = time.Second
	config.RuntimeParams["timezone"] = "UTC"
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	db.SetConnMaxIdleTime(5 * time.Minute)
	t := tables.withDefaults()
	quote := func(name string) string {
		return pgx.Identifier(strings.Split(name, ".")).Sanitize()
	}
	return &Sessions{db: db, now: now, query: fmt.Sprintf(`SELECT %s, %s FROM %s WHERE %s = $1`,
		quote(t.User), quote(t.Expires), quote(t.Session), quote(t.Token))}, nil
}

// Close closes the connections.
func (s *Sessions) Close() error { return s.db.Close() }

// Ping reports whether the database answers.
func (s *Sessions) Ping(ctx context.Context) error {
	if err := s.db.PingContext(ctx); err != nil {
		return fmt.Errorf("ping session database: %w", err)
	}
	return nil
}

// identify looks the cookie's token up. Auth.js never cuts such a token into
// pieces, so only a cookie of exactly its name counts.
func (s *Sessions) identify(ctx context.Context, cookies []access.Cookie) (access.Principal, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, f := range flavours {
		for _, c := range cookies {
			if c.Name != f.cookie || c.Value == "" || len(c.Value) > 512 {
				continue
			}
			var user string
			var expires time.Time
			err := s.db.QueryRowContext(ctx, s.query, c.Value).Scan(&user, &expires)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				s.answered.Store(time.Now().UnixNano())
			case err != nil:
				return access.Principal{}, s.failed(ctx, began, err)
			case expires.After(s.now()) && validUser(user):
				s.answered.Store(time.Now().UnixNano())
				// It was good a moment ago, so no revocation of the past is meant for it.
				return access.Principal{UserID: user, Tier: access.Authenticated, Via: access.ViaCookie, IssuedAt: s.now()}, nil
			}
		}
	}
	return access.Principal{}, unauthenticated()
}

// failed gives an error of the database its kind: overload if time ran out
// while all connections were in use and the database answered other callers.
func (s *Sessions) failed(ctx context.Context, began time.Time, err error) error {
	stats := s.db.Stats()
	if ctx.Err() != nil && stats.InUse >= stats.MaxOpenConnections && s.answered.Load() >= began.UnixNano() {
		return fault.Wrap(err, fault.Overloaded, "The server is busy; please try again").After(time.Second)
	}
	return fault.Wrap(err, fault.Unavailable, "Sessions cannot be checked at the moment").After(time.Second)
}
