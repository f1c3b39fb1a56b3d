package ports

import (
	"context"
	"time"

	"parley/domain/access"
	"parley/domain/chat"
)

// PromptMessage is one message of a prompt. A model gets its text, and its files
// as far as it can read them; parts of other kinds are passed over.
type PromptMessage struct {
	Role  chat.Role
	Parts []chat.Part
}

// PromptText is a message of text alone.
func PromptText(role chat.Role, text string) PromptMessage {
	return PromptMessage{Role: role, Parts: []chat.Part{{Kind: chat.TextPart, Text: text}}}
}

// Text is the text of the message, see chat.ContentOf.
func (m PromptMessage) Text() string { return chat.ContentOf(m.Parts) }

// Prompt is one request to a model. The context's deadline bounds the whole
// reply.
type Prompt struct {
	UserID         string // for the cache's scope and, hashed, the provider's abuse field; never a metric label
	RunID          string
	ConversationID string // "": the default thread
	Trace          string // of the request that began a recovered run, in W3C form; "": the context's own
	Params         chat.Params
	NoCache        bool            // do not answer from the reply cache: a regeneration
	Messages       []PromptMessage // oldest first; the last is the user's, or the assistant's when that is to be continued
	ReadFile       ReadFile        // reads the files of the messages; nil: there are none
	// Due returns when output will be recorded that is emitted after a time. Until
	// then nobody sees it, so a provider may read it all at once. nil: unknown.
	Due  func(after time.Time) time.Time
	Call ProviderCall // set for the provider that is called
}

// ProviderCall is which of the calls for one reply it is.
type ProviderCall struct {
	Kind   AttemptKind
	Number int // from 1
}

// ReadFile returns the bytes of a file of the user whose prompt it is. NotFound:
// it is gone. Unavailable: the files are away.
type ReadFile func(ctx context.Context, user, id string) ([]byte, error)

// Answer is the result of a generation, complete or not.
type Answer struct {
	Provider     string
	Model        string // as the provider names it
	FinishReason string // stop, length, content_filter, refusal ...; "" when it did not finish
	Usage        chat.Usage
	CostMicros   *int64         // millionths of a US dollar; nil: no known price
	Metadata     map[string]any // safe to store with the message: "demo", "cached", "fallback" ...
}

// Model generates replies.
type Model interface {
	// Generate streams one reply through emit, in order, as pieces whose Kind and
	// Text (or what the kind has) are set, and returns when the
	// stream has ended. The error is nil only if the provider reported the reply
	// as complete. Faults: AIUnavailable (no provider could be asked; retry
	// later), AIFailed (a provider was asked and failed; Details "reason"),
	// Canceled. The Answer holds what is known even with an error. emit does not
	// block and keeps no reference.
	Generate(ctx context.Context, p Prompt, emit func(chat.Delta)) (Answer, error)
}

// ModelInfo describes a model that callers can choose.
type ModelInfo struct {
	Provider string
	Model    string // "": the server has not said yet
	Default  bool
	State    string // of its breaker: closed, half-open, open
	Demo     bool   // not AI
	Disabled bool   // an operator has disabled its provider
	Problem  string // ProblemKeyRefused ...; "": none is known
	Detail   string // the problem as one sentence, without a secret
}

// Problems of a model that do not end by themselves.
const (
	ProblemKeyRefused   = "provider_auth"   // the provider refuses the configured key
	ProblemModelMissing = "model_not_found" // the provider does not have the model
	ProblemModelUnknown = "model_unknown"   // no model is configured, and the server's list does not say which
)

// Catalogue lists the configured models. It makes no request.
type Catalogue interface {
	Models() []ModelInfo
}

// Quote returns the most that a reply may use with any of the providers that may
// generate it: input tokens as given, output up to the bound of p or of the
// provider, at the highest price among them. Micros is 0 where no price is known.
// It refuses, as Invalid, params that ask for priced models only and choose one
// without a price.
type Quote func(p chat.Params, input int64) (access.Hold, error)

// Titles generates a title for a conversation from its first messages. The
// Answer holds the usage even with an error.
type Titles func(ctx context.Context, user string, p chat.Params, turns []PromptMessage) (string, Answer, error)

// Tokens estimates the tokens of a text, closely enough for a context window.
type Tokens func(text string) int
