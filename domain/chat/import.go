package chat

import (
	"encoding/json"
	"maps"
	"strings"
	"time"
)

// MaxImported is the longest text of a message that is imported, in bytes. A user
// may send less, see MaxContent, and a backend that Parley replaces may have
// stored more than either.
const MaxImported = 4 << 20

// MaxUserID is the longest id of a user, in bytes.
const MaxUserID = 255

// ValidUserID reports whether s can be the id of a user.
func ValidUserID(s string) bool { return s != "" && len(s) <= MaxUserID && ValidateText(s) == nil }

// SourceConversation is a conversation as the backend stored it that Parley
// replaces. Times are zero where it stored none.
type SourceConversation struct {
	UserID, ID    string
	Title         string
	LastMessageAt time.Time
	CreatedAt     time.Time
	UpdatedAt     time.Time
	Deleted       bool // marked as deleted, and kept
}

// SourceMessage is a message as the backend stored it that Parley replaces.
type SourceMessage struct {
	UserID, ID     string
	ConversationID string // "": none
	// ConversationOwner is the user of the conversation, "" when there is no such
	// conversation.
	ConversationOwner   string
	ConversationDeleted bool
	Role                string
	Content             string // "" when it is longer than MaxImported
	ContentNull         bool
	ContentBytes        int64
	Metadata            []byte // JSON; nil for NULL
	MetadataTooLarge    bool
	CreatedAt           time.Time // zero: none
	Deleted             bool
}

// ImportReason says why a row is refused. It is safe to show.
type ImportReason string

const (
	ImportBadUser          ImportReason = "its user id is empty, longer than 255 bytes or has control characters"
	ImportBadID            ImportReason = "its id is empty, longer than 128 bytes or has characters other than printable ASCII without space and slashes"
	ImportBadRole          ImportReason = "its role is neither user nor assistant"
	ImportNoContent        ImportReason = "its content is NULL"
	ImportTooLong          ImportReason = "its content is longer than 4 MiB"
	ImportBadTime          ImportReason = "its createdAt is NULL, infinite or outside of the years 1970 to 9999"
	ImportNoConversation   ImportReason = "its conversation does not exist"
	ImportBadConversation  ImportReason = "its conversation is refused"
	ImportLateConversation ImportReason = "its conversation was created during the import; run the import again"
	ImportConflict         ImportReason = "Parley has another message of this id"
)

// ImportChange says what of a row is not stored as it was. It is safe to show.
type ImportChange string

const (
	ImportCleaned    ImportChange = "control characters or invalid Unicode were left out of its text"
	ImportNoMetadata ImportChange = "its metadata was left out: it is not an object of JSON of at most 256 KiB"
	ImportMoved      ImportChange = "it is in the user's default thread: its conversation is another user's"
)

// ImportResult is what has become of one row.
type ImportResult string

const (
	ImportAdded   ImportResult = "imported"
	ImportPresent ImportResult = "already there"
	ImportDeleted ImportResult = "deleted" // in the source, or later in Parley
	ImportRefused ImportResult = "refused"
)

// ImportOutcome is the result of one row.
type ImportOutcome struct {
	UserID, ID string
	Result     ImportResult
	Reason     ImportReason // of a refused row
	Changes    []ImportChange
}

// UserKey names a conversation or a message: ids are unique for each user. As the
// name of a thread, an empty ID is the default thread.
type UserKey struct{ UserID, ID string }

// ImportState is what the store has of the users, conversations and messages that
// a batch names.
type ImportState struct {
	Erased   map[string]bool    // users who were erased
	Leaves   map[UserKey]string // of the conversations that exist and the default threads of known users
	Gone     map[UserKey]bool   // conversations that were deleted in Parley, or have expired there
	Messages map[UserKey]Message
}

// ImportPlan is what a batch changes, all of it or nothing.
type ImportPlan struct {
	Conversations []Conversation
	Messages      []Message
	Parents       map[UserKey]string // new parents of stored messages
	Leaves        map[UserKey]string // new ends of threads
	Outcomes      []ImportOutcome    // one for each row, in order
}

// add appends the outcome of a row.
func (p *ImportPlan) add(user, id string, r ImportResult, changes ...ImportChange) {
	p.Outcomes = append(p.Outcomes, ImportOutcome{UserID: user, ID: id, Result: r, Changes: changes})
}

func (p *ImportPlan) refuse(user, id string, reason ImportReason) {
	p.Outcomes = append(p.Outcomes, ImportOutcome{UserID: user, ID: id, Result: ImportRefused, Reason: reason})
}

// ImportConversations decides what becomes of a batch of conversations.
func ImportConversations(batch []SourceConversation, state ImportState) (plan ImportPlan) {
	added := map[UserKey]bool{}
	for _, c := range batch {
		key := UserKey{c.UserID, c.ID}
		_, present := state.Leaves[key]
		switch {
		case c.Deleted:
			plan.add(c.UserID, c.ID, ImportDeleted)
		case !ValidUserID(c.UserID):
			plan.refuse(c.UserID, c.ID, ImportBadUser)
		case !ValidID(c.ID):
			plan.refuse(c.UserID, c.ID, ImportBadID)
		case present || added[key]:
			plan.add(c.UserID, c.ID, ImportPresent)
		case state.Erased[c.UserID] || state.Gone[key]:
			plan.add(c.UserID, c.ID, ImportDeleted)
		default:
			created, changes := c.conversation()
			added[key] = true
			plan.Conversations = append(plan.Conversations, created)
			plan.add(c.UserID, c.ID, ImportAdded, changes...)
		}
	}
	return plan
}

// conversation is the conversation as Parley stores it. A title that it has was
// the user's, or is treated as such: it is not replaced. A missing time becomes
// the nearest one that is known.
func (c SourceConversation) conversation() (out Conversation, changes []ImportChange) {
	title, dropped := CleanOutput(c.Title)
	if dropped > 0 {
		changes = append(changes, ImportCleaned)
	}
	known := []time.Time{c.CreatedAt, c.LastMessageAt, c.UpdatedAt}
	first := func(times ...time.Time) time.Time {
		for _, t := range times {
			if importable(t) {
				return micros(t)
			}
		}
		return time.UnixMicro(0).UTC()
	}
	return Conversation{
		UserID: c.UserID, ID: c.ID, Title: title, TitleByUser: title != "",
		CreatedAt: first(known...), LastMessageAt: first(c.LastMessageAt, c.CreatedAt, c.UpdatedAt), UpdatedAt: first(c.UpdatedAt, c.LastMessageAt, c.CreatedAt),
	}, changes
}

// importable reports whether a time can be stored and shown.
func importable(t time.Time) bool {
	return !t.IsZero() && t.Year() >= 1970 && t.Year() <= 9999
}

// ImportPosition is how far the messages of one user have been linked to threads.
// The zero value is before the first message of the first user.
type ImportPosition struct {
	// DryRun: conversations are not stored, so that those which do not exist are
	// taken as imported.
	DryRun bool

	user   string
	last   time.Time // of the user's last message
	lastID string
	tails  map[string]importedEnd // by conversation
}

// importedEnd is the message that the next one of its thread follows.
type importedEnd struct {
	id  string
	new bool // this import has added it
}

// ImportMessages decides what becomes of a batch of messages, which must come in
// the order of users, and of time and ids for each user, and follow the batch
// that led to the position. next is the position behind it.
//
// The messages of a thread are linked in that order. Parley orders by time and
// then by ids as text. Where that is another order, of messages of one time whose
// ids are numbers for example, the later one gets a microsecond more: the source's
// order stays, in a conversation and over all of them.
func (p ImportPosition) ImportMessages(batch []SourceMessage, state ImportState) (plan ImportPlan, next ImportPosition) {
	next = p
	next.tails = maps.Clone(p.tails)
	plan.Parents, plan.Leaves = map[UserKey]string{}, map[UserKey]string{}
	added := map[UserKey]bool{}
	for _, m := range batch {
		if m.UserID != next.user || next.tails == nil {
			next.user, next.last, next.lastID, next.tails = m.UserID, time.Time{}, "", map[string]importedEnd{}
		}
		if importable(m.CreatedAt) {
			m.CreatedAt = micros(m.CreatedAt)
			if m.CreatedAt.Before(next.last) || m.CreatedAt.Equal(next.last) && !sortsBehind(m.ID, next.lastID) {
				m.CreatedAt = next.last.Add(time.Microsecond)
			}
			next.last, next.lastID = m.CreatedAt, m.ID
		}
		key := UserKey{m.UserID, m.ID}
		result, reason := m.decide(state, p.DryRun)
		if result == ImportAdded && added[key] {
			result = ImportPresent
		}
		switch result {
		case ImportRefused:
			plan.refuse(m.UserID, m.ID, reason)
			continue
		case ImportDeleted:
			plan.add(m.UserID, m.ID, result)
			continue
		}
		message, changes := m.message()
		stored, present := state.Messages[key]
		if present && !sameImport(stored, message) {
			plan.refuse(m.UserID, m.ID, ImportConflict)
			continue
		}
		thread := UserKey{m.UserID, message.ConversationID}
		before := next.tails[message.ConversationID]
		message.ParentID = before.id
		next.tails[message.ConversationID] = importedEnd{id: m.ID, new: !present}
		if present {
			if before.new && stored.ParentID != before.id { // an earlier message has come since
				plan.Parents[key] = before.id
			}
			plan.add(m.UserID, m.ID, ImportPresent)
			continue
		}
		// A thread that goes on in Parley keeps its end.
		leaf, moved := plan.Leaves[thread]
		if !moved {
			leaf = state.Leaves[thread]
		}
		if leaf == "" || leaf == before.id {
			plan.Leaves[thread] = m.ID
		}
		added[key] = true
		plan.Messages = append(plan.Messages, message)
		plan.add(m.UserID, m.ID, ImportAdded, changes...)
	}
	return plan, next
}

// sortsBehind reports whether an id comes behind another one in the order of every
// database: collations differ in how they compare capitals and punctuation.
func sortsBehind(id, other string) bool {
	plain := func(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' }
	for i := range max(len(id), len(other)) {
		alike := i < len(id) && i < len(other) && id[i] == other[i] && len(id) == len(other)
		if !alike && (i < len(id) && !plain(id[i]) || i < len(other) && !plain(other[i])) {
			return false
		}
	}
	return id > other
}

// decide is the result of a message, but that one which is to be imported may be
// present.
func (m SourceMessage) decide(state ImportState, dryRun bool) (ImportResult, ImportReason) {
	switch {
	case m.Deleted || m.ConversationDeleted && m.ConversationOwner == m.UserID:
		return ImportDeleted, ""
	case !ValidUserID(m.UserID):
		return ImportRefused, ImportBadUser
	case !ValidID(m.ID):
		return ImportRefused, ImportBadID
	case state.Erased[m.UserID]:
		return ImportDeleted, ""
	case m.role() == "":
		return ImportRefused, ImportBadRole
	case m.ContentNull:
		return ImportRefused, ImportNoContent
	case m.ContentBytes > MaxImported:
		return ImportRefused, ImportTooLong
	case !importable(m.CreatedAt):
		return ImportRefused, ImportBadTime
	}
	conversation := m.conversation()
	if conversation == "" {
		return ImportAdded, ""
	}
	thread := UserKey{m.UserID, conversation}
	_, exists := state.Leaves[thread]
	switch {
	case m.ConversationOwner == "":
		return ImportRefused, ImportNoConversation
	case !ValidID(conversation):
		return ImportRefused, ImportBadConversation
	case exists:
		return ImportAdded, ""
	case state.Gone[thread]:
		return ImportDeleted, ""
	case !dryRun:
		return ImportRefused, ImportLateConversation
	}
	return ImportAdded, ""
}

// role is the role as Parley writes it, "" for others.
func (m SourceMessage) role() Role {
	switch role := Role(strings.ToLower(strings.TrimSpace(m.Role))); role {
	case User, Assistant:
		return role
	}
	return ""
}

// conversation is the thread of the message. A backend that did not check whose
// the conversation is showed the message to the user who wrote it, among those
// without a conversation.
func (m SourceMessage) conversation() string {
	if m.ConversationOwner != "" && m.ConversationOwner != m.UserID {
		return ""
	}
	return m.ConversationID
}

// message is the message as Parley stores it, without its parent.
func (m SourceMessage) message() (out Message, changes []ImportChange) {
	out = Message{UserID: m.UserID, ID: m.ID, ConversationID: m.conversation(), Role: m.role(), CreatedAt: m.CreatedAt}
	if out.ConversationID != m.ConversationID {
		changes = append(changes, ImportMoved)
	}
	var dropped int
	if out.Content, dropped = CleanOutput(m.Content); dropped > 0 {
		changes = append(changes, ImportCleaned)
	}
	var whole bool
	if out.Metadata, whole = importMetadata(m.Metadata); !whole || m.MetadataTooLarge {
		changes = append(changes, ImportNoMetadata)
	}
	return out, changes
}

// sameImport reports whether a stored message is the one that is imported. Its
// parent and time are not compared: both depend on what else there is.
func sameImport(stored, imported Message) bool {
	return stored.ConversationID == imported.ConversationID && stored.Role == imported.Role && stored.Content == imported.Content
}

// importMetadata cleans an object of JSON. Numbers stay as they are written, and
// text loses what cannot be stored.
func importMetadata(text []byte) (clean json.RawMessage, whole bool) {
	object, err := DecodeMetadata(text)
	if err != nil {
		return nil, false
	}
	cleanJSON(object)
	clean, err = EncodeMetadata(object)
	return clean, err == nil
}

// cleanJSON leaves control characters out of all text of a value.
func cleanJSON(value any) any {
	switch v := value.(type) {
	case string:
		clean, _ := CleanOutput(v)
		return clean
	case []any:
		for i := range v {
			v[i] = cleanJSON(v[i])
		}
	case map[string]any:
		for name, member := range v {
			if strings.IndexFunc(name, forbidden) >= 0 {
				delete(v, name)
				name, _ = CleanOutput(name)
			}
			v[name] = cleanJSON(member)
		}
	}
	return value
}
