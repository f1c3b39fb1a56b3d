package ports

import (
	"context"

	"parley/domain/access"
	"parley/domain/chat"
)

// Turn is one message as a provider gets it.
type Turn struct {
	Role chat.Role
	Text string
}

// Prompt is one question to a model. The context's deadline bounds the whole
// reply.
type Prompt struct {
	UserID         string // for the scope of a cache and the provider's abuse field (hashed), never a label
	RunID          string
	ConversationID string // "": the default thread
	Trace          string // the request that a run taken over came from, in W3C form; "": the context's own
	Params         chat.Params
	Fresh          bool   // a reply that was given before will not do: a regeneration
	Turns          []Turn // oldest first; the last one is the user's, or the assistant's when it is to be continued
}

// Answer is how a generation ended, as far as it got.
type Answer struct {
	Provider     string
	Model        string // as the provider names it
	FinishReason string // stop, length, content_filter, refusal ...; "" when it did not finish
	Usage        chat.Usage
	CostMicros   *int64         // millionths of a US dollar; nil: no known price
	Metadata     map[string]any // safe facts for the message: "demo", "cached", "fallback" ...
}

// Model makes replies.
type Model interface {
	// Generate streams one reply through emit, in order, and returns when the
	// stream has ended. The error is nil only if the provider said that the
	// reply is whole. Faults: AIUnavailable (nothing could be asked, try later),
	// AIFailed (asked, and it went wrong; Details "reason"), Canceled. The Answer holds what is
	// known even when there is an error. emit does not block and keeps no reference.
	Generate(ctx context.Context, p Prompt, emit func(chat.Delta)) (Answer, error)
}

// ModelInfo describes a model that can be asked for.
type ModelInfo struct {
	Provider string
	Model    string
	Default  bool
	State    string // of its breaker: closed, half-open, open
	Demo     bool   // not AI
}

// Catalogue says which models there are. It asks nobody.
type Catalogue interface {
	Models() []ModelInfo
}

// Quote returns the most that a reply may use, whichever of the providers makes
// it: input tokens as given, output up to the bound of p or of the provider,
// at the highest price among them. Micros is 0 where no price is known.
type Quote func(p chat.Params, input int64) access.Hold

// Titles makes a title for a conversation from its first turns. An error says
// that there is none; the Answer says what asking has cost all the same.
type Titles func(ctx context.Context, user string, p chat.Params, turns []Turn) (string, Answer, error)

// Tokens counts the tokens of a text, near enough for a context window.
type Tokens func(text string) int
