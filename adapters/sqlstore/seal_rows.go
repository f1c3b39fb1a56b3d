package sqlstore

import (
	"bytes"
	"database/sql"
	"slices"
	"time"

	"parley/domain/audit"
)

// linkRow and lineRow read every value, also an invalid one: a verifier must be able
// to read a table that was tampered with.
type linkRow struct {
	seq                            int64
	subject, entry, kind, sealedAt sql.NullString
	digest, prev, hash             []byte
}

func (s *Store) linkColumns(alias string) string {
	at := "CAST(" + alias + ".sealed_at AS text)"
	if s.dialect.name == "postgres" {
		at = utcText(alias + ".sealed_at")
	}
	a := alias + "."
	return a + "seq, " + a + "subject, " + a + "entry_id, " + a + "kind, " + a + "digest, " + a + "prev, " + a + "hash, " + at
}

func (r *linkRow) dest() []any {
	return []any{&r.seq, &r.subject, &r.entry, &r.kind, &r.digest, &r.prev, &r.hash, &r.sealedAt}
}

func (r *linkRow) link() audit.Link {
	l := audit.Link{
		Seq: r.seq, Subject: r.subject.String, EntryID: r.entry.String, Kind: audit.LinkKind(r.kind.String),
		Digest: sum(r.digest), Prev: sum(r.prev), Hash: sum(r.hash),
	}
	for _, layout := range []string{"2006-01-02 15:04:05.999999-07:00", "2006-01-02T15:04:05.999999"} {
		if at, err := time.Parse(layout, r.sealedAt.String); err == nil {
			l.SealedAt = at.UTC()
		}
	}
	return l
}

// sum returns the hash in a column. A value of another size gives a hash that no
// link has.
func sum(b []byte) (out audit.Sum) {
	if len(b) != len(out) {
		b = bytes.Repeat([]byte{0xff}, len(out))
	}
	copy(out[:], b)
	return out
}

type lineRow [12]sql.NullString

// lineColumns selects an entry of the log as text.
func (s *Store) lineColumns(alias string) string {
	var text []byte
	for i, column := range []string{
		"user_id", "id", "action", "resource", "resource_id", "metadata", "ip_address", "user_agent", "status", "error_message",
		"created_at", "updated_at",
	} {
		if i > 0 {
			text = append(text, ", "...)
		}
		column = alias + "." + column
		switch {
		case s.dialect.name == "postgres" && i >= 10:
			column = utcText(column)
		default:
			column = "CAST(" + column + " AS text)"
		}
		text = append(text, column...)
	}
	return string(text)
}

func (r *lineRow) dest() []any {
	dest := make([]any, len(r))
	for i := range r {
		dest[i] = &r[i]
	}
	return dest
}

// line returns the entry, nil for one that a join did not find.
func (r *lineRow) line() *audit.Line {
	if !slices.ContainsFunc(r[:], func(text sql.NullString) bool { return text.Valid }) {
		return nil
	}
	maybe := func(text sql.NullString) *string {
		if !text.Valid {
			return nil
		}
		return &text.String
	}
	return &audit.Line{
		UserID: r[0].String, ID: r[1].String, Action: r[2].String, Resource: r[3].String,
		ResourceID: maybe(r[4]), Metadata: maybe(r[5]), IPAddress: maybe(r[6]), UserAgent: maybe(r[7]),
		Status: r[8].String, Error: maybe(r[9]), CreatedAt: r[10].String, UpdatedAt: r[11].String,
	}
}

// utcText formats a Postgres timestamp independently of the session's settings.
func utcText(column string) string {
	return "to_char(" + column + ` AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')`
}

// since is the age of a time in seconds, by the database's clock at the beginning
// of the transaction.
func (s *Store) since(column string) string {
	if s.dialect.name == "postgres" {
		return "CAST(extract(epoch FROM now() - " + column + ") AS double precision)"
	}
	return "(julianday('now') - julianday(" + column + ")) * 86400.0"
}

// duration converts the result of since. A time that cannot be read gives the
// longest duration.
func duration(seconds sql.NullFloat64) time.Duration {
	const most = float64(1<<63-1) / float64(time.Second)
	switch {
	case !seconds.Valid || seconds.Float64 >= most:
		return 1<<63 - 1
	case seconds.Float64 <= -most:
		return -(1<<63 - 1)
	}
	return time.Duration(seconds.Float64 * float64(time.Second))
}
