package prisma

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/domain/chat"
	"parley/ports"
)

var _ ports.ImportSource = (*Source)(nil)

// A page has at most so many rows, and ends after the row that reaches so many
// bytes of text.
const (
	pageRows  = 1000
	pageBytes = 8 << 20
	keyRows   = 5000
	// maxMetadata is the longest metadata that is read, in bytes of JSON.
	maxMetadata = 256 << 10
)

// Conversations implements ports.ImportSource.
func (s *Source) Conversations(ctx context.Context) iter.Seq2[chat.SourceConversation, error] {
	t := s.conversations
	keys := t.keyset("c", "id")
	query := fmt.Sprintf(`SELECT %s, %s, %s, %s, %s, %s, %s, %s FROM %s AS c WHERE %%s ORDER BY %s LIMIT %d`,
		keys.position(), t.text("c", "id"), t.text("c", "userId"), t.text("c", "title"),
		t.micros("c", "lastMessageAt"), t.micros("c", "createdAt"), t.micros("c", "updatedAt"), t.isDeleted("c"), t.name, keys.order(), pageRows)
	return pages(ctx, s, keys, query, func(row pgx.Rows, position []any) (c chat.SourceConversation, err error) {
		var last, created, updated *int64
		err = row.Scan(append(position, &c.ID, &c.UserID, &c.Title, &last, &created, &updated, &c.Deleted)...)
		c.LastMessageAt, c.CreatedAt, c.UpdatedAt = fromMicros(last), fromMicros(created), fromMicros(updated)
		return c, err
	})
}

// Messages implements ports.ImportSource. A page is bounded by bytes before any
// text is read: the size of a stored value is known without it.
func (s *Source) Messages(ctx context.Context) iter.Seq2[chat.SourceMessage, error] {
	t, c := s.messages, s.conversations
	order := []string{"userId", "createdAt", "id"}
	content := "a." + t.columns["content"].name + "::text"
	rows := fmt.Sprintf("SELECT a.*, %s AS content_text, COALESCE(octet_length(%s), 0) AS content_bytes FROM %s AS a WHERE %%s ORDER BY %s LIMIT %d",
		content, content, t.name, t.keyset("a", order...).order(), pageRows)
	sized := fmt.Sprintf("SELECT b.*, sum(LEAST(b.content_bytes, %[1]d)) OVER (ORDER BY %[2]s) - LEAST(b.content_bytes, %[1]d) AS bytes_before FROM (%[3]s) AS b",
		chat.MaxImported, t.keyset("b", order...).order(), rows)
	metadata := t.column("m", "metadata") + "::text"
	keys := t.keyset("m", order...)
	query := "SELECT " + strings.Join([]string{
		keys.position(), t.text("m", "id"), t.text("m", "userId"), t.text("m", "conversationId"), c.text("c", "userId"), c.isDeleted("c"), t.text("m", "role"),
		fmt.Sprintf("CASE WHEN m.content_bytes <= %d THEN COALESCE(m.content_text, '') ELSE '' END", chat.MaxImported), "m.content_text IS NULL", "m.content_bytes",
		fmt.Sprintf("CASE WHEN octet_length(%s) <= %d THEN %s END", metadata, maxMetadata, metadata),
		fmt.Sprintf("COALESCE(octet_length(%s) > %d, false)", metadata, maxMetadata), t.micros("m", "createdAt"), t.isDeleted("m"),
	}, ", ") + " FROM (" + sized + ") AS m LEFT JOIN " + c.name + " AS c ON " + equal(c, "c", "id", t, "m", "conversationId") +
		fmt.Sprintf(" WHERE m.bytes_before < %d ORDER BY %s", pageBytes, keys.order())
	return pages(ctx, s, t.keyset("a", order...), query, func(row pgx.Rows, position []any) (m chat.SourceMessage, err error) {
		var metadata *string
		var created *int64
		err = row.Scan(append(position, &m.ID, &m.UserID, &m.ConversationID, &m.ConversationOwner, &m.ConversationDeleted, &m.Role,
			&m.Content, &m.ContentNull, &m.ContentBytes, &metadata, &m.MetadataTooLarge, &created, &m.Deleted)...)
		if metadata != nil {
			m.Metadata = []byte(*metadata)
		}
		m.CreatedAt = fromMicros(created)
		return m, err
	})
}

// ConversationKeys implements ports.ImportSource.
func (s *Source) ConversationKeys(ctx context.Context) iter.Seq2[chat.UserKey, error] {
	return s.keys(ctx, s.conversations)
}

// MessageKeys implements ports.ImportSource.
func (s *Source) MessageKeys(ctx context.Context) iter.Seq2[chat.UserKey, error] {
	return s.keys(ctx, s.messages)
}

func (s *Source) keys(ctx context.Context, t table) iter.Seq2[chat.UserKey, error] {
	keys := t.keyset("k", "id")
	query := fmt.Sprintf(`SELECT %s, %s, %s FROM %s AS k WHERE %%s ORDER BY %s LIMIT %d`,
		keys.position(), t.text("k", "userId"), t.text("k", "id"), t.name, keys.order(), keyRows)
	return pages(ctx, s, keys, query, func(row pgx.Rows, position []any) (k chat.UserKey, err error) {
		err = row.Scan(append(position, &k.UserID, &k.ID)...)
		return k, err
	})
}

// pages yields the rows of a query page by page: query has a place for the
// condition of rows behind a position, and its first columns are the position of
// the row.
func pages[T any](ctx context.Context, s *Source, keys keyset, query string, scan func(row pgx.Rows, position []any) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var position []string
		for {
			var page []T
			err := s.inTx(ctx, func(tx pgx.Tx) error {
				args := make([]any, len(position))
				for i, value := range position {
					args[i] = value
				}
				found, err := tx.Query(ctx, fmt.Sprintf(query, keys.behind(position)), args...)
				if err != nil {
					return err
				}
				defer found.Close()
				for found.Next() {
					position = make([]string, len(keys))
					dests := make([]any, len(position))
					for i := range position {
						dests[i] = &position[i]
					}
					row, err := scan(found, dests)
					if err != nil {
						return err
					}
					page = append(page, row)
				}
				return found.Err()
			})
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			if len(page) == 0 {
				return
			}
			for _, row := range page {
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

func fromMicros(us *int64) time.Time {
	if us == nil {
		return time.Time{}
	}
	return time.UnixMicro(*us).UTC()
}
