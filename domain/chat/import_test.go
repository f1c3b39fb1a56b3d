package chat_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/domain/chat"
)

var importedAt = time.Date(2025, 11, 6, 12, 0, 0, 0, time.UTC)

func imported(id string, change ...func(*chat.SourceMessage)) chat.SourceMessage {
	m := chat.SourceMessage{UserID: "alice", ID: id, Role: "user", Content: "text", ContentBytes: 4, CreatedAt: importedAt}
	for _, c := range change {
		c(&m)
	}
	return m
}

func importedState() chat.ImportState {
	return chat.ImportState{Leaves: map[chat.UserKey]string{
		{UserID: "alice"}: "", {UserID: "alice", ID: "c1"}: "",
	}}
}

// Each kind of row that cannot be stored is refused with its reason, or counted as
// deleted, and leaves the rows around it linked.
func TestImportMessages_Results(t *testing.T) {
	inC1 := func(m *chat.SourceMessage) { m.ConversationID, m.ConversationOwner = "c1", "alice" }
	for name, c := range map[string]struct {
		change func(*chat.SourceMessage)
		want   chat.ImportOutcome
	}{
		"Plain":          {func(*chat.SourceMessage) {}, chat.ImportOutcome{Result: chat.ImportAdded}},
		"EmptyContent":   {func(m *chat.SourceMessage) { m.Content = "" }, chat.ImportOutcome{Result: chat.ImportAdded}},
		"RoleInCapitals": {func(m *chat.SourceMessage) { m.Role = " ASSISTANT " }, chat.ImportOutcome{Result: chat.ImportAdded}},
		"RoleSystem":     {func(m *chat.SourceMessage) { m.Role = "system" }, chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportBadRole}},
		"NoContent":      {func(m *chat.SourceMessage) { m.ContentNull = true }, chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportNoContent}},
		"TooLong": {func(m *chat.SourceMessage) { m.ContentBytes = chat.MaxImported + 1 },
			chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportTooLong}},
		"NoTime": {func(m *chat.SourceMessage) { m.CreatedAt = time.Time{} }, chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportBadTime}},
		"FarFuture": {func(m *chat.SourceMessage) { m.CreatedAt = importedAt.AddDate(10_000, 0, 0) },
			chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportBadTime}},
		"ControlCharacters": {func(m *chat.SourceMessage) { m.Content = "a\x00b\x1fc\xff" },
			chat.ImportOutcome{Result: chat.ImportAdded, Changes: []chat.ImportChange{chat.ImportCleaned}}},
		"MetadataIsAList": {func(m *chat.SourceMessage) { m.Metadata = []byte(`[1]`) },
			chat.ImportOutcome{Result: chat.ImportAdded, Changes: []chat.ImportChange{chat.ImportNoMetadata}}},
		"MetadataTooLarge": {func(m *chat.SourceMessage) { m.MetadataTooLarge = true },
			chat.ImportOutcome{Result: chat.ImportAdded, Changes: []chat.ImportChange{chat.ImportNoMetadata}}},
		"MetadataIsNull":           {func(m *chat.SourceMessage) { m.Metadata = []byte(`null`) }, chat.ImportOutcome{Result: chat.ImportAdded}},
		"MarkedAsDeleted":          {func(m *chat.SourceMessage) { m.Deleted = true }, chat.ImportOutcome{Result: chat.ImportDeleted}},
		"InAConversation":          {inC1, chat.ImportOutcome{Result: chat.ImportAdded}},
		"InADeletedConversation":   {func(m *chat.SourceMessage) { inC1(m); m.ConversationDeleted = true }, chat.ImportOutcome{Result: chat.ImportDeleted}},
		"ConversationDeletedLater": {func(m *chat.SourceMessage) { inC1(m); m.ConversationID = "gone" }, chat.ImportOutcome{Result: chat.ImportDeleted}},
		"ConversationOfAnotherUser": {func(m *chat.SourceMessage) { inC1(m); m.ConversationOwner = "bob" },
			chat.ImportOutcome{Result: chat.ImportAdded, Changes: []chat.ImportChange{chat.ImportMoved}}},
		"ConversationMissing": {func(m *chat.SourceMessage) { m.ConversationID = "c1" },
			chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportNoConversation}},
		"ConversationRefused": {func(m *chat.SourceMessage) { inC1(m); m.ConversationID = "a/b" },
			chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportBadConversation}},
		"ConversationNew": {func(m *chat.SourceMessage) { inC1(m); m.ConversationID = "new" },
			chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportLateConversation}},
		"AlreadyThere": {func(m *chat.SourceMessage) { m.ID = "stored" }, chat.ImportOutcome{Result: chat.ImportPresent}},
		"IDTaken": {func(m *chat.SourceMessage) { m.ID, m.Content = "stored", "other" },
			chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportConflict}},
		"BadID":     {func(m *chat.SourceMessage) { m.ID = "a b" }, chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportBadID}},
		"LongID":    {func(m *chat.SourceMessage) { m.ID = strings.Repeat("x", 129) }, chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportBadID}},
		"NoUser":    {func(m *chat.SourceMessage) { m.UserID = "" }, chat.ImportOutcome{Result: chat.ImportRefused, Reason: chat.ImportBadUser}},
		"UserEnded": {func(m *chat.SourceMessage) { m.UserID = "erased" }, chat.ImportOutcome{Result: chat.ImportDeleted}},
	} {
		t.Run(name, func(t *testing.T) {
			state := importedState()
			state.Erased = map[string]bool{"erased": true}
			state.Gone = map[chat.UserKey]bool{{UserID: "alice", ID: "gone"}: true}
			state.Messages = map[chat.UserKey]chat.Message{{UserID: "alice", ID: "stored"}: {ID: "stored", Role: chat.User, Content: "text"}}
			m := imported("m1", c.change)
			plan, _ := chat.ImportPosition{}.ImportMessages([]chat.SourceMessage{m}, state)
			c.want.UserID, c.want.ID = m.UserID, m.ID
			if diff := cmp.Diff([]chat.ImportOutcome{c.want}, plan.Outcomes); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if (len(plan.Messages) == 1) != (c.want.Result == chat.ImportAdded) {
				t.Errorf("%d messages are stored", len(plan.Messages))
			}
			for _, m := range plan.Messages {
				if chat.ValidateText(m.Content) != nil || m.Role != chat.User && m.Role != chat.Assistant {
					t.Errorf("stored as %q %q", m.Role, m.Content)
				}
			}
		})
	}
}

// Messages of one thread are linked in the source's order, over batches, and their
// times and ids sort in that order: also of messages of one millisecond, whose ids
// as text have another one.
func TestImportMessages_LinksThreads(t *testing.T) {
	var list []chat.SourceMessage
	for i := range 12 { // of which 9 < 10 as numbers, not as text
		list = append(list, imported(fmt.Sprint(i), func(m *chat.SourceMessage) {
			if i%3 == 0 {
				m.ConversationID, m.ConversationOwner = "c1", "alice"
			}
			if i == 4 {
				m.Role = "tool" // is refused, and leaves no hole
			}
		}))
	}
	for size := 1; size <= len(list); size++ {
		state, position := importedState(), chat.ImportPosition{}
		parents, last := map[string]string{}, time.Time{}
		for from := 0; from < len(list); from += size {
			var plan chat.ImportPlan
			plan, position = position.ImportMessages(list[from:min(from+size, len(list))], state)
			for _, m := range plan.Messages {
				parents[m.ID] = m.ParentID
				if m.CreatedAt.Before(last) || m.CreatedAt.Truncate(time.Millisecond) != importedAt {
					t.Errorf("size %d: %s is at %v after %v", size, m.ID, m.CreatedAt, last)
				}
				last = m.CreatedAt
			}
			for thread, leaf := range plan.Leaves {
				state.Leaves[thread] = leaf
			}
		}
		want := map[string]string{"0": "", "3": "0", "6": "3", "9": "6", "1": "", "2": "1", "5": "2", "7": "5", "8": "7", "10": "8", "11": "10"}
		if diff := cmp.Diff(want, parents); diff != "" {
			t.Errorf("size %d: parents, -want +got:\n%s", size, diff)
		}
		wantLeaves := map[chat.UserKey]string{{UserID: "alice"}: "11", {UserID: "alice", ID: "c1"}: "9"}
		if diff := cmp.Diff(wantLeaves, state.Leaves); diff != "" {
			t.Errorf("size %d: leaves, -want +got:\n%s", size, diff)
		}
	}
}

// Times stay as they are where ids sort in the source's order, as those of cuid do,
// and differ by microseconds where they do not.
func TestImportMessages_Times(t *testing.T) {
	for name, c := range map[string]struct {
		ids  []string
		want []int // microseconds
	}{
		"cuid":        {[]string{"cmhn1a0000001", "cmhn1a0000002", "cmhn1a000000a"}, []int{0, 0, 0}},
		"uuid":        {[]string{"0193-a1", "0193-a2", "0194-00"}, []int{0, 0, 0}},
		"numbers":     {[]string{"8", "9", "10", "11"}, []int{0, 0, 1, 2}},
		"capitals":    {[]string{"B", "a", "C"}, []int{0, 1, 2}},
		"punctuation": {[]string{"a-b", "ab", "a_c"}, []int{0, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			var list []chat.SourceMessage
			for _, id := range c.ids {
				list = append(list, imported(id))
			}
			plan, _ := chat.ImportPosition{}.ImportMessages(list, importedState())
			var got []int
			for _, m := range plan.Messages {
				got = append(got, int(m.CreatedAt.Sub(importedAt)/time.Microsecond))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What comes to the source later is put where it belongs, and a thread that has
// gone on in Parley keeps its end.
func TestImportMessages_Again(t *testing.T) {
	stored := func(id, parent string) chat.Message {
		return chat.Message{ID: id, ParentID: parent, Role: chat.User, Content: "text"}
	}
	at := func(n int) func(*chat.SourceMessage) {
		return func(m *chat.SourceMessage) { m.CreatedAt = importedAt.Add(time.Duration(n) * time.Second) }
	}
	state := importedState()
	state.Messages = map[chat.UserKey]chat.Message{
		{UserID: "alice", ID: "a"}: stored("a", ""), {UserID: "alice", ID: "c"}: stored("c", "a"),
	}
	state.Leaves[chat.UserKey{UserID: "alice"}] = "made in Parley"
	plan, _ := chat.ImportPosition{}.ImportMessages([]chat.SourceMessage{
		imported("a", at(1)), imported("b", at(2)), imported("c", at(3)), imported("d", at(4)),
	}, state)
	if diff := cmp.Diff(map[chat.UserKey]string{{UserID: "alice", ID: "c"}: "b"}, plan.Parents); diff != "" {
		t.Errorf("new parents, -want +got:\n%s", diff)
	}
	if len(plan.Messages) != 2 || plan.Messages[0].ParentID != "a" || plan.Messages[1].ParentID != "c" {
		t.Errorf("added: %+v", plan.Messages)
	}
	if len(plan.Leaves) != 0 {
		t.Errorf("the end moved: %v", plan.Leaves)
	}
}

// Numbers of metadata stay as they were written, and text that cannot be stored
// goes.
func TestImportMessages_Metadata(t *testing.T) {
	m := imported("m", func(m *chat.SourceMessage) {
		m.Metadata = []byte(`{"n": 9007199254740993, "a\u0000b": ["x\u0000y", {"z": null}]}`)
	})
	plan, _ := chat.ImportPosition{}.ImportMessages([]chat.SourceMessage{m}, importedState())
	got, err := json.Marshal(plan.Messages[0].Metadata)
	if want := `{"ab":["xy",{"z":null}],"n":9007199254740993}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

// Conversations keep their times, and those that lack one get the nearest.
func TestImportConversations(t *testing.T) {
	at := func(n int) time.Time { return importedAt.Add(time.Duration(n) * time.Minute) }
	state := chat.ImportState{
		Erased: map[string]bool{"erased": true},
		Leaves: map[chat.UserKey]string{{UserID: "alice", ID: "there"}: ""},
		Gone:   map[chat.UserKey]bool{{UserID: "alice", ID: "gone"}: true},
	}
	plan := chat.ImportConversations([]chat.SourceConversation{
		{UserID: "alice", ID: "c1", Title: "T\x07itle", CreatedAt: at(1), LastMessageAt: at(3), UpdatedAt: at(2)},
		{UserID: "alice", ID: "c2", UpdatedAt: at(5)},
		{UserID: "alice", ID: "there"}, {UserID: "alice", ID: "gone"}, {UserID: "erased", ID: "c3"},
		{UserID: "alice", ID: "a b"}, {ID: "c4"}, {UserID: "alice", ID: "c5", Deleted: true},
	}, state)
	want := []chat.Conversation{
		{UserID: "alice", ID: "c1", Title: "Title", TitleByUser: true, CreatedAt: at(1), LastMessageAt: at(3), UpdatedAt: at(2)},
		{UserID: "alice", ID: "c2", CreatedAt: at(5), LastMessageAt: at(5), UpdatedAt: at(5)},
	}
	if diff := cmp.Diff(want, plan.Conversations); diff != "" {
		t.Errorf("conversations, -want +got:\n%s", diff)
	}
	var results []chat.ImportResult
	for _, o := range plan.Outcomes {
		results = append(results, o.Result)
	}
	if diff := cmp.Diff([]chat.ImportResult{
		chat.ImportAdded, chat.ImportAdded, chat.ImportPresent, chat.ImportDeleted, chat.ImportDeleted, chat.ImportRefused, chat.ImportRefused, chat.ImportDeleted,
	}, results); diff != "" {
		t.Errorf("results, -want +got:\n%s", diff)
	}
}
