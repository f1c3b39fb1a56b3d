package sqlstore

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/adapters/sqlstore/textsearch"
	"parley/ports"
)

var _ ports.SearchIndex = (*Store)(nil)

const (
	// searchSettled is how old messages are that go into a segment. A trigger notes
	// those that are stored later than ten minutes after their time; what is stored
	// until then has been committed long before.
	searchSettled = time.Hour
	// searchLock is the class of the advisory locks of those who write segments.
	searchLock = 0x73656172
	// idsPerChunk is how many ids of messages are kept together.
	idsPerChunk = 64
	// searchSample: one of so many ends of runs has its user's index looked after.
	searchSample = 64
)

// SearchDue yields users whose index may lack a segment.
func (s *Store) SearchDue() <-chan string { return s.searchDue }

// noteSearchDue has the index of a user looked after, unless many wait already.
func (s *Store) noteSearchDue(user string) {
	select {
	case s.searchDue <- user:
	default:
	}
}

// sampleSearchDue is noteSearchDue for some ends of runs.
func (s *Store) sampleSearchDue(user, run string) {
	h := fnv.New32a()
	h.Write([]byte(run))
	if h.Sum32()%searchSample == 0 {
		s.noteSearchDue(user)
	}
}

// DirtySearch lists users of whose index something has been deleted.
func (s *Store) DirtySearch(ctx context.Context, n int) (users []string, err error) {
	err = s.read(ctx, "dirty_search", allUsers, func(ctx context.Context, db bun.IDB) error {
		users = nil
		return db.NewRaw("SELECT DISTINCT user_id FROM chat_search_segments WHERE dirty LIMIT ?", n).Scan(ctx, &users)
	})
	return users, err
}

// IndexSome does one step for the index of a user: it rebuilds a segment of which
// messages were deleted, removes the last one if a message was stored that belongs
// before its end, or adds one. more is false when there is nothing to do.
func (s *Store) IndexSome(ctx context.Context, user string) (more bool, err error) {
	err = s.write(ctx, "index_some", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		more = true
		if s.dialect.name == "postgres" {
			if _, err := tx.NewRaw("SELECT pg_advisory_xact_lock(?, hashtext(?))", searchLock, user).Exec(ctx); err != nil {
				return err
			}
		}
		var dirty, last []rows.SearchSegment
		segments := func(into *[]rows.SearchSegment, which string) pipeline.Stmt {
			return stmt("SELECT segment, version, begin_at, end_at, end_id FROM chat_search_segments WHERE user_id = ? "+which+" LIMIT 1", user).ScanRow(func(scan func(...any) error) error {
				var row rows.SearchSegment
				err := scan(&row.Segment, &row.Version, rows.NullTime{Dest: &row.BeginAt}, rows.NullTime{Dest: &row.EndAt}, &row.EndID)
				*into = append(*into, row)
				return err
			})
		}
		if err := s.pipe.Exec(ctx, tx, segments(&dirty, "AND dirty"), segments(&last, "ORDER BY segment DESC")); err != nil {
			return err
		}
		if len(dirty) > 0 {
			return s.rebuildSegment(ctx, tx, user, dirty[0])
		}
		next := rows.SearchSegment{UserID: user}
		if len(last) > 0 {
			next.Segment, next.EndAt, next.EndID = last[0].Segment+1, last[0].EndAt, last[0].EndID
			late := false
			err := s.pipe.Exec(ctx, tx, stmt(`SELECT 1 FROM chat_search_late AS sl WHERE sl.user_id = ? AND EXISTS (SELECT 1 FROM chat_messages AS m
				WHERE m.user_id = sl.user_id AND m.id = sl.message_id AND (m.created_at, m.id) <= (?, ?) LIMIT 1 OFFSET 0) LIMIT 1`, user, rows.Time(next.EndAt), next.EndID,
			).ScanRow(func(func(...any) error) error { late = true; return nil }))
			if err != nil {
				return err
			}
			if late {
				_, err := tx.NewRaw("DELETE FROM chat_search_segments WHERE user_id = ? AND segment = ?", user, last[0].Segment).Exec(ctx)
				return err
			}
		}
		after := stmt("TRUE")
		if len(last) > 0 {
			after = stmt("(m.created_at, m.id) > (?, ?)", rows.Time(next.EndAt), next.EndID)
		}
		list, err := s.indexed(ctx, tx, user, stmt("? AND m.created_at < ?", after, s.dialect.clock(-searchSettled)))
		if err != nil {
			return err
		}
		if more = len(list) == textsearch.SegmentSize; !more {
			return nil
		}
		return s.insertSegment(ctx, tx, next, list)
	})
	return more, err
}

// indexedMessage is what a segment knows of a message.
type indexedMessage struct {
	id, content string
	at          time.Time
}

// indexed reads the messages of a segment. They are locked against deletion, so
// that one either waits for the segment, and notes that it is dirty, or is seen.
func (s *Store) indexed(ctx context.Context, tx bun.IDB, user string, which pipeline.Stmt) (list []indexedMessage, err error) {
	lock := ""
	if s.dialect.name == "postgres" {
		lock = " FOR KEY SHARE OF m"
	}
	err = s.pipe.Exec(ctx, tx, stmt("SELECT m.id, m.content, m.created_at FROM chat_messages AS m WHERE m.user_id = ? AND ? ORDER BY m.created_at, m.id LIMIT ?"+lock,
		user, which, textsearch.SegmentSize,
	).ScanRow(func(scan func(...any) error) error {
		var m indexedMessage
		err := scan(&m.id, &m.content, rows.NullTime{Dest: &m.at})
		list = append(list, m)
		return err
	}))
	return list, err
}

// insertSegment writes a segment, and forgets that its messages were late.
func (s *Store) insertSegment(ctx context.Context, tx bun.IDB, segment rows.SearchSegment, list []indexedMessage) error {
	first, last := list[0], list[len(list)-1]
	segment.BeginAt, segment.EndAt, segment.EndID = first.at, last.at, last.id
	if _, err := tx.NewInsert().Model(&segment).Exec(ctx); err != nil {
		return err
	}
	return s.insertBuckets(ctx, tx, segment, list)
}

func (s *Store) insertBuckets(ctx context.Context, tx bun.IDB, segment rows.SearchSegment, list []indexedMessage) error {
	texts, ids := make([]string, len(list)), make([]string, len(list))
	for i, m := range list {
		texts[i], ids[i] = m.content, m.id
	}
	var buckets []rows.SearchBucket
	add := func(bucket int, content []byte) {
		buckets = append(buckets, rows.SearchBucket{UserID: segment.UserID, Segment: segment.Segment, Bucket: bucket, Content: content})
	}
	for chunk := 0; chunk*idsPerChunk < len(ids); chunk++ {
		add(-1-chunk, []byte(jsonText(ids[chunk*idsPerChunk:min((chunk+1)*idsPerChunk, len(ids))])))
	}
	for bucket, content := range textsearch.Build(texts) {
		add(bucket, content)
	}
	for len(buckets) > 0 {
		some := buckets[:min(256, len(buckets))]
		if _, err := tx.NewInsert().Model(&some).Exec(ctx); err != nil {
			return err
		}
		buckets = buckets[len(some):]
	}
	return s.pipe.Exec(ctx, tx, stmt("DELETE FROM chat_search_late WHERE user_id = ? AND message_id IN ("+s.dialect.elements+")", segment.UserID, jsonText(ids)))
}

// rebuildSegment writes a segment anew from the messages that are left of it. Its
// bounds stay, since what is outside of them is in other segments.
func (s *Store) rebuildSegment(ctx context.Context, tx bun.IDB, user string, segment rows.SearchSegment) error {
	segment.UserID = user
	var ids []string
	err := s.pipe.Exec(ctx, tx, stmt("SELECT content FROM chat_search_buckets WHERE user_id = ? AND segment = ? AND bucket < 0", user, segment.Segment).ScanRow(func(scan func(...any) error) error {
		var chunk []byte
		if err := scan(&chunk); err != nil {
			return err
		}
		var some []string
		err := json.Unmarshal(chunk, &some)
		ids = append(ids, some...)
		return err
	}))
	if err != nil {
		return err
	}
	list, err := s.indexed(ctx, tx, user, stmt("m.id IN ("+s.dialect.elements+")", jsonText(ids)))
	if err != nil {
		return err
	}
	for _, q := range []string{
		"DELETE FROM chat_search_buckets WHERE user_id = ? AND segment = ?",
		"UPDATE chat_search_segments SET dirty = FALSE, version = version + 1 WHERE user_id = ? AND segment = ?",
	} {
		if _, err := tx.NewRaw(q, user, segment.Segment).Exec(ctx); err != nil {
			return err
		}
	}
	return s.insertBuckets(ctx, tx, segment, list)
}
