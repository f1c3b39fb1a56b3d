package sqlstore

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/adapters/sqlstore/textsearch"
	"parley/domain/chat"
	"parley/domain/fault"
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
	err = s.readReplicated(ctx, "search", forUser(user), func(ctx context.Context, db bun.IDB) error {
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
// it. last is the position of the last one, or zero if there are no more. The
// index may be changed between two statements, so that the whole is done again if
// it was.
func (f *search) window(ctx context.Context, begin, end ports.Position) (list []found, last ports.Position, err error) {
	for range maxLoads {
		index, err := f.index(ctx)
		if err != nil {
			return nil, last, err
		}
		w := &searchPart{search: f, index: index, begin: begin, end: end, last: end}
		if err := w.collect(ctx); err != nil {
			return nil, last, err
		}
		if len(index) == 0 {
			return w.list, w.last, nil
		}
		after, err := f.index(ctx)
		if err != nil {
			return nil, last, err
		}
		if index.unchanged(after) {
			return w.list, w.last, nil
		}
	}
	return nil, last, fault.New(fault.Unavailable, "The search index is being changed; please try again").After(time.Second)
}

// searchSegments are the segments of a user's index, the newest first.
type searchSegments []rows.SearchSegment

// index reads which segments there are.
func (f *search) index(ctx context.Context) (list searchSegments, err error) {
	err = f.s.pipe.Exec(ctx, f.db, stmt(`SELECT segment, version, begin_at, end_at, end_id FROM chat_search_segments WHERE user_id = ? ORDER BY segment DESC`, f.user).
		ScanRow(func(scan func(...any) error) error {
			var row rows.SearchSegment
			err := scan(&row.Segment, &row.Version, rows.NullTime{Dest: &row.BeginAt}, rows.NullTime{Dest: &row.EndAt}, &row.EndID)
			list = append(list, row)
			return err
		}))
	return list, err
}

// unchanged reports whether all segments are there as they were, but for new ones.
func (s searchSegments) unchanged(after searchSegments) bool {
	added := len(after) - len(s)
	return added >= 0 && slices.EqualFunc(s, after[added:], func(a, b rows.SearchSegment) bool {
		return a.Segment == b.Segment && a.Version == b.Version && a.BeginAt.Equal(b.BeginAt)
	})
}

// searchPart collects the messages that are ranked together.
type searchPart struct {
	*search
	index            searchSegments
	begin, end, last ports.Position
	list             []found
}

// collect looks at the messages behind the last segment one by one, and then at
// those that the index names.
func (w *searchPart) collect(ctx context.Context) error {
	for begin, pages := w.begin, 0; ; pages++ {
		page, err := w.page(ctx, begin)
		if err != nil {
			return err
		}
		if pages*searchPage > 2*textsearch.SegmentSize {
			w.s.noteSearchDue(w.user)
		}
		if w.add(page) {
			return nil
		}
		if len(page) < searchPage {
			break
		}
		begin = page[len(page)-1].at
	}
	if len(w.index) == 0 {
		return nil
	}
	late, err := w.late(ctx)
	if err != nil {
		return err
	}
	grams := w.query.Grams(searchGrams)
	for from, n := 0, 4; from < len(w.index); from, n = from+n, 4*n {
		full, err := w.segments(ctx, w.index[from:min(from+n, len(w.index))], grams)
		if err != nil {
			return err
		}
		if full {
			break
		}
	}
	for _, m := range late {
		if m.score = w.query.Score(textsearch.Fold(m.text)); m.score > 0 && comparePositions(m.at, w.last) >= 0 {
			w.list = append(w.list, m)
		}
	}
	return nil
}

// add adds those that match. It reports whether enough have been found.
func (w *searchPart) add(list []found) (full bool) {
	for _, m := range list {
		if m.score = w.query.Score(textsearch.Fold(m.text)); m.score == 0 {
			continue
		}
		if w.list = append(w.list, m); len(w.list) == searchWindow && w.end == (ports.Position{}) {
			w.last = m.at
			return true
		}
	}
	return false
}

// bounds restricts messages to those before begin and not before the end.
func (w *searchPart) bounds(begin ports.Position) pipeline.Stmt {
	bounds := stmt("TRUE")
	if begin != (ports.Position{}) {
		bounds = stmt("(m.created_at, m.id) < (?, ?)", rows.Time(begin.At), begin.ID)
	}
	if w.end != (ports.Position{}) {
		bounds = stmt("? AND (m.created_at, m.id) >= (?, ?)", bounds, rows.Time(w.end.At), w.end.ID)
	}
	return bounds
}

// page reads messages behind the last segment, newest first.
func (w *searchPart) page(ctx context.Context, begin ports.Position) (list []found, err error) {
	bounds := w.bounds(begin)
	if len(w.index) > 0 {
		bounds = stmt("? AND (m.created_at, m.id) > (?, ?)", bounds, rows.Time(w.index[0].EndAt), w.index[0].EndID)
	}
	return w.read(ctx, stmt("? ORDER BY m.created_at DESC, m.id DESC LIMIT ?", bounds, searchPage))
}

// late reads messages that were stored when those after them had a segment already.
func (w *searchPart) late(ctx context.Context) ([]found, error) {
	// Their ids are read first: joined, PostgreSQL would read all messages of a user
	// whose late ones it has no statistics of.
	var ids []string
	err := w.s.pipe.Exec(ctx, w.db, stmt("SELECT message_id FROM chat_search_late WHERE user_id = ?", w.user).ScanRow(func(scan func(...any) error) error {
		ids = append(ids, "")
		return scan(&ids[len(ids)-1])
	}))
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return w.read(ctx, stmt("? AND (m.created_at, m.id) <= (?, ?) AND m.id IN ("+w.s.dialect.elements+")",
		w.bounds(w.begin), rows.Time(w.index[0].EndAt), w.index[0].EndID, jsonText(ids)))
}

func (w *searchPart) read(ctx context.Context, which pipeline.Stmt) (list []found, err error) {
	err = w.s.pipe.Exec(ctx, w.db, w.messages(which, func(m found) { list = append(list, m) }))
	return list, err
}

// segments finds messages by the index, newest first.
func (w *searchPart) segments(ctx context.Context, index searchSegments, grams []textsearch.Gram) (full bool, err error) {
	candidates, err := w.candidates(ctx, index, grams)
	if err != nil {
		return false, err
	}
	for len(candidates) > 0 && !full {
		some := candidates[:min(searchPage/2, len(candidates))]
		candidates = candidates[len(some):]
		ids, err := w.ids(ctx, some)
		if err != nil {
			return false, err
		}
		list, err := w.read(ctx, stmt("? AND m.id IN ("+w.s.dialect.elements+") ORDER BY m.created_at DESC, m.id DESC", w.bounds(w.begin), jsonText(ids)))
		if err != nil {
			return false, err
		}
		full = w.add(list)
	}
	return full, nil
}

// searchGrams is how many grams are looked up: the statement has so many columns.
const searchGrams = 6

// document is a message of a segment.
type document struct{ segment, doc int }

// candidates returns which messages of some segments have all grams.
func (w *searchPart) candidates(ctx context.Context, index searchSegments, grams []textsearch.Gram) (list []document, err error) {
	newest, oldest := index[0].Segment, index[len(index)-1].Segment
	args := make([]any, 0, 2*searchGrams+3)
	for i := range searchGrams {
		bucket := -1 << 30 // there is none
		if i < len(grams) {
			bucket = grams[i].Bucket()
		}
		args = append(args, w.user, bucket)
	}
	err = w.s.pipe.Exec(ctx, w.db, stmt(selectBucketsText, append(args, w.user, oldest, newest)...).ScanRow(func(scan func(...any) error) error {
		var segment int
		var content [searchGrams][]byte
		dests := []any{&segment}
		for i := range content {
			dests = append(dests, &content[i])
		}
		if err := scan(dests...); err != nil {
			return err
		}
		var docs textsearch.Docs
		for i, g := range grams {
			has, err := textsearch.Lookup(content[i], g)
			if err != nil {
				return err
			}
			if i == 0 {
				docs = has
			} else if !docs.And(has) {
				return nil
			}
		}
		docs.Descending(func(doc int) { list = append(list, document{segment, doc}) })
		return nil
	}))
	return list, err
}

// selectBucketsText reads a few buckets of each segment, by the primary key.
var selectBucketsText = "SELECT ss.segment" + strings.Repeat(`,
		(SELECT sb.content FROM chat_search_buckets AS sb WHERE sb.user_id = ? AND sb.segment = ss.segment AND sb.bucket = ?)`, searchGrams) + `
	FROM chat_search_segments AS ss WHERE ss.user_id = ? AND ss.segment BETWEEN ? AND ? ORDER BY ss.segment DESC`

// ids returns the ids of messages of segments.
func (w *searchPart) ids(ctx context.Context, list []document) (ids []string, err error) {
	wanted := map[document][]int{} // the places of messages in their chunks
	var keys []string
	for _, d := range list {
		chunk := document{d.segment, -1 - d.doc/idsPerChunk}
		if wanted[chunk] == nil {
			keys = append(keys, fmt.Sprintf("(%d, %d)", chunk.segment, chunk.doc))
		}
		wanted[chunk] = append(wanted[chunk], d.doc%idsPerChunk)
	}
	found, err := w.db.QueryContext(ctx, w.s.db.QueryGen().FormatQuery(`SELECT sb.segment, sb.bucket, sb.content FROM chat_search_buckets AS sb
		WHERE sb.user_id = ? AND (sb.segment, sb.bucket) IN (VALUES ?)`, w.user, bun.Safe(strings.Join(keys, ", "))))
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var chunk document
		var content []byte
		if err := found.Scan(&chunk.segment, &chunk.doc, &content); err != nil {
			return nil, err
		}
		var all []string
		if err := json.Unmarshal(content, &all); err != nil {
			return nil, err
		}
		for _, place := range wanted[chunk] {
			if place < len(all) {
				ids = append(ids, all[place])
			}
		}
	}
	return ids, found.Err()
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
