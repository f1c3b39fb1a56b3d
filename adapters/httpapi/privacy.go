package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"reflect"
	"strings"

	"parley/app/conversations"
	"parley/domain/chat"
	"parley/domain/fault"
)

const mediaMarkdown = "text/markdown"

// exportedJSON is everything of a user. The default thread is the conversation
// without an id.
type exportedJSON struct {
	UserID        string                     `json:"userId"`
	ExportedAt    string                     `json:"exportedAt"`
	Usage         usageJSON                  `json:"usage"`
	Conversations []exportedConversationJSON `json:"conversations"`
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
	call
	account
	pieces iter.Seq2[conversations.Exported, error]
}

func (a *API) export(ctx context.Context, c call) (export, error) {
	used, err := a.usage(ctx, c)
	return export{c, used, a.Conversations.Export(ctx, c.principal, c.caller)}, err
}

func (a *API) exports() encoder[export] {
	return encoder[export]{[]Answer{jsonAnswer[exportedJSON](http.StatusOK)}, a.encodeExport}
}

// encodeExport writes an export piece by piece: it may be larger than memory.
// What goes wrong after the first piece cuts the connection, so that half an
// export is not taken for a whole one.
func (a *API) encodeExport(_ context.Context, w http.ResponseWriter, e export) error {
	begun := false
	begin := func() {
		begun = true
		w.Header().Set("Content-Type", mediaJSON)
		w.Header().Set("Content-Disposition", `attachment; filename="chats.json"`)
		w.WriteHeader(http.StatusOK)
		fmt.Fprintf(w, `{"userId":%s,"exportedAt":%s,"usage":%s,"conversations":[`,
			quoted(e.principal.UserID), quoted(timestamp(a.Now())), quoted(usageOf(e.account)))
	}
	conversation, message := 0, 0
	for piece, err := range e.pieces {
		if err != nil {
			if !begun {
				return err
			}
			panic(http.ErrAbortHandler)
		}
		if !begun {
			begin()
		}
		if c := piece.Conversation; c != nil {
			if conversation > 0 {
				io.WriteString(w, "]},") //nolint:errcheck // the client has gone: the next write ends it too
			}
			head := exportedConversationJSON{ID: optional(c.ID), Title: optional(c.Title), System: c.System, Model: c.Model}
			if !c.CreatedAt.IsZero() {
				head.Created = optional(timestamp(c.CreatedAt))
			}
			// All but the end of an empty list of messages, which come next.
			io.WriteString(w, strings.TrimSuffix(quoted(head), "null}")+"[") //nolint:errcheck // as above
			conversation, message = conversation+1, 0
			continue
		}
		if message++; message > 1 {
			io.WriteString(w, ",") //nolint:errcheck // as above
		}
		if _, err := io.WriteString(w, quoted(messageOf(*piece.Message))); err != nil {
			return nil // nobody reads any more
		}
	}
	if !begun {
		begin()
	}
	if conversation > 0 {
		io.WriteString(w, "]}") //nolint:errcheck // as above
	}
	io.WriteString(w, "]}\n") //nolint:errcheck // as above
	return nil
}

// quoted is v as JSON.
func quoted(v any) string {
	text, err := json.Marshal(v)
	if err != nil { // only our own structs get here
		panic(err)
	}
	return string(text)
}

// transcript is a conversation to be read.
type transcript struct {
	conversation chat.Conversation
	messages     []chat.Message
}

// mostExported bounds a transcript, in messages of its current branch.
const mostExported = 10_000

func (a *API) transcript(ctx context.Context, in one) (out transcript, err error) {
	if out.conversation, err = a.Conversations.Get(ctx, in.principal, in.id); err != nil || out.conversation.LeafID == "" {
		return out, err
	}
	out.messages, _, err = a.Conversations.Branch(ctx, in.principal, in.id, "current", mostExported)
	return out, err
}

var markdownEncoder = encoder[transcript]{
	[]Answer{{Status: http.StatusOK, Media: mediaMarkdown, Types: []reflect.Type{reflect.TypeFor[string]()}}},
	func(_ context.Context, w http.ResponseWriter, t transcript) error {
		title := t.conversation.Title
		if title == "" {
			title = "Conversation"
		}
		var b strings.Builder
		fmt.Fprintf(&b, "# %s\n", title)
		for _, m := range t.messages {
			who := "User"
			if m.Role == chat.Assistant {
				who = "Assistant"
			}
			fmt.Fprintf(&b, "\n## %s, %s\n\n%s\n", who, timestamp(m.CreatedAt), m.Content)
		}
		w.Header().Set("Content-Type", mediaMarkdown+"; charset=utf-8")
		w.Header().Set("Content-Disposition", `attachment; filename="conversation.md"`)
		write(w, http.StatusOK, []byte(b.String()))
		return nil
	},
}

type eraseWire struct {
	Confirm bool `json:"confirm" is:"required" refuse:"confirm must be true"`
}

// acceptErase wants to be told that this is meant: it cannot be taken back.
func acceptErase(c call, in eraseWire) (call, error) {
	if !in.Confirm {
		return c, fault.New(fault.Invalid, "confirm must be true: everything of the account will be deleted")
	}
	return c, nil
}

func (a *API) erase(ctx context.Context, c call) (nothing, error) {
	// What has begun is finished, whether or not the caller waits for it.
	err := a.Erase(context.WithoutCancel(ctx), c.principal.UserID)
	if fault.Is(err, fault.NotFound) {
		return nothing{}, nil // asked again: nothing is what there should be
	}
	return nothing{}, err
}
