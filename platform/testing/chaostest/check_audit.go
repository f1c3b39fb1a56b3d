package main

// runActions are the audited actions that make a run.
var runActions = map[string]string{
	"chat.message_sent": "reply", "chat.message_edited": "reply",
	"chat.reply_regenerated": "regeneration", "chat.reply_continued": "continuation",
}

// audit: every action has its entry, every entry its action.
func (b *ledger) audit(v *verdict, h *history) {
	entries := map[rowID]auditRow{}
	stops, made := map[rowID]int{}, map[rowID]int{}
	for _, a := range b.s.Audits {
		entries[rowID{a.UserID, a.ID}] = a
		if a.Action == "chat.reply_stopped" {
			stops[rowID{a.UserID, a.ResourceID}]++
			if run, ok := b.runByID[rowID{a.UserID, a.ResourceID}]; !ok || !run.StopRequested && run.State != "stopped" {
				v.add("I3", "entry %s tells of a stop of run %s, which was not stopped", a.ID, a.ResourceID)
			}
		}
		if a.Action == "chat.conversation_created" {
			made[rowID{a.UserID, a.ResourceID}]++
		}
		if kind, ok := runActions[a.Action]; ok {
			run, ok := b.runByID[rowID{a.UserID, a.RunID}]
			if !ok || run.AuditID != a.ID || run.Kind != kind {
				v.add("I3", "entry %s (%s) has no run", a.ID, a.Action)
			}
		}
	}
	for _, t := range b.s.Threads {
		id := rowID{t.UserID, t.ID}
		if made[id] != 1 {
			v.add("I3", "conversation %s was made once and is recorded %d times", t.ID, made[id])
		}
		delete(made, id)
	}
	for id := range made {
		v.add("I3", "an entry tells of conversation %s, which there is not", id.id)
	}
	for _, r := range b.s.Runs {
		a, ok := entries[rowID{r.UserID, r.AuditID}]
		switch {
		case !ok:
			v.add("I3", "run %s has no audit entry", r.ID)
		case runActions[a.Action] != r.Kind || a.RunID != r.ID:
			v.add("I3", "the entry %s of run %s tells of %s, run %s", a.ID, r.ID, a.Action, a.RunID)
		case terminal(r.State) && (a.Status == "pending" || a.UpdatedAt.Before(a.CreatedAt)):
			v.add("I3", "run %s is %s, its entry %s", r.ID, r.State, a.Status)
		case (a.Status == "failure") != (r.State == "failed" || r.State == "interrupted"):
			v.add("I3", "run %s is %s, its entry says %s", r.ID, r.State, a.Status)
		}
		id := rowID{r.UserID, r.ID}
		if stops[id] > 1 {
			v.add("I3", "the stop of run %s is recorded %d times", r.ID, stops[id])
		}
		if !h.stops[r.ID].IsZero() && r.StopRequested && stops[id] == 0 {
			v.add("I3", "the stop of run %s is not recorded", r.ID)
		}
	}
}
