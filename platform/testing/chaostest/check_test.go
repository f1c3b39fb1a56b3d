package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// flawless is a small history without a violation: a message that was
// answered, one whose first owner died, one that was stopped, and a reply that
// was made again.
func flawless() (*history, snapshot, map[string]int) {
	at := func(s float64) time.Time {
		return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(s * float64(time.Second)))
	}
	h := newHistory()
	var s snapshot
	s.Calls = map[string]int{}
	s.Threads = []threadRow{{"u01", "c1"}}
	s.Audits = []auditRow{{UserID: "u01", ID: "ac", Action: "chat.conversation_created", ResourceID: "c1", Status: "success"}}
	turn := func(n, kind, state, text string, attempts int, begun float64) {
		id := "r" + n
		nonce := "u01-0000000" + n
		m := messageRow{UserID: "u01", ID: "m" + n, ConversationID: "c1", Role: "user", Content: nonce + " tell"}
		action := "chat.message_sent"
		if kind == "regeneration" {
			action, m.ID, nonce = "chat.reply_regenerated", "m1", ""
		}
		h.intend(intent{user: "u01", key: "k" + n, nonce: nonce, content: m.Content, kind: kind})
		h.acknowledge("k"+n, m.ID, id)
		if kind == "reply" {
			s.Messages = append(s.Messages, m)
			s.Calls[nonce] = attempts
		}
		s.Messages = append(s.Messages, messageRow{UserID: "u01", ID: id, ConversationID: "c1", ParentID: m.ID, Role: "assistant", Content: text})
		end := at(begun + 3)
		s.Runs = append(s.Runs, runRow{
			UserID: "u01", ID: id, ConversationID: "c1", ParentID: m.ID, Kind: kind, State: state, Attempt: attempts,
			Key: "k" + n, AuditID: "a" + n, StopRequested: state == "stopped", CreatedAt: at(begun), EndedAt: &end,
		})
		status := "success"
		if state == "interrupted" || state == "failed" {
			status = "failure"
		}
		s.Audits = append(s.Audits, auditRow{
			UserID: "u01", ID: "a" + n, Action: action, ResourceID: m.ID, RunID: id, Status: status, CreatedAt: at(begun), UpdatedAt: end,
		})
		s.Steps = append(s.Steps, step{At: at(begun), UserID: "u01", RunID: id, Attempt: 1, State: "running", Owner: "a-1"})
		if attempts == 2 {
			s.Steps = append(s.Steps, step{At: at(begun + 12), UserID: "u01", RunID: id, Attempt: 2, State: "running", Owner: "b-1", Recorded: "\x02" + text[:2]})
			end = at(begun + 13)
		}
		s.Steps = append(s.Steps, step{At: end, UserID: "u01", RunID: id, Attempt: attempts, State: state, Recorded: "\x02" + text[:2]})
		cursor := h.delta("u01", id, 0, 4, 2, text[:3])
		h.delta("u01", id, cursor, int64(len(text))+1, 2, text[3:])
		h.ended("u01", id, state, true)
		h.finalContent("u01", id, text)
		h.pass(limiterDecision{"u98", at(begun), at(begun + 1), false})
	}
	turn("1", "reply", "completed", "re u01-00000001 one", 1, 0)
	turn("2", "reply", "interrupted", "re u01-00000002 two", 2, 10)
	turn("3", "reply", "stopped", "re u01-00000003 three", 1, 40)
	turn("4", "regeneration", "completed", "re u01-00000001 four", 1, 50)
	h.uploaded("u01", "f1", "digest")
	h.files.blobs = map[string]string{"ab/cd": "digest", "ab/fileblob123": "half"}
	s.Files = []fileRow{{"u01", "f1", "ready", "digest", "ab/cd"}, {"u01", "f2", "uploading", "", "ab/ef"}}
	h.now = func() time.Time { return at(42) }
	h.stopped("r3")
	s.Left = map[string]time.Time{"u01-00000003": at(42.5)}
	s.Calls["u01-00000001"] = 2
	s.Audits = append(s.Audits, auditRow{UserID: "u01", ID: "as", Action: "chat.reply_stopped", ResourceID: "r3", Status: "success"})
	s.Deaths = []death{{"a-1", at(10.5)}}
	// Of the owner that died: what it held later was a later life's.
	for i := range s.Steps {
		if s.Steps[i].Owner == "a-1" && s.Steps[i].At.After(at(20)) {
			s.Steps[i].Owner = "a-2"
		}
	}
	return h, s, map[string]int{"u98": 4}
}

func TestCheck_AcceptsFlawlessHistory(t *testing.T) {
	v := check(flawless())
	if len(v.violations) > 0 {
		t.Fatalf("found fault with a history without any: %v", v.violations)
	}
	if v.orphans != 1 || v.slowest != 11500*time.Millisecond || v.attempts != 1 || v.windows != 4 || v.undisturbed != 4 || v.stops != 1 || v.slowestStop != 500*time.Millisecond || v.states["completed"] != 2 {
		t.Errorf("counted %+v", v)
	}
}

// Every violation is found: a check that cannot fail proves nothing.
func TestCheck_Finds(t *testing.T) {
	run := func(s *snapshot, id string) *runRow {
		for i := range s.Runs {
			if s.Runs[i].ID == id {
				return &s.Runs[i]
			}
		}
		panic(id)
	}
	message := func(s *snapshot, id string) *messageRow {
		for i := range s.Messages {
			if s.Messages[i].ID == id {
				return &s.Messages[i]
			}
		}
		panic(id)
	}
	without := func(s *snapshot, id string) {
		for i, m := range s.Messages {
			if m.ID == id {
				s.Messages = append(s.Messages[:i:i], s.Messages[i+1:]...)
				return
			}
		}
		panic(id)
	}
	entry := func(s *snapshot, id string) *auditRow {
		for i := range s.Audits {
			if s.Audits[i].ID == id {
				return &s.Audits[i]
			}
		}
		panic(id)
	}
	for _, tt := range []struct {
		name, rule, evidence string
		violate              func(h *history, s *snapshot)
	}{
		{"a lost message", "I1", "m3, which is not stored", func(_ *history, s *snapshot) { without(s, "m3") }},
		{"a lost run", "I1", "run r1, which is not stored", func(_ *history, s *snapshot) { s.Runs = s.Runs[1:] }},
		{"a changed message", "I1", "was sent as", func(_ *history, s *snapshot) { message(s, "m2").Content += "!" }},
		{"a message twice", "I1", "is stored 2 times", func(_ *history, s *snapshot) {
			m := *message(s, "m2")
			m.ID = "m2b"
			s.Messages = append(s.Messages, m)
		}},
		{"two runs of a key", "I1", "made 2 runs", func(_ *history, s *snapshot) {
			r := *run(s, "r4")
			r.ID = "r4b"
			s.Runs = append(s.Runs, r)
		}},
		{"two first replies", "I1", "has 2 first replies", func(_ *history, s *snapshot) {
			r := *run(s, "r2")
			r.ID, r.Key = "r2b", ""
			s.Runs = append(s.Runs, r)
		}},
		{"two answers to a key", "I1", "then as", func(h *history, _ *snapshot) { h.acknowledge("k2", "m2", "r9") }},
		{"a reply without a run", "I1", "no run that made it", func(_ *history, s *snapshot) {
			s.Messages = append(s.Messages, messageRow{UserID: "u01", ID: "x", ConversationID: "c1", ParentID: "m1", Role: "assistant", Content: "x"})
		}},
		{"a completed run without a reply", "I1", "completed without a reply", func(_ *history, s *snapshot) { without(s, "r1") }},
		{"two texts of a reply", "I1", "was given as", func(h *history, _ *snapshot) { h.finalContent("u01", "r1", "another") }},
		{"a run that never ends", "I2", "is running", func(_ *history, s *snapshot) { run(s, "r1").State = "running" }},
		{"a run that ends twice", "I2", "was completed, then failed", func(_ *history, s *snapshot) {
			end := s.Steps[len(s.Steps)-1]
			end.State = "failed"
			s.Steps = append(s.Steps, end)
		}},
		{"an end that was told otherwise", "I2", "a reader was told", func(_ *history, s *snapshot) { run(s, "r1").State = "failed" }},
		{"two ends that were told", "I2", "ended as completed, then as failed", func(h *history, _ *snapshot) { h.ended("u01", "r1", "failed", false) }},
		{"a slow recovery", "I2", "undecided for", func(_ *history, s *snapshot) {
			s.Deaths[0].At = s.Deaths[0].At.Add(-8 * time.Second)
			s.Steps[2].At = s.Deaths[0].At
		}},
		{"a run that its owner does not know of", "I2", "which was alive", func(_ *history, s *snapshot) {
			s.Deaths = nil
			s.Steps[1].At = s.Steps[0].At.Add(26 * time.Second)
		}},
		{"an orphan for ever", "I2", "never taken over", func(_ *history, s *snapshot) { s.Steps = s.Steps[:3] }},
		{"another attempt at what was seen", "I2", "must be interrupted or stopped", func(_ *history, s *snapshot) {
			run(s, "r2").State = "completed"
		}},
		{"a late write", "I2", "after it had ended", func(_ *history, s *snapshot) { s.Wrongs = []wrongRow{{"I2", "written after it had ended"}} }},
		{"an action without entry", "I3", "run r2 has no audit entry", func(_ *history, s *snapshot) { entry(s, "a2").ID = "gone" }},
		{"an entry without action", "I3", "has no run", func(_ *history, s *snapshot) {
			s.Audits = append(s.Audits, auditRow{UserID: "u01", ID: "a9", Action: "chat.message_sent", RunID: "r9", Status: "success"})
		}},
		{"an entry of another action", "I3", "has no run", func(_ *history, s *snapshot) { entry(s, "a1").Action = "chat.reply_continued" }},
		{"an entry that stays pending", "I3", "its entry pending", func(_ *history, s *snapshot) { entry(s, "a1").Status = "pending" }},
		{"an entry with the wrong end", "I3", "its entry says failure", func(_ *history, s *snapshot) { entry(s, "a1").Status = "failure" }},
		{"a stop twice", "I3", "recorded 2 times", func(_ *history, s *snapshot) {
			a := *entry(s, "as")
			a.ID = "as2"
			s.Audits = append(s.Audits, a)
		}},
		{"a stop that is not recorded", "I3", "is not recorded", func(_ *history, s *snapshot) { entry(s, "as").Action = "chat.other" }},
		{"a stop of nothing", "I3", "which was not stopped", func(_ *history, s *snapshot) { entry(s, "as").ResourceID = "r1" }},
		{"a conversation that is not recorded", "I3", "recorded 0 times", func(_ *history, s *snapshot) { entry(s, "ac").Action = "chat.other" }},
		{"a conversation that is not there", "I3", "which there is not", func(_ *history, s *snapshot) { s.Threads = nil }},
		{"text of another user in a thread", "I4", "holds text of", func(_ *history, s *snapshot) { message(s, "r1").Content += " u02-00000007" }},
		{"text of another user on the wire", "I4", "was shown text of", func(h *history, _ *snapshot) { h.read("u01", "history", "re u02-00000007") }},
		{"another user's run", "I4", "which belongs to", func(h *history, _ *snapshot) { h.saw("u02", "r1") }},
		{"one run for two users", "I4", "was shown to", func(h *history, _ *snapshot) { h.ended("u02", "r1", "completed", false) }},
		{"a hole in a branch", "I4", "is not in its thread", func(_ *history, s *snapshot) { message(s, "r1").ParentID = "m9" }},
		{"a text that is not what was read", "I7", "not the beginning", func(_ *history, s *snapshot) { message(s, "r2").Content = "re something else" }},
		{"a text shorter than what was read", "I7", "not the beginning", func(_ *history, s *snapshot) { message(s, "r2").Content = "re" }},
		{"an end before the text", "I7", "read to the end and got", func(_ *history, s *snapshot) { message(s, "r2").Content += " and more" }},
		{"a reply that was given otherwise", "I7", "that is not the stored one", func(_ *history, s *snapshot) { message(s, "r2").Content += " and more" }},
		{"recorded output that is gone", "I7", "does not begin with what had been recorded", func(_ *history, s *snapshot) { s.Steps[len(s.Steps)-1].Recorded = "xx" }},
		{"a gap", "I7", "came with cursor", func(h *history, _ *snapshot) { h.delta("u01", "r1", 4, 10, 2, "one") }},
		{"a repeat", "I7", "one reader got", func(h *history, _ *snapshot) { h.delta("u01", "r1", 4, 7, 2, "re ") }},
		{"a cursor from nowhere", "I7", "were ever shown", func(h *history, _ *snapshot) { h.delta("u01", "r1", 900, 901, 2, "x") }},
		{"a run that was read and is gone", "I7", "which is not stored", func(h *history, _ *snapshot) { h.delta("u01", "r9", 0, 2, 2, "x") }},
		{"a file that is gone", "I8", "was acknowledged", func(_ *history, s *snapshot) { s.Files = s.Files[1:] }},
		{"a file without its bytes", "I8", "is not what was sent", func(h *history, _ *snapshot) { h.files.blobs["ab/cd"] = "other" }},
		{"a blob of no file", "I8", "belongs to no file", func(h *history, _ *snapshot) { h.files.blobs["ab/gh"] = "digest" }},
		{"too many questions", "provider", "asked 3 times", func(_ *history, s *snapshot) { s.Calls["u01-00000001"]++ }},
		{"a question about nothing", "provider", "in 0 attempts", func(_ *history, s *snapshot) { s.Calls["u01-00000009"] = 1 }},
		{"a stop that the provider does not hear of", "stop", "r3", func(_ *history, s *snapshot) {
			s.Left["u01-00000003"] = s.Left["u01-00000003"].Add(2 * time.Second)
		}},
		{"too many requests", "I6", "the limit is 4", func(h *history, _ *snapshot) { h.pass(h.decisions[0]) }},
		{"too many requests alone", "I6", "5 times by one instance", func(h *history, _ *snapshot) {
			g := h.decisions[0]
			g.alone = true
			for range 5 {
				h.pass(g)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, s, limits := flawless()
			tt.violate(h, &s)
			for _, v := range check(h, s, limits).violations {
				if v.rule == tt.rule && strings.Contains(v.evidence, tt.evidence) {
					return
				}
			}
			t.Errorf("not found; found %v", check(h, s, limits).violations)
		})
	}
}

// What a fault excuses is not reported.
func TestCheck_Excuses(t *testing.T) {
	t.Run("an outage during a recovery", func(t *testing.T) {
		h, s, limits := flawless()
		s.Deaths[0].At = s.Deaths[0].At.Add(-8 * time.Second)
		s.Steps[2].At = s.Deaths[0].At
		s.Outages = []span{{s.Steps[2].At, s.Steps[2].At.Add(5 * time.Second)}}
		for _, v := range check(h, s, limits).violations {
			if strings.Contains(v.evidence, "undecided") {
				t.Error(v)
			}
		}
	})
	t.Run("a burst after the limiter's loss", func(t *testing.T) {
		h, s, limits := flawless()
		first := h.decisions[0]
		h.pass(first)
		s.Lost = []span{{first.back, first.back}}
		if v := check(h, s, limits).violations; len(v) > 0 {
			t.Error(v)
		}
		for range 4 {
			h.pass(first)
		}
		if v := check(h, s, limits).violations; len(v) == 0 {
			t.Error("a second burst was not found")
		}
	})
}

func TestOutages(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	out := outages([]span{{at(0), at(5)}, {at(7), at(9)}, {at(3), at(6)}, {at(12), time.Time{}}}, at(20))
	want := []span{{at(6), at(7)}, {at(9), at(12)}}
	if len(out) != 2 || out[0] != want[0] || out[1] != want[1] {
		t.Errorf("outages() = %v, want %v", out, want)
	}
}

func TestOverlap(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	got := overlap(span{at(10), at(20)}, []span{{at(12), at(15)}, {at(0), at(11)}, {at(14), at(16)}, {at(19), at(30)}})
	if got != 6*time.Second {
		t.Errorf("overlap() = %v, want 6s", got)
	}
}

// The same seed draws the same faults, every kind among them.
func TestPlan(t *testing.T) {
	draw := func(seed uint64, n int) []fault { return plan(rand.New(rand.NewPCG(seed, 0)), n) }
	a, b := draw(7, 400), draw(7, 400)
	if len(a) != 400 {
		t.Errorf("%d faults, want 400", len(a))
	}
	kindsSeen := map[kind]int{}
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("fault %d differs: %v, %v", i, a[i], b[i])
		}
		kindsSeen[a[i].kind]++
	}
	for _, k := range kinds {
		if kindsSeen[k.kind] < 3 {
			t.Errorf("%s comes %d times", k.kind, kindsSeen[k.kind])
		}
	}
}
