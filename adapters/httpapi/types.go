package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/app/replies"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// The media types of answers.
const (
	MediaJSON     = "application/json"
	MediaProblem  = "application/problem+json"
	MediaEvents   = "text/event-stream"
	MediaMarkdown = "text/markdown"
	MediaText     = "text/plain"
)

// Timestamp formats times for the wire: ISO 8601, UTC, milliseconds.
func Timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Optional returns nil, which is null in JSON, for "".
func Optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// NoInput is the input of a route that reads nothing of a request, and the
// output of an operation that returns nothing.
type NoInput struct{}

// DecodeCall decodes the input of an operation that needs only the caller.
func DecodeCall(c Call, _ NoInput) (Call, error) { return c, nil }

// ReplyParams are the caller's parameters of one reply, members of a body.
type ReplyParams struct {
	Provider    string   `json:"provider" schema:"maxLength=200"`
	Model       string   `json:"model" schema:"maxLength=200"`
	System      string   `json:"system" schema:"maxLength=32768"`
	Temperature *float64 `json:"temperature" schema:"minimum=0,maximum=2" errmsg:"temperature must be between 0 and 2"`
	MaxTokens   *int     `json:"maxTokens" schema:"minimum=1,maximum=1000000" errmsg:"maxTokens must be between 1 and 1000000"`
	Reasoning   string   `json:"reasoning" schema:"enum=low|medium|high" errmsg:"reasoning must be low, medium or high"`
}

// Decode checks the parameters.
func (in ReplyParams) Decode() (chat.Params, error) {
	p := chat.Params{
		Provider: in.Provider, Model: in.Model, System: in.System, Temperature: in.Temperature, Reasoning: in.Reasoning,
	}
	if in.MaxTokens != nil {
		p.MaxTokens = *in.MaxTokens
	}
	const longestName, longestSystem = 200, 32 << 10
	switch {
	case len(in.Provider) > longestName || chat.ValidateText(in.Provider) != nil:
		return p, fault.New(fault.Invalid, "Invalid provider")
	case len(in.Model) > longestName || chat.ValidateText(in.Model) != nil:
		return p, fault.New(fault.Invalid, "Invalid model")
	case len(in.System) > longestSystem:
		return p, fault.New(fault.Invalid, "System prompt cannot exceed %d bytes", longestSystem)
	case in.Temperature != nil && (*in.Temperature < 0 || *in.Temperature > 2):
		return p, fault.New(fault.Invalid, "temperature must be between 0 and 2")
	case in.MaxTokens != nil && (*in.MaxTokens < 1 || *in.MaxTokens > 1_000_000):
		return p, fault.New(fault.Invalid, "maxTokens must be between 1 and 1000000")
	}
	switch in.Reasoning {
	case "", "low", "medium", "high":
		return p, nil
	}
	return p, fault.New(fault.Invalid, "reasoning must be low, medium or high")
}

// IdempotencyKey is the header by which a repeat of a request is recognised.
type IdempotencyKey struct {
	Value string `header:"Idempotency-Key" schema:"maxLength=255"`
}

// Decode reads the key: bare, or quoted as the header's draft has it.
func (in IdempotencyKey) Decode() (string, error) {
	key := strings.TrimSpace(in.Value)
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(key[1 : len(key)-1])
		if key == "" {
			return "", fault.New(fault.Invalid, "Idempotency key cannot be empty")
		}
	}
	if len(key) > 255 {
		return "", fault.New(fault.Invalid, "Idempotency key cannot exceed 255 characters")
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return "", fault.New(fault.Invalid, "Idempotency key must be printable ASCII")
		}
	}
	return key, nil
}

// Run is a run on the wire.
type Run struct {
	RunID          string     `json:"runId"`
	ConversationID *string    `json:"conversationId"`
	ParentID       *string    `json:"parentId"` // the user message that it answers
	Kind           chat.Kind  `json:"kind"`
	State          chat.State `json:"state"`
	StopRequested  bool       `json:"stopRequested"`
	Failure        string     `json:"failure,omitempty"` // a code
	CreatedAt      string     `json:"createdAt" schema:"format=date-time"`
	EndedAt        *string    `json:"endedAt" schema:"format=date-time"`
}

// RunOf converts a run.
func RunOf(r chat.Run) Run {
	out := Run{
		RunID: r.ID, ConversationID: Optional(r.ConversationID), ParentID: Optional(chat.ClientID(r.ParentID)), Kind: r.Kind,
		State: r.State, StopRequested: r.StopRequested, Failure: r.Failure, CreatedAt: Timestamp(r.CreatedAt),
	}
	if !r.EndedAt.IsZero() {
		out.EndedAt = Optional(Timestamp(r.EndedAt))
	}
	return out
}

// RunsOf converts runs.
func RunsOf(runs []chat.Run) []Run {
	out := make([]Run, len(runs))
	for i, r := range runs {
		out[i] = RunOf(r)
	}
	return out
}

// CodeInterrupted is the code of a reply whose instance died. Only streams use
// it: a request that waits is answered when another instance has made the reply.
const CodeInterrupted fault.Kind = "INTERRUPTED"

// RunFailure returns the sentence and the code for a run that ended without a
// complete reply; failed is false for one that completed or was stopped.
func RunFailure(run chat.Run) (sentence string, code fault.Kind, failed bool) {
	switch {
	case run.State == chat.Interrupted:
		return "The reply was interrupted; its text so far is kept, and it can be continued", CodeInterrupted, true
	case run.State == chat.Failed:
		f := replies.Failed(run)
		return f.Message, f.Kind, true
	}
	return "", "", false
}

// SetTurnHeaders says whether an answer is a replay, and what is left of the
// caller's budget.
func SetTurnHeaders(h http.Header, t replies.Accepted) {
	if t.Replayed {
		h.Set("Idempotency-Replayed", "true")
	}
	setBudgetHeaders(h, t.Remaining)
}

func setBudgetHeaders(h http.Header, left access.Remaining) {
	if left.Tokens != nil {
		h.Set("X-Budget-Remaining-Tokens", strconv.FormatInt(*left.Tokens, 10))
	}
	if left.Micros != nil {
		h.Set("X-Budget-Remaining-Usd", strconv.FormatFloat(Dollars(*left.Micros), 'f', -1, 64))
	}
	if !left.Reset.IsZero() {
		h.Set("X-Budget-Reset", Timestamp(left.Reset))
	}
}

// Dollars converts millionths of a US dollar.
func Dollars(micros int64) float64 { return float64(micros) / 1e6 }
