package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

var _ ports.Shares = (*Store)(nil)

// CreateShare stores a share. The user's row is locked, so that the bound on the
// number of shares holds for requests at the same time.
func (s *Store) CreateShare(ctx context.Context, share chat.Share, check func(count int) error, auditEntry audit.Entry) error {
	return s.write(ctx, "create_share", forUser(share.UserID), func(ctx context.Context, tx bun.IDB) error {
		if err := s.lockUser(ctx, tx, share.UserID, share.CreatedAt); err != nil {
			return err
		}
		if _, err := s.selectConversation(ctx, tx, share.UserID, share.ConversationID); err != nil {
			return err
		}
		count := 0
		err := s.pipe.Exec(ctx, tx, sharesWhere(share.UserID, stmt("sh.conversation_id = ?", share.ConversationID), share.CreatedAt, func(chat.Share) { count++ }))
		if err == nil {
			err = check(count)
		}
		if err != nil {
			return err
		}
		row := rows.FromShare(share)
		entry, err := rows.FromEntry(owned(auditEntry, share.UserID))
		if err != nil {
			return err
		}
		return s.pipe.ExecTextAndCommit(ctx, tx, tx.NewInsert().Model(&row), tx.NewInsert().Model(&entry))
	})
}

// ShareSource reads what a share is made of.
func (s *Store) ShareSource(ctx context.Context, user, conversation, leaf string, n int) (c chat.Conversation, branch []chat.Message, err error) {
	err = s.read(ctx, "share_source", forUser(user), func(ctx context.Context, db bun.IDB) error {
		row, err := s.selectConversation(ctx, db, user, conversation)
		if err != nil {
			return err
		}
		c, branch = row.Domain(), nil
		end := leaf
		if end == "current" {
			end = c.LeafID
		}
		if end != "" {
			branch, err = s.loadBranch(ctx, db, user, conversation, end, n)
		}
		if err == nil && len(branch) == 0 && leaf != "current" {
			err = chat.MessageNotFound()
		}
		return err
	})
	return c, branch, err
}

// Shares lists the shares of one conversation, or of all.
func (s *Store) Shares(ctx context.Context, user, conversation string, now time.Time) (list []chat.Share, err error) {
	err = s.readReplicated(ctx, "shares", forUser(user), func(ctx context.Context, db bun.IDB) error {
		list = nil
		which := stmt("TRUE")
		if conversation != "" {
			if _, err := s.selectConversation(ctx, db, user, conversation); err != nil {
				return err
			}
			which = stmt("sh.conversation_id = ?", conversation)
		}
		return s.pipe.Exec(ctx, db, sharesWhere(user, which, now, func(found chat.Share) { list = append(list, found) }))
	})
	return list, err
}

// DeleteShare revokes a share.
func (s *Store) DeleteShare(ctx context.Context, user, id string, entry audit.Entry) error {
	return s.write(ctx, "delete_share", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		found := false
		err := s.pipe.Exec(ctx, tx, stmt("DELETE FROM chat_shares WHERE user_id = ? AND id = ? RETURNING id", user, id).
			ScanRow(func(func(...any) error) error { found = true; return nil }))
		if err == nil && !found {
			err = chat.ShareNotFound()
		}
		if err != nil {
			return err
		}
		return insertEntries(ctx, tx, owned(entry, user))
	})
}

// SharedBranch finds the share of a token, and then reads the branch as its owner.
func (s *Store) SharedBranch(ctx context.Context, token chat.Digest, now time.Time, n int) (share chat.Share, branch []chat.Message, err error) {
	if share, err = s.shareOf(ctx, s.readReplicated, token, now); err != nil {
		return chat.Share{}, nil, err
	}
	err = s.readReplicated(ctx, "shared_branch", forUser(share.UserID), func(ctx context.Context, db bun.IDB) error {
		branch, err = s.loadBranch(ctx, db, share.UserID, share.ConversationID, share.LeafID, n)
		if err == nil && len(branch) == 0 {
			err = chat.ShareNotFound()
		}
		return err
	})
	return share, branch, err
}

// SharedFile finds the share of a token, and then looks for the file as its owner. The
// primary is read: its answer permits a download.
func (s *Store) SharedFile(ctx context.Context, token chat.Digest, now time.Time, file string) (chat.Share, error) {
	share, err := s.shareOf(ctx, s.read, token, now)
	if err != nil {
		return chat.Share{}, err
	}
	err = s.read(ctx, "shared_file", forUser(share.UserID), func(ctx context.Context, db bun.IDB) error {
		found := false
		err := s.pipe.Exec(ctx, db, stmt(`WITH RECURSIVE branch (id, n) AS (
				SELECT CAST(? AS text), 1
				UNION ALL
				SELECT m.parent_id, b.n + 1 FROM branch AS b JOIN chat_messages AS m ON m.user_id = ? AND m.id = b.id
				WHERE m.parent_id IS NOT NULL AND b.n < ?)
			SELECT 1 FROM branch AS b JOIN chat_message_files AS mf ON mf.user_id = ? AND mf.message_id = b.id AND mf.file_id = ? LIMIT 1`,
			share.LeafID, share.UserID, chat.MaxSharedMessages, share.UserID, file,
		).ScanRow(func(func(...any) error) error { found = true; return nil }))
		if err == nil && !found {
			err = chat.ShareNotFound()
		}
		return err
	})
	return share, err
}

// shareOf returns the share of a token. Whose it is is not known before, so that
// the statement has the scope of all users; it returns one row at most.
func (s *Store) shareOf(ctx context.Context, read readFunc, token chat.Digest, now time.Time) (share chat.Share, err error) {
	err = read(ctx, "share_of", allUsers, func(ctx context.Context, db bun.IDB) error {
		share = chat.Share{}
		err := s.pipe.Exec(ctx, db, stmt("SELECT "+rows.ShareColumns.List("sh.")+` FROM chat_shares AS sh
			JOIN chat_conversations AS c ON c.user_id = sh.user_id AND c.id = sh.conversation_id AND c.expires_at IS NULL
			WHERE sh.token_hash = ?`, token[:]).ScanRow(scanShare(func(found chat.Share) { share = found })))
		if err == nil && (share.ID == "" || share.Expired(now)) {
			err = chat.ShareNotFound()
		}
		return err
	})
	return share, err
}

// sharesWhere reads a user's shares for which a condition holds and that have not
// expired, newest first.
func sharesWhere(user string, which pipeline.Stmt, now time.Time, found func(chat.Share)) pipeline.Stmt {
	return stmt("SELECT "+rows.ShareColumns.List("sh.")+` FROM chat_shares AS sh
		WHERE sh.user_id = ? AND ? AND (sh.expires_at IS NULL OR sh.expires_at > ?) ORDER BY sh.created_at DESC, sh.id DESC`,
		user, which, rows.Time(now)).ScanRow(scanShare(found))
}

func scanShare(found func(chat.Share)) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var row rows.Share
		err := scan(rows.ShareColumns.Dests(&row)...)
		found(row.Domain())
		return err
	}
}
