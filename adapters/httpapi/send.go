package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"parley/app/replies"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// paramsWire are the caller's wishes for one reply.
type paramsWire struct {
	Provider    string   `json:"provider" is:"maxLength=200"`
	Model       string   `json:"model" is:"maxLength=200"`
	System      string   `json:"system" is:"maxLength=32768"`
	Temperature *float64 `json:"temperature" is:"minimum=0,maximum=2" refuse:"temperature must be between 0 and 2"`
	MaxTokens   *int     `json:"maxTokens" is:"minimum=1,maximum=1000000" refuse:"maxTokens must be between 1 and 1000000"`
	Reasoning   string   `json:"reasoning" is:"enum=low|medium|high" refuse:"reasoning must be low, medium or high"`
}

func (in paramsWire) params() (chat.Params, error) {
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

// how a caller wants its answer.
type how int

const (
	whole      how = iota // when the reply is finished
	streamed              // while it is made
	background            // not at all: it will come back
)

// deliveryWire is what all requests for a reply have in common.
type deliveryWire struct {
	Background  bool          `json:"background" refuse:"background must be true or false"`
	Stream      bool          `json:"stream" refuse:"stream must be true or false"`
	StreamQuery bool          `query:"stream" refuse:"stream must be true or false"`
	WhenBusy    chat.WhenBusy `json:"whenBusy" refuse:"whenBusy must be reject, queue or interrupt"`
	Key         string        `header:"Idempotency-Key" is:"maxLength=255"`
	renderWire
}

func (in deliveryWire) how() (how, error) {
	switch stream := in.Stream || in.StreamQuery; {
	case stream && in.Background:
		return whole, fault.New(fault.Invalid, "A reply is either streamed or made in the background")
	case stream:
		return streamed, nil
	case in.Background:
		return background, nil
	}
	return whole, nil
}

// key reads an idempotency key: bare, or quoted as the header's draft has it.
func (in deliveryWire) key() (string, error) {
	key := strings.TrimSpace(in.Key)
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

// wish is a request for a reply, as its use case wants it.
type wish[In any] struct {
	in        In
	principal access.Principal
	how       how
	html      bool
}

func (w wish[In]) opensStream() bool { return w.how == streamed }

// sendWire is a new message.
type sendWire struct {
	Content      string         `json:"content" is:"required,minLength=1,maxLength=10000" refuse:"Message content is required"`
	Conversation string         `json:"conversationId" names:"conversation" refuse:"Invalid conversation ID"`
	Metadata     map[string]any `json:"metadata" refuse:"metadata must be an object"`
	ID           string         `json:"id" names:"new message" refuse:"Invalid message ID"` // the client's own
	Parent       string         `json:"parentId" names:"message" refuse:"Invalid parent ID"`
	paramsWire
	deliveryWire
}

func acceptSend(c call, in sendWire) (wish[replies.Send], error) {
	out := wish[replies.Send]{principal: c.principal}
	var err error
	if out.how, err = in.how(); err != nil {
		return out, err
	}
	if out.html, err = in.html(); err != nil {
		return out, err
	}
	out.in, err = in.send(c)
	return out, err
}

func acceptStream(c call, in sendWire) (wish[replies.Send], error) {
	in.Stream = true
	return acceptSend(c, in)
}

func (in sendWire) send(c call) (replies.Send, error) {
	params, err := in.params()
	if err != nil {
		return replies.Send{}, err
	}
	key, err := in.key()
	if err != nil {
		return replies.Send{}, err
	}
	if c.onlyReplay != nil && key == "" && in.ID == "" {
		return replies.Send{}, c.onlyReplay // nothing by which a repeat could be known
	}
	return replies.Send{
		Principal: c.principal, Caller: c.caller, MessageID: in.ID, ConversationID: in.Conversation, Leaf: in.Parent,
		Content: in.Content, Metadata: in.Metadata, Params: params,
		Background: in.Background, WhenBusy: in.WhenBusy, Key: key, OnlyReplay: c.onlyReplay,
	}, nil
}

// editWire is a message that takes the place of an earlier one.
type editWire struct {
	Target   string         `path:"id" names:"message"`
	Content  string         `json:"content" is:"required,minLength=1,maxLength=10000" refuse:"Message content is required"`
	Metadata map[string]any `json:"metadata" refuse:"metadata must be an object"`
	ID       string         `json:"id" names:"new message" refuse:"Invalid message ID"`
	paramsWire
	deliveryWire
}

func acceptEdit(c call, in editWire) (wish[replies.Edit], error) {
	sent, err := acceptSend(c, sendWire{
		Content: in.Content, Metadata: in.Metadata, ID: in.ID, paramsWire: in.paramsWire, deliveryWire: in.deliveryWire,
	})
	return wish[replies.Edit]{replies.Edit{Send: sent.in, Target: in.Target}, c.principal, sent.how, sent.html}, err
}

// againWire asks for another reply, or the rest of one.
type againWire struct {
	Target string `path:"id" names:"message"`
	paramsWire
	deliveryWire
}

func acceptAgain(c call, in againWire) (wish[replies.Again], error) {
	sent, err := acceptSend(c, sendWire{paramsWire: in.paramsWire, deliveryWire: in.deliveryWire})
	return wish[replies.Again]{replies.Again{
		Principal: c.principal, Caller: c.caller, Target: in.Target, Params: sent.in.Params,
		Background: sent.in.Background, WhenBusy: sent.in.WhenBusy, Key: sent.in.Key, OnlyReplay: sent.in.OnlyReplay,
	}, c.principal, sent.how, sent.html}, err
}

// answered is what came of a wish.
type answered struct {
	how   how
	html  bool
	turn  replies.Turn
	reply replies.Reply // when whole
	following
}

// answer makes a use case of one that takes a message: it is taken, and then
// waited for as the caller wants.
func answer[In any](a *API, take func(context.Context, In) (replies.Turn, error)) func(context.Context, wish[In]) (answered, error) {
	return func(ctx context.Context, w wish[In]) (out answered, err error) {
		out.how, out.html = w.how, w.html
		if out.turn, err = take(ctx, w.in); err != nil {
			return out, err
		}
		switch w.how {
		case whole:
			began := time.Now()
			out.reply, err = a.Replies.Wait(ctx, w.principal, out.turn)
			if c := callOf(ctx); err == nil && time.Since(began) >= a.CheckInterval && !a.Gate.StillValid(ctx, c.credential, c.principal) {
				err = fault.New(fault.Unauthenticated, sessionEnded)
			}
		case streamed:
			out.following = following{a.Replies.FollowTurn(ctx, w.principal, out.turn), w.html}
		case background:
		}
		return out, err
	}
}

// sentJSON is a message with the whole reply to it.
type sentJSON struct {
	UserMessage      messageJSON `json:"userMessage"`
	AssistantMessage messageJSON `json:"assistantMessage"`
}

// takenJSON is a message that will be replied to in the background.
type takenJSON struct {
	UserMessage messageJSON `json:"userMessage"`
	RunID       string      `json:"runId"`
	State       chat.State  `json:"state"`
}

// answers encodes what came of a wish, in whichever way it was wished for.
func (a *API) answers() encoder[answered] {
	return encoder[answered]{[]Answer{
		jsonAnswer[sentJSON](http.StatusCreated), jsonAnswer[takenJSON](http.StatusAccepted), replyEvents,
	}, a.encodeAnswer}
}

// streams does so where a stream is the only way.
func (a *API) streams() encoder[answered] {
	return encoder[answered]{[]Answer{replyEvents}, a.encodeAnswer}
}

func (a *API) encodeAnswer(ctx context.Context, w http.ResponseWriter, out answered) error {
	turnHeaders(w.Header(), out.turn)
	render := renderMessages(ctx, out.html)
	switch out.how {
	case streamed:
		return a.encodeFollow(ctx, w, out.following)
	case background:
		return encodeJSON(w, http.StatusAccepted, takenJSON{render.message(out.turn.UserMessage), out.turn.Run.ID, out.turn.Run.State})
	}
	return encodeJSON(w, http.StatusCreated, sentJSON{render.message(out.reply.UserMessage), render.message(out.reply.AssistantMessage)})
}

func turnHeaders(h http.Header, t replies.Turn) {
	if t.Replayed {
		h.Set("Idempotency-Replayed", "true")
	}
	budgetHeaders(h, t.Left)
}

func (a *API) stop(ctx context.Context, in one) (chat.Run, error) {
	return a.Replies.Stop(ctx, in.principal, in.caller, in.id)
}
