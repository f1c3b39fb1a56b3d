package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

var (
	_ ports.Files     = (*Store)(nil)
	_ ports.FileSweep = (*Store)(nil)
)

// BeginUpload stores a file as uploading. The user's row is locked, so that the
// quota holds for uploads at the same time.
func (s *Store) BeginUpload(ctx context.Context, f chat.File, quota ports.FileQuota) error {
	if f.UserID == "" {
		return fault.New(fault.Unauthenticated, "Authentication required")
	}
	return s.write(ctx, "begin_upload", forUser(f.UserID), func(ctx context.Context, tx bun.IDB) error {
		if err := s.lockUser(ctx, tx, f.UserID, f.CreatedAt); err != nil {
			return err
		}
		if err := checkQuota(ctx, tx, f, quota); err != nil {
			return err
		}
		f.State = chat.FileUploading
		row := rows.FromFile(f)
		_, err := tx.NewInsert().Model(&row).Exec(ctx)
		if sqlState(err) == "23505" {
			return fault.Wrap(redact(err), fault.Conflict, "A file with this ID exists already")
		}
		return err
	})
}

// EndUpload makes a file ready.
func (s *Store) EndUpload(ctx context.Context, f chat.File, quota ports.FileQuota, entry audit.Entry) error {
	return s.write(ctx, "end_upload", forUser(f.UserID), func(ctx context.Context, tx bun.IDB) error {
		if err := s.lockUser(ctx, tx, f.UserID, f.CreatedAt); err != nil {
			return err
		}
		if err := checkQuota(ctx, tx, f, quota); err != nil {
			return err
		}
		done, err := tx.NewRaw(`UPDATE chat_files SET state = ?, name = ?, media_type = ?, size = ?, digest = ?
			WHERE user_id = ? AND id = ? AND blob = ? AND state = ?`,
			chat.FileReady, f.Name, f.MediaType, f.Size, f.Digest, f.UserID, f.ID, f.Blob, chat.FileUploading).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return chat.FileNotFound()
		}
		return insertEntries(ctx, tx, owned(entry, f.UserID))
	})
}

// checkQuota calls quota with the bytes of a user's other files.
func checkQuota(ctx context.Context, tx bun.IDB, f chat.File, quota ports.FileQuota) error {
	used, err := fileBytes(ctx, tx, f.UserID, f.ID)
	if err != nil {
		return err
	}
	return quota(used)
}

// fileBytes adds up a user's files, but for one.
func fileBytes(ctx context.Context, db bun.IDB, user, except string) (used int64, err error) {
	err = db.QueryRowContext(ctx, "SELECT coalesce(sum(size), 0) FROM chat_files WHERE user_id = ? AND id <> ? AND state IN (?, ?)",
		user, except, chat.FileUploading, chat.FileReady).Scan(&used)
	return used, err
}

// CancelUpload marks an upload that is going on as deleted.
func (s *Store) CancelUpload(ctx context.Context, f chat.File) error {
	return s.write(ctx, "cancel_upload", forUser(f.UserID), func(ctx context.Context, tx bun.IDB) error {
		_, err := tx.NewRaw("UPDATE chat_files SET state = ? WHERE user_id = ? AND id = ? AND blob = ? AND state = ?",
			chat.FileDeleted, f.UserID, f.ID, f.Blob, chat.FileUploading).Exec(ctx)
		return err
	})
}

// File returns a file in any state but deleted.
func (s *Store) File(ctx context.Context, user, id string) (f chat.File, err error) {
	err = s.read(ctx, "file", forUser(user), func(ctx context.Context, db bun.IDB) error {
		var row rows.File
		err := db.NewSelect().Model(&row).Where("user_id = ? AND id = ? AND state <> ?", user, id, chat.FileDeleted).Scan(ctx)
		f = row.Domain()
		return mapNoRows(err, chat.FileNotFound())
	})
	return f, err
}

// FilesOf lists a user's ready files, newest first.
func (s *Store) FilesOf(ctx context.Context, user string, page ports.Page) (list []chat.File, more bool, err error) {
	err = s.readReplicated(ctx, "files", forUser(user), func(ctx context.Context, db bun.IDB) error {
		list = nil
		bounds, order := pageClause(page, "f.created_at", "f.id")
		var found []rows.File
		err := db.NewRaw("SELECT f.* FROM chat_files AS f WHERE f.user_id = ? AND f.state = ? AND ? ?", user, chat.FileReady, bounds, order).
			Scan(ctx, &found)
		if err != nil {
			return err
		}
		for _, row := range found {
			list = append(list, row.Domain())
		}
		list, more = trimPage(list, page)
		return nil
	})
	return list, more, err
}

// DeleteFile marks a file as deleted and ends the references to it.
func (s *Store) DeleteFile(ctx context.Context, user, id string, entry audit.Entry) (f chat.File, err error) {
	err = s.write(ctx, "delete_file", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		var row rows.File
		err := tx.NewRaw("UPDATE chat_files SET state = ? WHERE user_id = ? AND id = ? AND state <> ? RETURNING *",
			chat.FileDeleted, user, id, chat.FileDeleted).Scan(ctx, &row)
		if err != nil {
			return mapNoRows(err, chat.FileNotFound())
		}
		f = row.Domain()
		if _, err := tx.NewRaw("DELETE FROM chat_message_files WHERE user_id = ? AND file_id = ?", user, id).Exec(ctx); err != nil {
			return err
		}
		return insertEntries(ctx, tx, owned(entry, user))
	})
	return f, err
}

// FileBytes returns how many bytes a user's files have.
func (s *Store) FileBytes(ctx context.Context, user string) (used int64, err error) {
	err = s.read(ctx, "file_bytes", forUser(user), func(ctx context.Context, db bun.IDB) error {
		used, err = fileBytes(ctx, db, user, "")
		return err
	})
	return used, err
}

// ExpireFiles marks files as deleted that were created before a moment and to
// which no message has referred.
func (s *Store) ExpireFiles(ctx context.Context, before time.Time, n int, entry func(chat.File) audit.Entry) (gone int, err error) {
	err = s.write(ctx, "expire_files", allUsers, func(ctx context.Context, tx bun.IDB) error {
		var found []rows.File
		err := tx.NewRaw("SELECT f.* FROM chat_files AS f WHERE f.referenced_at IS NULL AND f.state <> ? AND f.created_at < ? ORDER BY f.created_at LIMIT ?"+s.dialect.skipLocked,
			chat.FileDeleted, rows.Time(before), n).Scan(ctx, &found)
		gone = len(found)
		if err != nil || gone == 0 {
			return err
		}
		var entries []audit.Entry
		for _, row := range found {
			_, err := tx.NewRaw("UPDATE chat_files SET state = ? WHERE user_id = ? AND id = ?", chat.FileDeleted, row.UserID, row.ID).Exec(ctx)
			if err != nil {
				return err
			}
			entries = append(entries, owned(entry(row.Domain()), row.UserID))
		}
		return insertEntries(ctx, tx, entries...)
	})
	return gone, err
}

// DeletedFiles lists files that are marked as deleted.
func (s *Store) DeletedFiles(ctx context.Context, n int) (list []chat.File, err error) {
	return s.findFiles(ctx, "deleted_files", func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("state = ?", chat.FileDeleted).Order("created_at").Limit(int64(n))
	})
}

// FilesByBlob lists files by their keys in the blob store.
func (s *Store) FilesByBlob(ctx context.Context, after, end string, n int) (list []chat.File, err error) {
	return s.findFiles(ctx, "files_by_blob", func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("blob > ? AND blob < ?", after, end).Order("blob").Limit(int64(n))
	})
}

func (s *Store) findFiles(ctx context.Context, name string, which func(*bun.SelectQuery) *bun.SelectQuery) (list []chat.File, err error) {
	err = s.read(ctx, name, allUsers, func(ctx context.Context, db bun.IDB) error {
		list = nil
		var found []rows.File
		if err := db.NewSelect().Model(&found).Apply(which).Scan(ctx); err != nil {
			return err
		}
		for _, row := range found {
			list = append(list, row.Domain())
		}
		return nil
	})
	return list, err
}

// ForgetFile removes a file that is marked as deleted.
func (s *Store) ForgetFile(ctx context.Context, f chat.File) error {
	return s.write(ctx, "forget_file", forUser(f.UserID), func(ctx context.Context, tx bun.IDB) error {
		_, err := tx.NewRaw("DELETE FROM chat_files WHERE user_id = ? AND id = ? AND blob = ? AND state = ?",
			f.UserID, f.ID, f.Blob, chat.FileDeleted).Exec(ctx)
		return err
	})
}

// SetFileLost turns a ready file into a lost one, or a lost one into a ready one.
func (s *Store) SetFileLost(ctx context.Context, f chat.File, lost bool) error {
	from, to := chat.FileLost, chat.FileReady
	if lost {
		from, to = to, from
	}
	return s.write(ctx, "set_file_lost", forUser(f.UserID), func(ctx context.Context, tx bun.IDB) error {
		_, err := tx.NewRaw("UPDATE chat_files SET state = ? WHERE user_id = ? AND id = ? AND blob = ? AND state = ?",
			to, f.UserID, f.ID, f.Blob, from).Exec(ctx)
		return err
	})
}
