package rows

import (
	"encoding/json"
	"fmt"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// FromRun makes a row.
func FromRun(r chat.Run) (Run, error) {
	params, err := json.Marshal(r.Params)
	if err != nil {
		return Run{}, fault.Wrap(err, fault.Invalid, "These parameters cannot be stored")
	}
	metadata, err := marshal(r.Metadata)
	return Run{
		UserID: r.UserID, ID: r.ID, ConversationID: r.ConversationID, ParentID: r.ParentID,
		Kind: string(r.Kind), State: string(r.State), Attempt: r.Attempt, Owner: r.Owner, LeaseUntil: Time(r.LeaseUntil),
		StopRequested: r.StopRequested, Background: r.Background, Params: string(params),
		Prefix:   string(r.Prefix),
		Provider: r.Provider, Model: r.Model, FinishReason: r.FinishReason, Failure: r.Failure,
		UsageInput: r.Usage.Input, UsageOutput: r.Usage.Output, UsageCacheRead: r.Usage.CacheRead,
		UsageCacheWrite: r.Usage.CacheWrite, UsageReasoning: r.Usage.Reasoning, UsageEstimated: r.Usage.Estimated,
		CostMicros: r.CostMicros, HoldTokens: r.Hold.Tokens, HoldMicros: r.Hold.Micros,
		IdempotencyKey: r.IdempotencyKey, Fingerprint: r.Fingerprint, AuditID: r.AuditID,
		Metadata: metadata, CreatedAt: Time(r.CreatedAt), StartedAt: Time(r.StartedAt), EndedAt: Time(r.EndedAt),
	}, err
}

// Domain returns the noun, whose output is what the run starts from.
func (r Run) Domain() (chat.Run, error) {
	run := chat.Run{
		ID: r.ID, UserID: r.UserID, ConversationID: r.ConversationID, ParentID: r.ParentID,
		Kind: chat.Kind(r.Kind), State: chat.State(r.State), Attempt: r.Attempt, Owner: r.Owner, LeaseUntil: Time(r.LeaseUntil),
		StopRequested: r.StopRequested, Background: r.Background,
		Prefix: chat.Output(r.Prefix), Output: chat.Output(r.Prefix),
		Provider: r.Provider, Model: r.Model, FinishReason: r.FinishReason, Failure: r.Failure,
		Usage: chat.Usage{
			Input: r.UsageInput, Output: r.UsageOutput, CacheRead: r.UsageCacheRead,
			CacheWrite: r.UsageCacheWrite, Reasoning: r.UsageReasoning, Estimated: r.UsageEstimated,
		},
		CostMicros: r.CostMicros, Hold: access.Hold{Tokens: r.HoldTokens, Micros: r.HoldMicros},
		IdempotencyKey: r.IdempotencyKey, Fingerprint: r.Fingerprint, AuditID: r.AuditID,
		CreatedAt: Time(r.CreatedAt), StartedAt: Time(r.StartedAt), EndedAt: Time(r.EndedAt),
	}
	if r.Params != "" {
		if err := json.Unmarshal([]byte(r.Params), &run.Params); err != nil {
			return chat.Run{}, fmt.Errorf("read params of run %s: %w", r.ID, err)
		}
	}
	var err error
	run.Metadata, err = unmarshal(r.Metadata)
	return run, err
}
