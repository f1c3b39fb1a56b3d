package portstest

import (
	"errors"
	"fmt"
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func shareTests(b *storeBench) {
	anyCount := func(int) error { return nil }
	// new returns a share of a branch that is not stored.
	tokens := 0
	newShare := func(b *storeBench, conversation, leaf string) chat.Share {
		tokens++
		return chat.Share{
			ID: newID("share"), UserID: b.user, ConversationID: conversation, LeafID: leaf, Title: "As it was",
			Digest: chat.ShareDigest(fmt.Sprint(b.user, tokens)), CreatedAt: b.tick(),
		}
	}
	create := func(b *storeBench, s chat.Share) {
		b.Helper()
		if err := b.Shares.CreateShare(b.ctx(), s, anyCount, b.entry(audit.ActionShareCreated)); err != nil {
			b.Fatal(err)
		}
	}
	shared := func(b *storeBench, s chat.Share, at time.Time) (string, error) {
		got, branch, err := b.Shares.SharedBranch(b.ctx(), s.Digest, at, 100)
		if err == nil {
			b.want("share", got, s)
		}
		return contents(branch), err
	}
	gone := func(b *storeBench, what string, s chat.Share, at time.Time) {
		b.Helper()
		_, err := shared(b, s, at)
		b.wantKind(what, err, fault.NotFound)
		_, err = b.Shares.SharedFile(b.ctx(), s.Digest, at, "file")
		b.wantKind(what+", a file", err, fault.NotFound)
	}

	b.run("ShowsTheBranchAsItWas", func(b *storeBench) {
		id := b.conversation()
		_, first := b.say(id, "one")
		_, second := b.say(id, "two")
		s := newShare(b, id, second.ID)
		entry := b.entry(audit.ActionShareCreated)
		if err := b.Shares.CreateShare(b.ctx(), s, anyCount, entry); err != nil {
			b.Fatal(err)
		}
		b.want("audit", b.audited(entry.ID), entry)
		half := newShare(b, id, first.ID)
		create(b, half)
		// Neither what comes after the leaf is shown nor what is beside the branch.
		b.say(id, "three")
		other := b.admit(b.again(chat.Regeneration, second.ID))
		b.finish(other.Run, chat.Completed, "another reply")
		for s, want := range map[chat.Share]string{s: "one | re: one | two | re: two", half: "one | re: one"} {
			got, err := shared(b, s, b.now)
			if err != nil || got != want {
				b.Errorf("%q, %v; want %q", got, err, want)
			}
		}
		_, branch, err := b.Shares.SharedBranch(b.ctx(), s.Digest, b.now, 2)
		if err != nil || contents(branch) != "two | re: two" {
			b.Errorf("the last two: %q, %v", contents(branch), err)
		}
		title := "Renamed"
		if _, err := b.History.UpdateConversation(b.ctx(), b.user, id, ports.ConversationChange{Title: &title, Now: b.tick()}, b.entry("a")); err != nil {
			b.Fatal(err)
		}
		if _, err := shared(b, s, b.now); err != nil { // compares the title too
			b.Error(err)
		}
	})

	b.run("Revoke", func(b *storeBench) {
		id := b.conversation()
		_, run := b.say(id, "one")
		s, kept := newShare(b, id, run.ID), newShare(b, id, run.ID)
		create(b, s)
		create(b, kept)
		other := newStoreBench(b.T, b.StoreBundle)
		b.wantKind("another user", b.Shares.DeleteShare(b.ctx(), other.user, s.ID, other.entry("a")), fault.NotFound)
		b.want("not recorded", len(b.Entries(b.T, other.user)), 0)
		entry := b.entry(audit.ActionShareRevoked)
		if err := b.Shares.DeleteShare(b.ctx(), b.user, s.ID, entry); err != nil {
			b.Fatal(err)
		}
		b.want("audit", b.audited(entry.ID), entry)
		gone(b, "revoked", s, b.now)
		if _, err := shared(b, kept, b.now); err != nil {
			b.Errorf("the other share: %v", err)
		}
		b.wantKind("twice", b.Shares.DeleteShare(b.ctx(), b.user, s.ID, b.entry("a")), fault.NotFound)
	})

	b.run("Expire", func(b *storeBench) {
		id := b.conversation()
		_, run := b.say(id, "one")
		s, kept := newShare(b, id, run.ID), newShare(b, id, run.ID)
		end := s.CreatedAt.Add(time.Hour)
		s.ExpiresAt = end
		kept.ExpiresAt = end.Add(time.Hour)
		create(b, s)
		create(b, kept)
		if _, err := shared(b, s, end.Add(-time.Microsecond)); err != nil {
			b.Errorf("before its end: %v", err)
		}
		gone(b, "at its end", s, end)
		list := func(at time.Time) (ids []string) {
			found, err := b.Shares.Shares(b.ctx(), b.user, id, at)
			if err != nil {
				b.Fatal(err)
			}
			for _, s := range found {
				ids = append(ids, s.ID)
			}
			return ids
		}
		b.want("listed before", list(end.Add(-1)), []string{kept.ID, s.ID})
		b.want("listed after", list(end), []string{kept.ID})
		if n, err := b.Expiry.ExpireShares(b.ctx(), end, 100); err != nil || n < 1 {
			b.Errorf("%d shares deleted, %v", n, err)
		}
		b.want("deleted", list(s.CreatedAt), []string{kept.ID})
		if _, err := shared(b, kept, end); err != nil {
			b.Errorf("the other share: %v", err)
		}
	})

	b.run("EndsWithTheConversation", func(b *storeBench) {
		id := b.conversation()
		_, run := b.say(id, "one")
		s := newShare(b, id, run.ID)
		create(b, s)
		if err := b.History.DeleteConversation(b.ctx(), b.user, id, b.entry(audit.ActionConversationDeleted)); err != nil {
			b.Fatal(err)
		}
		gone(b, "deleted", s, b.now)
		_, err := b.Shares.Shares(b.ctx(), b.user, id, b.now)
		b.wantKind("list", err, fault.NotFound)
		b.wantKind("revoke", b.Shares.DeleteShare(b.ctx(), b.user, s.ID, b.entry("a")), fault.NotFound)
		again := newShare(b, id, run.ID)
		b.wantKind("another", b.Shares.CreateShare(b.ctx(), again, anyCount, b.entry("a")), fault.NotFound)
	})

	b.run("OfATemporaryConversation", func(b *storeBench) {
		c, err := b.History.CreateConversation(b.ctx(), chat.Conversation{ID: newID("conv"), UserID: b.user, CreatedAt: b.tick(), ExpiresAt: b.now.Add(time.Hour)}, b.entry("a"))
		if err != nil {
			b.Fatal(err)
		}
		_, run := b.say(c.ID, "one")
		s := newShare(b, c.ID, run.ID)
		create(b, s)
		gone(b, "temporary", s, b.now)
	})

	b.run("Isolation", func(b *storeBench) {
		id := b.conversation()
		_, run := b.say(id, "one")
		create(b, newShare(b, id, run.ID))
		other := newStoreBench(b.T, b.StoreBundle)
		foreign := newShare(other, id, run.ID)
		b.wantKind("of another user's conversation", b.Shares.CreateShare(b.ctx(), foreign, anyCount, other.entry("a")), fault.NotFound)
		_, err := b.Shares.Shares(b.ctx(), other.user, id, b.now)
		b.wantKind("list", err, fault.NotFound)
		all, err := b.Shares.Shares(b.ctx(), other.user, "", b.now)
		b.want("all", []any{len(all), err}, []any{0, error(nil)})
		// A leaf of another thread of the same user shows nothing.
		elsewhere := b.conversation()
		wrong := newShare(b, elsewhere, run.ID)
		create(b, wrong)
		gone(b, "a leaf of another conversation", wrong, b.now)
		gone(b, "an unknown token", chat.Share{Digest: chat.ShareDigest("")}, b.now)
		all, err = b.Shares.Shares(b.ctx(), b.user, "", b.now)
		b.want("all of the user", []any{len(all), err}, []any{2, error(nil)})
	})

	b.run("Count", func(b *storeBench) {
		id := b.conversation()
		_, run := b.say(id, "one")
		full := errors.New("full")
		for want := range 3 {
			err := b.Shares.CreateShare(b.ctx(), newShare(b, id, run.ID), func(n int) error {
				b.want("count", n, want)
				return nil
			}, b.entry("a"))
			if err != nil {
				b.Fatal(err)
			}
		}
		before := len(b.Entries(b.T, b.user))
		refusal := fault.Wrap(full, fault.Conflict, "Full")
		err := b.Shares.CreateShare(b.ctx(), newShare(b, id, run.ID), func(int) error { return refusal }, b.entry("a"))
		b.wantKind("refused", err, fault.Conflict)
		list, _ := b.Shares.Shares(b.ctx(), b.user, id, b.now)
		b.want("stored", []int{len(list), len(b.Entries(b.T, b.user))}, []int{3, before})
	})
}
