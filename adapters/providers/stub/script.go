package stub

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"parley/domain/chat"
)

// Script returns the reply to a call. It is called concurrently.
type Script func(Call) Reply

// Reply says how a call is answered. The zero value is a complete reply without text.
type Reply struct {
	Delay time.Duration // before the first byte
	Hang  bool          // the first byte never comes

	// Status is that of a refusal; 0: 200.
	Status int
	Header map[string]string
	// Raw is the body as it is, instead of one made of the fields below.
	Raw string
	// RawChunks are the body as it is, sent one by one at Pace.
	RawChunks []string

	Reasoning string
	Text      string   // sent word by word
	Chunks    []string // sent one by one, instead of Text
	Finish    string   // the reason to end; "": stop or end_turn
	// Output are parts to send instead of Reasoning, Text and Chunks, in their order:
	// text, reasoning, sources, and with Anthropic the State of reasoning. A state
	// without text is that of redacted thinking.
	Output []chat.Part

	NoUsage    bool
	CacheRead  int64 // the part of the input that came from a prompt cache
	CacheWrite int64 // the part of the input that went into one; Anthropic only
	// Usage are reports to send instead of the stub's own count: each with a
	// chunk of text, what is left of them at the end.
	Usage []any

	// How the stream is written.
	Pace         time.Duration // before every chunk
	Ping         bool          // a comment or ping before every chunk
	Split        int           // bytes of one write; 0: a whole event
	Coalesce     bool          // everything in one write
	LineEnd      string        // "": a line feed
	ByteMark     bool          // a byte order mark before the first event
	Unterminated bool          // the last event lacks its empty line
	Document     bool          // one JSON document instead of a stream

	// Shapes in which some servers reply.
	FinishEach       bool     // a reason to end with every chunk
	ReasoningMembers []string // OpenAI: every member that holds the reasoning; nil: reasoning_content
	Parts            bool     // OpenAI: content is a list of parts, with the reasoning among them
	UsageInChoice    bool     // OpenAI: usage stands in the choice
	TextInStart      bool     // Anthropic: content_block_start holds the first chunk already
	SplitSurrogates  bool     // characters beyond U+FFFF are escaped and cut in two events

	// Cut ends the stream after so many chunks (After).
	Cut   Cut
	After int
	// Gate, if set, holds the stream back after so many chunks until it is closed.
	Gate <-chan struct{}
}

// Cut is a way to break a stream off.
type Cut string

const (
	Stall    Cut = "stall"    // nothing more, and no end
	EOF      Cut = "eof"      // a clean end, without a terminal marker
	Reset    Cut = "reset"    // the connection is reset
	Overload Cut = "overload" // an error event of that type
)

// Echo replies with the last message.
func Echo(c Call) Reply { return Reply{Text: c.Last()} }

// Always gives the same reply to every call.
func Always(r Reply) Script { return func(Call) Reply { return r } }

// Say always replies with text.
func Say(text string) Script { return Always(Reply{Text: text}) }

// Refuse is an error response of the provider. header are names and values in turn.
func Refuse(status int, kind string, header ...string) Reply {
	r := Reply{Status: status, Header: map[string]string{}}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header[header[i]] = header[i+1]
	}
	r.Raw = encode(map[string]any{
		"type":  "error",
		"error": map[string]any{"type": kind, "code": kind, "message": "The stub was told to refuse.", "param": nil},
	})
	return r
}

// RefuseMembers refuses every request that has one of the members, and names
// the first of them in its error. Other requests are left to script.
func RefuseMembers(status int, script Script, members ...string) Script {
	return func(c Call) Reply {
		for _, name := range members {
			if _, has := c.Body[name]; has {
				r := Refuse(status, "invalid_request_error")
				r.Raw = encode(map[string]any{"error": map[string]any{
					"type": "invalid_request_error", "message": fmt.Sprintf("Unrecognized request argument supplied: %s", name),
				}})
				return r
			}
		}
		return script(c)
	}
}

// RefuseNeighbours refuses every conversation in which two messages in a row
// have the same role, as servers do whose chat templates demand it.
func RefuseNeighbours(script Script) Script {
	return func(c Call) Reply {
		messages := slices.DeleteFunc(slices.Clone(c.Messages), func(m Message) bool { return m.Role == "system" })
		for i := 1; i < len(messages); i++ {
			if messages[i].Role == messages[i-1].Role {
				r := Refuse(400, "invalid_request_error")
				r.Raw = encode(map[string]any{"error": map[string]any{
					"type": "invalid_request_error", "message": "Conversation roles must alternate user/assistant/user/assistant/...",
				}})
				return r
			}
		}
		return script(c)
	}
}

func encode(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only what tests have put in
	}
	return string(data)
}
