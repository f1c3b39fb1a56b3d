package sqlstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/adapters/sqlstore/textsearch"
	"parley/domain/chat"
	"parley/ports"
)

var _ ports.Search = (*Store)(nil)

const (
	// searchWindow is how many matching messages are ranked together.
	searchWindow = 200
	// searchPage is how many messages are read at once.
	searchPage = 512
)

// Search finds messages and titles. Texts are compared here, not by the database,
// so that both find the same, and what is looked for is in no statement.
func (s *Store) Search(ctx context.Context, user, text string, after *ports.SearchCursor, limit int) (hits []chat.SearchHit, next *ports.SearchCursor, err error) {
	err = s.read(ctx, "search", forUser(user), func(ctx context.Context, db bun.IDB) error {
		search := &search{s: s, db: db, user: user, query: textsearch.Parse(text), limit: max(limit, 1)}
		if !search.query.Empty() {
			err = search.run(ctx, after)
		}
		hits, next = search.hits, search.next
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return hits, next, nil
}

// search is one search under way.
type search struct {
	s     *Store
	db    bun.IDB
	user  string
	query textsearch.Query
	limit int

	hits []chat.SearchHit
	next *ports.SearchCursor
}

// found is a text that matches. Of a message, text is its content.
type found struct {
	hit   chat.SearchHit
	at    ports.Position
	text  string
	score int
}

func (f *search) run(ctx context.Context, after *ports.SearchCursor) error {
	if after == nil {
		after = &ports.SearchCursor{Titles: true}
	}
	if after.Titles {
		titles, err := f.titles(ctx)
		if err != nil {
			return err
		}
		if f.take(titles, *after) {
			return nil
		}
		after = &ports.SearchCursor{}
	}
	for {
		window, end, err := f.window(ctx, after.Begin, after.End)
		if err != nil {
			return err
		}
		at := *after
		at.End = end
		if len(window) > 0 && at.Begin == (ports.Position{}) { // what is written from now on is before it
			at.Begin.At = window[0].at.At.Add(time.Microsecond)
		}
		if f.take(window, at) || end == (ports.Position{}) {
			return nil
		}
		after = &ports.SearchCursor{Begin: end}
		if len(f.hits) == f.limit {
			f.next = after
			return nil
		}
	}
}

// take ranks what was found together, and adds what comes after a cursor to the
// hits. It reports whether there is more of it.
func (f *search) take(list []found, after ports.SearchCursor) (more bool) {
	slices.SortFunc(list, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.score, a.score), comparePositions(b.at, a.at))
	})
	for _, m := range list {
		if after.Last != (ports.Position{}) &&
			cmp.Or(cmp.Compare(after.Score, m.score), comparePositions(after.Last, m.at)) <= 0 {
			continue
		}
		if len(f.hits) == f.limit {
			f.next = &after
			return true
		}
		if m.hit.MessageID != "" {
			m.hit.Snippet, m.hit.SnippetMarks = f.query.Snippet(m.text)
		}
		m.hit.TitleMarks = f.query.Marks(m.hit.Title)
		f.hits = append(f.hits, m.hit)
		after.Score, after.Last = m.score, m.at
	}
	return false
}

func comparePositions(a, b ports.Position) int {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID))
}

// titles finds the conversations whose title matches.
func (f *search) titles(ctx context.Context) (list []found, err error) {
	err = f.s.pipe.Exec(ctx, f.db, stmt(`SELECT c.id, c.title, c.created_at FROM chat_conversations AS c
		WHERE c.user_id = ? AND c.title IS NOT NULL AND c.expires_at IS NULL`, f.user,
	).ScanRow(func(scan func(...any) error) error {
		var hit chat.SearchHit
		if err := scan(&hit.ConversationID, &hit.Title, rows.NullTime{Dest: &hit.CreatedAt}); err != nil {
			return err
		}
		if score := f.query.Score(textsearch.Fold(hit.Title)); score > 0 {
			list = append(list, found{hit: hit, at: ports.Position{At: hit.CreatedAt, ID: hit.ConversationID}, score: score})
		}
		return nil
	}))
	return list, err
}

// window finds the newest messages that match, before begin if it is not zero: as
// many as are ranked together or, if end is not zero, those that are not before
// it. end is then zero if there are no more.
func (f *search) window(ctx context.Context, begin, end ports.Position) (list []found, last ports.Position, err error) {
	for {
		page, err := f.page(ctx, begin, end)
		if err != nil {
			return nil, last, err
		}
		for _, m := range page {
			if m.score = f.query.Score(textsearch.Fold(m.text)); m.score == 0 {
				continue
			}
			if list = append(list, m); len(list) == searchWindow && end == (ports.Position{}) {
				return list, m.at, nil
			}
		}
		if len(page) < searchPage {
			return list, end, nil
		}
		begin = page[len(page)-1].at
	}
}

// page reads messages before begin and not before end, newest first.
func (f *search) page(ctx context.Context, begin, end ports.Position) (list []found, err error) {
	bounds := stmt("TRUE")
	if begin != (ports.Position{}) {
		bounds = stmt("(m.created_at, m.id) < (?, ?)", rows.Time(begin.At), begin.ID)
	}
	if end != (ports.Position{}) {
		bounds = stmt("? AND (m.created_at, m.id) >= (?, ?)", bounds, rows.Time(end.At), end.ID)
	}
	err = f.s.pipe.Exec(ctx, f.db, f.messages(stmt("? ORDER BY m.created_at DESC, m.id DESC LIMIT ?", bounds, searchPage), func(m found) { list = append(list, m) }))
	return list, err
}

// messages reads the messages for which a condition holds, without those of
// temporary conversations.
func (f *search) messages(which pipeline.Stmt, each func(found)) pipeline.Stmt {
	return stmt(`SELECT m.id, m.conversation_id, m.role, m.content, m.created_at, c.title
		FROM chat_messages AS m LEFT JOIN chat_conversations AS c ON c.user_id = m.user_id AND c.id = m.conversation_id
		WHERE m.user_id = ? AND c.expires_at IS NULL AND ?`, f.user, which,
	).ScanRow(func(scan func(...any) error) error {
		var m found
		err := scan(&m.hit.MessageID, rows.NullText{Dest: &m.hit.ConversationID}, (*string)(&m.hit.Role), &m.text,
			rows.NullTime{Dest: &m.hit.CreatedAt}, rows.NullText{Dest: &m.hit.Title})
		m.at = ports.Position{At: m.hit.CreatedAt, ID: m.hit.MessageID}
		each(m)
		return err
	})
}
