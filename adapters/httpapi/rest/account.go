package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"reflect"
	"strings"
	"time"

	"parley/adapters/httpapi"
	"parley/app/conversations"
	"parley/app/gate"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// spentJSON is the usage of one period, and its limits.
type spentJSON struct {
	Period       string   `json:"period"`
	Tokens       int64    `json:"tokens"`
	HeldTokens   int64    `json:"heldTokens"` // set aside for unfinished replies
	TokenLimit   *int64   `json:"tokenLimit"` // null: none
	CostUSD      float64  `json:"costUsd"`
	HeldCostUSD  float64  `json:"heldCostUsd"`
	CostLimitUSD *float64 `json:"costLimitUsd"`
	Replies      int64    `json:"replies"`
	Reset        string   `json:"reset" schema:"format=date-time"`
}

type usageJSON struct {
	Tier    access.Tier `json:"tier"`
	Day     spentJSON   `json:"day"`
	Month   spentJSON   `json:"month"`
	Replies liveJSON    `json:"concurrentReplies"`
}

type liveJSON struct {
	Live  int  `json:"live"`
	Limit *int `json:"limit"` // null: none
}

type account struct {
	tier access.Tier
	gate.Account
}

func (s Services) usage(ctx context.Context, c httpapi.Call) (account, error) {
	got, err := s.Gate.Usage(ctx, c.Principal)
	return account{c.Principal.Tier, got}, err
}

func usageOf(a account) usageJSON {
	out := usageJSON{
		Tier:  a.tier,
		Day:   spentOf(access.Day(a.At), a.Day, a.Budget.DayTokens, a.Budget.DayMicros, access.NextDay(a.At)),
		Month: spentOf(access.Month(a.At), a.Month, a.Budget.MonthTokens, a.Budget.MonthMicros, access.NextMonth(a.At)),
	}
	out.Replies.Live = a.Live
	if a.Budget.Replies > 0 {
		out.Replies.Limit = &a.Budget.Replies
	}
	return out
}

func spentOf(period string, s access.Spent, tokens, micros int64, reset time.Time) spentJSON {
	out := spentJSON{
		Period: period, Tokens: s.Tokens, HeldTokens: s.HeldTokens, Replies: s.Replies,
		CostUSD: httpapi.Dollars(s.Micros), HeldCostUSD: httpapi.Dollars(s.HeldMicros), Reset: httpapi.Timestamp(reset),
	}
	if tokens > 0 {
		out.TokenLimit = &tokens
	}
	if micros > 0 {
		limit := httpapi.Dollars(micros)
		out.CostLimitUSD = &limit
	}
	return out
}

// exportedJSON is all data of a user. The default thread is the conversation
// without an id.
type exportedJSON struct {
	UserID        string                     `json:"userId"`
	ExportedAt    string                     `json:"exportedAt"`
	Usage         usageJSON                  `json:"usage"`
	Conversations []exportedConversationJSON `json:"conversations"`
	Files         []fileJSON                 `json:"files"`  // their content is at their URLs
	Shares        []shareJSON                `json:"shares"` // that have not ended
}

type exportedConversationJSON struct {
	ID       *string       `json:"id"`
	Title    *string       `json:"title"`
	Created  *string       `json:"createdAt"`
	System   string        `json:"systemPrompt,omitempty"`
	Model    string        `json:"model,omitempty"`
	Messages []messageJSON `json:"messages"`
}

type export struct {
	user    string
	at      time.Time
	account account
	entries iter.Seq2[conversations.Exported, error]
	files   iter.Seq2[chat.File, error]
	shares  []chat.Share
}

func (s Services) export(ctx context.Context, c httpapi.Call) (export, error) {
	used, err := s.usage(ctx, c)
	if err != nil {
		return export{}, err
	}
	shares, err := s.Conversations.AllShares(ctx, c.Principal)
	return export{c.Principal.UserID, s.Now(), used, s.Conversations.Export(ctx, c.Principal, c.Caller), s.Files.All(ctx, c.Principal), shares}, err
}

var exportEncoder = httpapi.Encoder[export]{Answers: []httpapi.Answer{httpapi.JSONAnswer[exportedJSON](http.StatusOK)}, Encode: encodeExport}

// encodeExport writes an export entry by entry: it may be larger than memory.
// An error after the first entry cuts the connection, so that a part of an
// export is not taken for a complete one.
func encodeExport(_ context.Context, w *httpapi.Response, e export) error {
	begun := false
	begin := func() {
		begun = true
		w.Header().Set("Content-Type", httpapi.MediaJSON)
		w.Header().Set("Content-Disposition", `attachment; filename="chats.json"`)
		w.WriteHeader(http.StatusOK)
		fmt.Fprintf(w, `{"userId":%s,"exportedAt":%s,"usage":%s,"conversations":[`,
			marshal(e.user), marshal(httpapi.Timestamp(e.at)), marshal(usageOf(e.account)))
	}
	conversation, message := 0, 0
	for entry, err := range e.entries {
		if err != nil {
			if !begun {
				return err
			}
			panic(http.ErrAbortHandler)
		}
		if !begun {
			begin()
		}
		if c := entry.Conversation; c != nil {
			if conversation > 0 {
				io.WriteString(w, "]},") //nolint:errcheck // the client has gone: the next write ends it too
			}
			head := exportedConversationJSON{ID: httpapi.Optional(c.ID), Title: httpapi.Optional(c.Title), System: c.System, Model: c.Model}
			if !c.CreatedAt.IsZero() {
				head.Created = httpapi.Optional(httpapi.Timestamp(c.CreatedAt))
			}
			// All but the end of an empty list of messages, which come next.
			io.WriteString(w, strings.TrimSuffix(marshal(head), "null}")+"[") //nolint:errcheck // as above
			conversation, message = conversation+1, 0
			continue
		}
		if message++; message > 1 {
			io.WriteString(w, ",") //nolint:errcheck // as above
		}
		if _, err := io.WriteString(w, marshal(messageOf(*entry.Message))); err != nil {
			return nil // the client has gone
		}
	}
	if !begun {
		begin()
	}
	if conversation > 0 {
		io.WriteString(w, "]}") //nolint:errcheck // as above
	}
	io.WriteString(w, `],"files":[`) //nolint:errcheck // as above
	first := true
	for f, err := range e.files {
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if !first {
			io.WriteString(w, ",") //nolint:errcheck // as above
		}
		first = false
		if _, err := io.WriteString(w, marshal(fileOf(f))); err != nil {
			return nil // the client has gone
		}
	}
	io.WriteString(w, `],"shares":`+marshal(sharesOf(e.shares).Shares)+"}\n") //nolint:errcheck // as above
	return nil
}

// marshal encodes one of our own types, which cannot fail.
func marshal(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// transcript is the current branch of a conversation.
type transcript struct {
	conversation chat.Conversation
	messages     []chat.Message
}

// maxTranscript bounds a transcript, in messages.
const maxTranscript = 10_000

func (s Services) transcript(ctx context.Context, in resourceCall) (out transcript, err error) {
	if out.conversation, err = s.Conversations.Get(ctx, in.Principal, in.id); err != nil || out.conversation.LeafID == "" {
		return out, err
	}
	out.messages, _, err = s.Conversations.Branch(ctx, in.Principal, in.id, "current", maxTranscript)
	return out, err
}

var markdownEncoder = httpapi.Encoder[transcript]{
	Answers: []httpapi.Answer{{Status: http.StatusOK, Media: httpapi.MediaMarkdown, Types: []reflect.Type{reflect.TypeFor[string]()}}},
	Encode: func(_ context.Context, w *httpapi.Response, t transcript) error {
		title := t.conversation.Title
		if title == "" {
			title = "Conversation"
		}
		var b strings.Builder
		fmt.Fprintf(&b, "# %s\n", title)
		for _, m := range t.messages {
			author := "User"
			if m.Role == chat.Assistant {
				author = "Assistant"
			}
			fmt.Fprintf(&b, "\n## %s, %s\n\n%s\n", author, httpapi.Timestamp(m.CreatedAt), m.Content)
		}
		w.Header().Set("Content-Type", httpapi.MediaMarkdown+"; charset=utf-8")
		w.Header().Set("Content-Disposition", `attachment; filename="conversation.md"`)
		w.Body(http.StatusOK, []byte(b.String()))
		return nil
	},
}

type eraseWire struct {
	Confirm bool `json:"confirm" schema:"required" errmsg:"confirm must be true"`
}

// decodeErase requires a confirmation, because an erasure cannot be undone.
func decodeErase(c httpapi.Call, in eraseWire) (httpapi.Call, error) {
	if !in.Confirm {
		return c, fault.New(fault.Invalid, "confirm must be true: everything of the account will be deleted")
	}
	return c, nil
}

func (s Services) erase(ctx context.Context, c httpapi.Call) (httpapi.NoInput, error) {
	// An erasure that has begun is finished even if the client leaves.
	err := s.Erase(context.WithoutCancel(ctx), c.Principal.UserID)
	if fault.Is(err, fault.NotFound) {
		return httpapi.NoInput{}, nil // a repeat: everything is deleted already
	}
	return httpapi.NoInput{}, err
}
