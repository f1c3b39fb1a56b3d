// Package imports copies the conversations and messages of a backend that Parley
// replaces into Parley's store. An import keeps no position: it is repeated from the
// beginning, after an interruption as well, and finds what is there already. What
// becomes of each row is decided in domain/chat.
package imports

import (
	"context"
	"iter"
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

const (
	batchBytes = 4 << 20
	checkRows  = 2000
	retries    = 5
)

// Table names one of the two tables.
type Table string

const (
	Conversations Table = "conversations"
	Messages      Table = "messages"
)

// Counts says what has become of the rows of one table.
type Counts struct {
	Read, Added, Present, Deleted, Refused int
	Changed                                int // of those added, not stored as they were
	Found                                  int // in Parley afterwards; 0 after a dry run
	Conflicts                              int // of those refused, ids that another row has in Parley
	Late                                   int // rows that came to the source during the import
}

// Complete reports whether every row is accounted for: each one that was read has
// one result, and Parley has exactly those that were imported or already there.
func (c Counts) Complete() bool {
	return c.Read == c.Added+c.Present+c.Deleted+c.Refused && c.Found == c.Added+c.Present+c.Conflicts && c.Late == 0
}

// Report is the result of an import.
type Report struct {
	Conversations, Messages Counts
}

// SourceError is an error of the source, not of Parley's store.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "read the source: " + e.Err.Error() }

func (e *SourceError) Unwrap() error { return e.Err }

// Service imports. Note and Progress are optional.
type Service struct {
	Source ports.ImportSource
	Store  ports.ImportStore
	Now    ports.Clock
	IDs    ports.IDs
	// From names the source in audit entries.
	From string
	// Note is called for each row that is refused or changed.
	Note func(Table, chat.ImportOutcome)
	// Progress is called after each batch.
	Progress func(Report)
	// BatchRows is the most rows that are stored in one transaction, which keeps
	// their users' turns waiting; default 500.
	BatchRows int
	// Pause returns when d has passed or ctx is done; it is called before a batch is
	// tried again.
	Pause func(ctx context.Context, d time.Duration)
}

// Run imports everything. With dryRun it stores nothing and reports what it would
// do. Several may run at once. An error leaves whole batches behind, and the next
// Run goes on.
func (s *Service) Run(ctx context.Context, dryRun bool) (report Report, err error) {
	err = inBatches(s.BatchRows, s.Source.Conversations(ctx), conversationBytes, func(batch []chat.SourceConversation) error {
		request := ports.ImportRequest{DryRun: dryRun}
		for _, c := range batch {
			name(&request, &request.Conversations, c.UserID, c.ID)
		}
		outcomes, err := s.store(ctx, request, func(state chat.ImportState) chat.ImportPlan {
			return chat.ImportConversations(batch, state)
		})
		s.count(&report, Conversations, outcomes)
		return err
	})
	if err != nil {
		return report, err
	}
	position := chat.ImportPosition{DryRun: dryRun}
	err = inBatches(s.BatchRows, s.Source.Messages(ctx), messageBytes, func(batch []chat.SourceMessage) error {
		request := ports.ImportRequest{DryRun: dryRun}
		for _, m := range batch {
			name(&request, &request.Messages, m.UserID, m.ID)
			name(&request, &request.Conversations, m.UserID, m.ConversationID)
		}
		var next chat.ImportPosition
		outcomes, err := s.store(ctx, request, func(state chat.ImportState) (plan chat.ImportPlan) {
			plan, next = position.ImportMessages(batch, state)
			return plan
		})
		if err == nil {
			position = next
		}
		s.count(&report, Messages, outcomes)
		return err
	})
	if err != nil || dryRun {
		return report, err
	}
	if err := s.check(ctx, s.Source.ConversationKeys(ctx), s.Store.CountConversations, &report.Conversations); err != nil {
		return report, err
	}
	return report, s.check(ctx, s.Source.MessageKeys(ctx), s.Store.CountMessages, &report.Messages)
}

// name adds a user and one of the user's rows to a request, unless Parley can have
// no such row.
func name(request *ports.ImportRequest, keys *[]chat.UserKey, user, id string) {
	if chat.ValidUserID(user) && chat.ValidID(id) {
		request.Users = append(request.Users, user)
		*keys = append(*keys, chat.UserKey{UserID: user, ID: id})
	}
}

// store makes one batch durable. A database that is away for a moment does not end
// the import.
func (s *Service) store(ctx context.Context, request ports.ImportRequest, decide func(chat.ImportState) chat.ImportPlan) (outcomes []chat.ImportOutcome, err error) {
	for try := range retries {
		if try > 0 && s.Pause != nil {
			s.Pause(ctx, time.Duration(try)*time.Second)
		}
		err = s.Store.Import(ctx, request, func(state chat.ImportState) (chat.ImportPlan, []audit.Entry) {
			plan := decide(state)
			outcomes = plan.Outcomes
			return plan, s.entries(plan)
		})
		if err == nil {
			return outcomes, nil
		}
		if ctx.Err() != nil || !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Overloaded) {
			break
		}
	}
	return nil, err
}

// entries are the audit entries of a batch: one for each user of whom something is
// stored.
func (s *Service) entries(plan chat.ImportPlan) (list []audit.Entry) {
	type added struct{ conversations, messages int }
	users, order := map[string]*added{}, []string{}
	of := func(user string) *added {
		if users[user] == nil {
			users[user] = &added{}
			order = append(order, user)
		}
		return users[user]
	}
	for _, c := range plan.Conversations {
		of(c.UserID).conversations++
	}
	for _, m := range plan.Messages {
		of(m.UserID).messages++
	}
	now := s.Now()
	for _, user := range order {
		list = append(list, audit.Entry{
			ID: s.IDs(), UserID: user, Action: audit.ActionImported, Resource: audit.ResourceUser, ResourceID: user,
			Metadata: map[string]any{"by": "operator", "from": s.From, "conversations": users[user].conversations, "messages": users[user].messages},
			Status:   audit.Success, CreatedAt: now, UpdatedAt: now,
		})
	}
	return list
}

// count adds the outcomes of a batch to the report.
func (s *Service) count(report *Report, table Table, outcomes []chat.ImportOutcome) {
	counts := &report.Messages
	if table == Conversations {
		counts = &report.Conversations
	}
	for _, o := range outcomes {
		counts.Read++
		switch o.Result {
		case chat.ImportAdded:
			counts.Added++
		case chat.ImportPresent:
			counts.Present++
		case chat.ImportDeleted:
			counts.Deleted++
		case chat.ImportRefused:
			counts.Refused++
			if o.Reason == chat.ImportConflict {
				counts.Conflicts++
			}
		}
		if len(o.Changes) > 0 {
			counts.Changed++
		}
		if s.Note != nil && (o.Result == chat.ImportRefused || len(o.Changes) > 0) {
			s.Note(table, o)
		}
	}
	if s.Progress != nil {
		s.Progress(*report)
	}
}

// check reads the ids of a table again and counts those that Parley has.
func (s *Service) check(ctx context.Context, keys iter.Seq2[chat.UserKey, error], stored func(context.Context, []chat.UserKey) (int, error), counts *Counts) error {
	read, batch := 0, make([]chat.UserKey, 0, checkRows)
	flush := func() error {
		n, err := stored(ctx, batch)
		counts.Found += n
		batch = batch[:0]
		return err
	}
	for key, err := range keys {
		if err != nil {
			return &SourceError{err}
		}
		read++
		if !chat.ValidUserID(key.UserID) || !chat.ValidID(key.ID) {
			continue
		}
		if batch = append(batch, key); len(batch) == checkRows {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	counts.Late = max(0, read-counts.Read)
	if len(batch) == 0 {
		return nil
	}
	return flush()
}

// inBatches calls store with batches of rows, bounded in number and bytes.
func inBatches[T any](most int, rows iter.Seq2[T, error], size func(T) int, store func([]T) error) error {
	if most <= 0 {
		most = 500
	}
	batch, bytes := make([]T, 0, most), 0
	for row, err := range rows {
		if err != nil {
			return &SourceError{err}
		}
		batch, bytes = append(batch, row), bytes+size(row)
		if len(batch) == most || bytes >= batchBytes {
			if err := store(batch); err != nil {
				return err
			}
			clear(batch) // lets go of their text
			batch, bytes = batch[:0], 0
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return store(batch)
}

func conversationBytes(c chat.SourceConversation) int { return len(c.Title) }

func messageBytes(m chat.SourceMessage) int { return len(m.Content) + len(m.Metadata) }
