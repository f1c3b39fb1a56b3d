package identity

import (
	"cmp"
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
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Tables names the table and columns in which an Auth.js adapter stores sessions.
// The zero value has those of the Prisma adapter.
type Tables struct {
	Session, Token, User, Expires string
	// SearchPath names the schemas in which the table is looked up. Empty: the
	// server's default.
	SearchPath []string
	// MaxConns bounds the pool; default 4.
	MaxConns int
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

// Sessions looks up Auth.js sessions in the database of the app. It only reads:
// the app extends and deletes them. A session that is deleted there is refused
// from the next request on.
type Sessions struct {
	db     *sql.DB
	lookup string // the user and expiry of a token
	tokens string // of a user
	now    ports.Clock

	answered atomic.Int64 // when the database last answered, in Unix nanoseconds
}

// NewSessions makes the connection pool. It does not connect yet.
func NewSessions(url string, tables Tables, now ports.Clock) (*Sessions, error) {
	config, err := pgx.ParseConfig(url) // its errors hide the password
	if err != nil {
		return nil, fmt.Errorf("read the session database's URL: %w", err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // works behind any PgBouncer
	config.ConnectTimeout = time.Second
	// The database may have other defaults. PgBouncer accepts these parameters.
	for name, value := range map[string]string{
		"timezone": "UTC", "datestyle": "ISO, MDY", "client_encoding": "UTF8", "standard_conforming_strings": "on",
	} {
		config.RuntimeParams[name] = value
	}
	t := tables.withDefaults()
	switch {
	case len(t.SearchPath) == 0 || strings.Contains(t.Session, "."):
	case len(t.SearchPath) == 1: // works behind any PgBouncer
		t.Session = t.SearchPath[0] + "." + t.Session
	default:
		quoted := make([]string, len(t.SearchPath))
		for i, schema := range t.SearchPath {
			quoted[i] = pgx.Identifier{schema}.Sanitize()
		}
		config.RuntimeParams["search_path"] = strings.Join(quoted, ", ")
	}
	db := stdlib.OpenDB(*config)
	conns := cmp.Or(t.MaxConns, 4)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(time.Hour) // a new password, or a new address, is noticed
	quote := func(name string) string {
		return pgx.Identifier(strings.Split(name, ".")).Sanitize()
	}
	return &Sessions{
		db: db, now: now,
		lookup: fmt.Sprintf(`SELECT %s, %s FROM %s WHERE %s = $1`, quote(t.User), quote(t.Expires), quote(t.Session), quote(t.Token)),
		tokens: fmt.Sprintf(`SELECT %s FROM %s WHERE CAST(%s AS text) = $1`, quote(t.Token), quote(t.Session), quote(t.User)),
	}, nil
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

// Check reports whether sessions can be looked up: the database answers, and
// has the table and its columns.
func (s *Sessions) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	found, err := s.db.QueryContext(ctx, s.lookup, "")
	if err == nil {
		found.Next()
		err = errors.Join(found.Err(), found.Close()) //nolint:sqlclosecheck // its error matters
	}
	if err != nil {
		return fmt.Errorf("look up sessions: %w", err)
	}
	return nil
}

// identify looks the cookie's token up. Auth.js never cuts such a token into
// pieces, so only a cookie of exactly its name counts.
func (s *Sessions) identify(ctx context.Context, cookies []access.Cookie) (access.Principal, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, f := range cookieFormats {
		for _, c := range cookies {
			if c.Name != f.cookie || c.Value == "" || len(c.Value) > 512 {
				continue
			}
			var user string
			var expires time.Time
			err := s.db.QueryRowContext(ctx, s.lookup, c.Value).Scan(&user, &expires)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				s.answered.Store(time.Now().UnixNano())
			case err != nil:
				return access.Principal{}, s.failed(ctx, began, err)
			case expires.After(s.now()) && chat.ValidUserID(user):
				s.answered.Store(time.Now().UnixNano())
				return access.Principal{UserID: user, Tier: access.Authenticated, Via: access.ViaCookie, Session: digest(c.Value)}, nil
			}
		}
	}
	return access.Principal{}, unauthenticated()
}

// failed gives an error of the database its kind: overload if time ran out
// although the database answered other callers meanwhile.
func (s *Sessions) failed(ctx context.Context, began time.Time, err error) error {
	if ctx.Err() != nil && s.answered.Load() >= began.UnixNano() {
		return fault.Wrap(err, fault.Overloaded, "The server is busy; please try again").After(time.Second)
	}
	return fault.Wrap(err, fault.Unavailable, "Sessions cannot be checked at the moment").After(time.Second)
}

// Digests returns the digest of each session that a user has in the app's
// database, as Principal.Session names it: what a revocation ends. Unavailable
// when the database cannot be read.
func (s *Sessions) Digests(ctx context.Context, user string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	unavailable := func(err error) error {
		return fault.Wrap(err, fault.Unavailable, "The user's sessions cannot be read at the moment").After(time.Second)
	}
	found, err := s.db.QueryContext(ctx, s.tokens, user)
	if err != nil {
		return nil, unavailable(err)
	}
	defer found.Close()
	var digests []string
	for found.Next() {
		var token string
		if err := found.Scan(&token); err != nil {
			return nil, unavailable(err)
		}
		digests = append(digests, digest(token))
	}
	if err := found.Err(); err != nil {
		return nil, unavailable(err)
	}
	return digests, nil
}
