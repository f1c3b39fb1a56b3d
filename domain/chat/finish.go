package chat

import (
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
)

// Ending is the end of one run, with what goes with it.
type Ending struct {
	RunID string
	State State
	At    time.Time
	// Reparent is the message behind which the messages move that follow the
	// run: it left no text, and no branch may have a hole. "": they stay.
	Reparent string
	Audit    AuditEnd
	Settle   UsageChange
	Ended    RunEnded // for webhooks
}

// AuditEnd completes a pending audit entry.
type AuditEnd struct {
	ID     string
	Status audit.Status
	Error  string // a code
	At     time.Time
}

// UsageChange is added to what a user has used on a day. What a run holds needs
// no change: holds are those of the user's live runs.
type UsageChange struct {
	Day            string // of the admission, see access.Day
	Tokens, Micros int64
	Replies        int64
}

// FinishState is the stored state that the end of a run is decided by.
type FinishState struct {
	Run           *Run      // without output; nil: there is none of that id
	AskedAt       time.Time // when the message that it answers was sent; zero: it is gone
	Followed      bool      // a message follows the run
	LastMessageAt time.Time // of the conversation
	Waiting       bool      // another run of the conversation has not ended
}

// FinishPlan is what the end of a run changes, all of it or nothing.
type FinishPlan struct {
	Outcome Outcome // as requested, with the run's own conversation and parent
	End     Ending
	Message *Message // to insert; nil: the run left no text
	Thread  *ThreadChange
	Waiting bool // another run waits in the conversation
}

// Finish decides how a run ends. Fenced: a newer attempt owns the run, it has
// ended, or it does not exist.
func Finish(o Outcome, state FinishState) (FinishPlan, error) {
	run := state.Run
	switch {
	case !o.State.Terminal():
		return FinishPlan{}, fault.New(fault.Internal, "A run cannot end as %s", o.State)
	case o.UserID == "", run == nil, run.State.Terminal(), run.Attempt != o.Attempt:
		return FinishPlan{}, fault.New(fault.Fenced, "This run has ended or belongs to another attempt")
	case !run.State.CanBecome(o.State):
		return FinishPlan{}, fault.New(fault.Internal, "A run that is %s cannot end as %s", run.State, o.State)
	}
	o.At = latest(micros(o.At), run.CreatedAt)
	o.ConversationID, o.ParentID, o.AuditID = run.ConversationID, run.ParentID, run.AuditID
	used := access.Hold{Tokens: o.Usage.Input + o.Usage.Output}
	if o.CostMicros != nil {
		used.Micros = *o.CostMicros
	}
	plan := FinishPlan{
		Outcome: o,
		Waiting: state.Waiting,
		End: Ending{
			RunID: o.RunID, State: o.State, At: o.At, Audit: auditEnd(o),
			Settle: settle(used, run.CreatedAt),
		},
	}
	m, ok := o.Message()
	if !ok {
		plan.End.Reparent = run.ParentID
		plan.End.Ended = o.ended(run.CreatedAt, nil)
		return plan, nil
	}
	m.CreatedAt = after(o.At, state.AskedAt)
	plan.Message = &m
	plan.End.Ended = o.ended(run.CreatedAt, &m)
	plan.Thread = &ThreadChange{ConversationID: m.ConversationID, LastMessageAt: latest(m.CreatedAt, state.LastMessageAt), UpdatedAt: o.At}
	// A message that follows the run is the thread's end, and so is the one of a
	// request that took the run's place.
	if superseded := run.StopRequested && state.Waiting; !state.Followed && !superseded {
		plan.Thread.Leaf = m.ID
	}
	return plan, nil
}

func auditEnd(o Outcome) AuditEnd {
	e := AuditEnd{ID: o.AuditID, Status: audit.Success, At: o.At}
	if o.State == Failed || o.State == Interrupted {
		e.Status, e.Error = audit.Failure, o.Failure
		if e.Error == "" {
			e.Error = string(o.State)
		}
	}
	return e
}

// StopPlan is what a request to stop a run changes.
type StopPlan struct {
	Request bool    // the run is marked, for its owner to stop it
	End     *Ending // it has no owner: it ends at once
}

// Changes reports whether the request has an effect, and so is audited: a run
// that has ended or was asked before stays as it is.
func (p StopPlan) Changes() bool { return p.Request || p.End != nil }

// Stop decides what a request to stop a run does.
func Stop(run LiveRun, at time.Time) StopPlan {
	switch {
	case run.State == Running:
		return StopPlan{Request: !run.StopRequested}
	case run.State.CanBecome(Stopped):
		end := endQueued(run, micros(at))
		return StopPlan{End: &end}
	}
	return StopPlan{}
}

// Delete decides how the live runs of a conversation end that is deleted with
// them. Their rows are deleted too: what is left of them is their audit entries
// and their usage. promptBytes is the size of the conversation's newest
// messages. Only the owner of a run knows what it has used, so that a run that
// still has one is charged an estimate: its prompt and its recorded output, at
// most what was held.
func Delete(live []LiveRun, promptBytes int64, at time.Time) []Ending {
	ends := make([]Ending, 0, len(live))
	for _, run := range live {
		end := endQueued(run, micros(at))
		end.Ended.Reason = reasonDeleted
		if run.State == Running {
			end.Settle = settle(estimate(run.Hold, promptBytes+run.OutputBytes), run.CreatedAt)
		}
		ends = append(ends, end)
	}
	return ends
}

// bytesPerToken is the usual size of a token in English text.
const bytesPerToken = 4

// estimate is the use of that many bytes, at the price that was held.
func estimate(held access.Hold, bytes int64) access.Hold {
	tokens := (bytes + bytesPerToken - 1) / bytesPerToken
	if held.Tokens <= 0 {
		return access.Hold{Tokens: tokens}
	}
	tokens = min(tokens, held.Tokens)
	return access.Hold{Tokens: tokens, Micros: int64(float64(held.Micros) * float64(tokens) / float64(held.Tokens))}
}

// endQueued stops a run that has not started: it has used nothing.
func endQueued(run LiveRun, at time.Time) Ending {
	at = latest(at, run.CreatedAt)
	return Ending{
		RunID: run.ID, State: Stopped, At: at, Reparent: run.ParentID,
		Audit:  AuditEnd{ID: run.AuditID, Status: audit.Success, At: at},
		Settle: settle(access.Hold{}, run.CreatedAt),
		Ended: RunEnded{
			RunID: run.ID, ConversationID: run.ConversationID, ParentID: run.ParentID, State: Stopped, Reason: reasonStopped,
			CreatedAt: run.CreatedAt, At: at,
		},
	}
}

// settle is one reply and what it has used, on the day of its admission.
func settle(used access.Hold, admitted time.Time) UsageChange {
	return UsageChange{Day: access.Day(admitted), Tokens: used.Tokens, Micros: used.Micros, Replies: 1}
}

// latest returns the later of two times. Instances read their clocks before they
// wait for a lock, and clocks differ: nothing ends before it was created.
func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
