package replies

import (
	"context"
	"errors"
	"maps"
	"runtime/debug"
	"strings"
	"time"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// start begins a task for which a place is reserved.
func (s *Service) start(t *task, conv chat.Conversation, branch []chat.Message) {
	s.registry.register(t)
	s.Feed.Publish(t.ctx, s.progress(t, t.run.Output))
	go func() {
		defer s.registry.remove(t)
		defer t.cancel(nil)
		s.generate(t, conv, branch)
	}()
}

// generate asks the model, and ends the run by its answer.
func (s *Service) generate(t *task, conv chat.Conversation, branch []chat.Message) {
	begun := s.Now()
	s.Observer.Observe(t.ctx, ports.RunStarted{Run: t.run, Waited: begun.Sub(t.accepted), Recover: t.recover})

	params := s.params(t.run.Params, conv)
	w := trimToBudget(branch, params.System, t.run.Prefix.Text(), s.opt.ContextMessages, s.opt.ContextTokens, s.Tokens)
	ctx, cancel := context.WithTimeout(t.ctx, s.opt.ReplyTimeout)
	answer, err := s.ask(ctx, t, ports.Prompt{
		UserID: t.run.UserID, RunID: t.run.ID, ConversationID: t.run.ConversationID, Trace: t.trace,
		NoCache: t.run.Kind == chat.Regeneration, Params: params, Messages: w.turns, ReadFile: s.ReadFile,
		Due: s.rec.due,
	})
	cancel()

	recorded, maybePersisted := s.rec.stopRecording(t)
	cause := context.Cause(t.ctx)
	o := s.outcome(t, answer, w)
	reason := ""
	if f := fault.As(err); f != nil {
		o.RetryAfter = f.RetryAfter
	}
	switch {
	case err == nil && !answers(t.run, o.Output):
		o.State, o.Failure = chat.Failed, FailureEmpty
	case err == nil:
		o.State = chat.Completed
	case errors.Is(cause, errFenced):
		s.handleFenced(t)
		return
	case errors.Is(cause, errStopped):
		// The reader keeps what the reader may have seen, not what was on its way.
		o.State, o.Output = chat.Stopped, o.Output.Cut(maybePersisted)
	case errors.Is(cause, errDrained) && !visibleToReader(t, o.Output.Cut(recorded)):
		s.release(t)
		return
	case errors.Is(cause, errDrained):
		o.State = chat.Interrupted
	default:
		o.State = chat.Failed
		o.Failure, reason = failure(err)
	}
	if s.finish(t, o, answer, reason) && o.State == chat.Completed {
		s.title(t, branch, o.Output.Text())
	}
}

// ask calls the model. A panic in it fails this run, not the process.
func (s *Service) ask(ctx context.Context, t *task, p ports.Prompt) (answer ports.Answer, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault.New(fault.Internal, "The model's adapter broke").With("reason", "panic")
			s.Observer.Observe(ctx, ports.BackgroundFailed{Task: "generate", Err: ports.Panic{Value: r, Stack: debug.Stack()}})
		}
	}()
	return s.Model.Generate(ctx, p, func(d chat.Delta) {
		if grown, first := t.add(d); grown {
			s.rec.markDirty(t, first)
		}
	})
}

// answers reports whether a whole reply says anything.
func answers(run chat.Run, o chat.Output) bool {
	_, leaves := chat.Outcome{Output: o}.Message()
	return leaves && o != run.Prefix
}

func visibleToReader(t *task, recorded chat.Output) bool {
	run := t.run
	run.Output = recorded
	return run.Seen()
}

// params fills what the caller left open with the conversation's settings, then
// with the configured ones.
func (s *Service) params(p chat.Params, conv chat.Conversation) chat.Params {
	if p.System == "" {
		p.System = conv.System
	}
	if p.System == "" {
		p.System = s.opt.SystemPrompt
	}
	if p.Model == "" && s.accepts(chat.Params{Provider: p.Provider, Model: conv.Model, Priced: p.Priced}) == nil {
		p.Model = conv.Model // which may have been available once
	}
	return p
}

func (s *Service) outcome(t *task, answer ports.Answer, w promptWindow) chat.Outcome {
	now := s.Now()
	meta := map[string]any{
		"generatedAt":   now.UTC().Format("2006-01-02T15:04:05.000Z"),
		"contextLength": len(w.turns),
	}
	if t.run.Metadata[metadataStreamed] == true {
		meta[metadataStreamed] = true
	}
	if w.dropped > 0 {
		meta["contextDropped"] = w.dropped
	}
	if answer.Provider != "" {
		meta["provider"], meta["model"] = answer.Provider, answer.Model
	}
	if answer.FinishReason != "" {
		meta["finishReason"] = answer.FinishReason
	}
	maps.Copy(meta, answer.Metadata)
	return chat.Outcome{
		UserID: t.run.UserID, RunID: t.run.ID, Attempt: t.run.Attempt,
		ConversationID: t.run.ConversationID, ParentID: t.run.ParentID, AuditID: t.run.AuditID,
		Output: t.output(), Provider: answer.Provider, Model: answer.Model, FinishReason: answer.FinishReason,
		Usage: answer.Usage, CostMicros: answer.CostMicros, Metadata: meta, At: now,
	}
}

// failure gives an error of the model its code for the run, and the finer
// reason for operators.
func failure(err error) (code, reason string) {
	if f := fault.As(err); f != nil {
		reason, _ = f.Details["reason"].(string)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return FailureTimeout, "deadline"
	case reason == FailureKey, reason == FailureFile, reason == FailureFiles:
		return reason, reason
	case fault.Is(err, fault.AIUnavailable):
		return FailureUnavailable, reason
	case strings.HasSuffix(reason, "_timeout"):
		return FailureTimeout, reason
	}
	return FailureProvider, reason
}

// finish makes the end durable, then publishes it. While the store is away it
// retries, since only this instance has the text. It reports whether the end was
// recorded for this attempt.
func (s *Service) finish(t *task, o chat.Outcome, answer ports.Answer, reason string) bool {
	if o.State != chat.Completed {
		o.Metadata["state"] = string(o.State)
	}
	ackUnknown := false // a Finish without an answer may have been executed
	var waiting bool    // another run waits for this one
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), s.opt.AdmitTimeout)
		behind, err := s.Store.Finish(ctx, o, chat.Finish)
		cancel()
		if err == nil {
			waiting = behind
			break
		}
		refused := fault.Is(err, fault.Fenced) || fault.Is(err, fault.NotFound)
		ackUnknown = ackUnknown || !refused
		// The heartbeat, too, misses a run that has ended.
		if refused || errors.Is(context.Cause(t.ctx), errFenced) {
			if ackUnknown && s.ended(t, o.State) {
				waiting = true // it may be, and did not say
				break
			}
			s.handleFenced(t)
			return false
		}
		s.Observer.Observe(t.ctx, ports.BackgroundFailed{Task: "finish", Err: err})
		select {
		case <-time.After(wait):
		case <-s.released: // shutting down: the lease expires, and another instance takes over
			return false
		}
	}
	s.publishEnd(t, o, answer, reason)
	if waiting {
		s.wakeSweeper()
	}
	return true
}

// ended reports whether the run is stored as ended in this state by this attempt:
// only this task can have done so.
func (s *Service) ended(t *task, state chat.State) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), s.opt.AdmitTimeout)
	defer cancel()
	run, err := s.Store.Run(ctx, t.run.UserID, t.run.ID)
	return err == nil && run.State == state && run.Attempt == t.run.Attempt
}

// publishEnd tells followers, the user's tabs and the observer of a durable end.
func (s *Service) publishEnd(t *task, o chat.Outcome, answer ports.Answer, reason string) {
	ctx := context.WithoutCancel(t.ctx)
	run := t.run
	run.State, run.Output, run.EndedAt = o.State, o.Output, o.At
	run.Provider, run.Model, run.FinishReason, run.Failure, run.RetryAfter = o.Provider, o.Model, o.FinishReason, o.Failure, o.RetryAfter
	run.Usage, run.CostMicros = o.Usage, o.CostMicros
	p := s.progress(t, o.Output)
	p.State, p.Ended = o.State, &run
	if m, ok := o.Message(); ok {
		p.Message = &m
	}
	s.Feed.Publish(ctx, p)
	s.Feed.Notify(ctx, ports.TopicUser(run.UserID))
	cached, _ := answer.Metadata["cached"].(bool)
	demo, _ := answer.Metadata["demo"].(bool)
	s.Observer.Observe(ctx, ports.RunFinished{
		RunID: run.ID, UserID: run.UserID, State: o.State, Provider: o.Provider, Model: o.Model,
		Failure: o.Failure, Reason: reason, FinishReason: o.FinishReason, Usage: o.Usage, CostMicros: o.CostMicros,
		Attempt: o.Attempt, Duration: o.At.Sub(t.accepted), Cached: cached, Demo: demo,
	})
}

// handleFenced drops a run that a newer attempt owns, or that is deleted. Its
// followers here read the store from now on.
func (s *Service) handleFenced(t *task) {
	ctx := context.WithoutCancel(t.ctx)
	s.Observer.Observe(ctx, ports.RunFenced{RunID: t.run.ID, Attempt: t.run.Attempt})
	s.Feed.Forget(ctx, t.run.UserID, t.run.ID)
}

// release gives up the lease of a run without output that was shown, so that
// another instance can claim it at once.
func (s *Service) release(t *task) {
	ctx, cancel := context.WithTimeout(context.Background(), s.opt.AdmitTimeout)
	defer cancel()
	defer s.Feed.Forget(ctx, t.run.UserID, t.run.ID)
	if err := s.Store.Release(ctx, s.opt.Owner, []string{t.run.ID}); err != nil {
		s.Observer.Observe(ctx, ports.BackgroundFailed{Task: "release", Err: err})
		return // the lease runs out by itself
	}
	s.Feed.Notify(ctx, ports.TopicQueue)
}

func (s *Service) progress(t *task, o chat.Output) ports.Progress {
	return ports.Progress{
		UserID: t.run.UserID, RunID: t.run.ID, Attempt: t.run.Attempt, State: chat.Running, Output: o,
	}
}
