package aisdk

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"parley/adapters/httpapi"
	"parley/app/replies"
	"parley/domain/chat"
	"parley/domain/fault"
)

// uiMessage is a message of the SDK. Further members of it and of its parts are
// not read.
type uiMessage struct {
	httpapi.OpenMembers `json:"-"`

	ID       string         `json:"id"`
	Role     string         `json:"role" schema:"enum=system|user|assistant"`
	Parts    []uiPart       `json:"parts"`
	Metadata httpapi.Object `json:"metadata,omitempty"`
}

type uiPart struct {
	httpapi.OpenMembers `json:"-"`

	Type      string `json:"type"`
	ID        string `json:"id,omitempty"` // of data
	SourceID  string `json:"sourceId,omitempty"`
	Text      string `json:"text,omitempty"`
	State     string `json:"state,omitempty"`
	URL       string `json:"url,omitempty"`
	MediaType string `json:"mediaType,omitempty"`
	Filename  string `json:"filename,omitempty"`
	Title     string `json:"title,omitempty"`
	Data      any    `json:"data,omitempty"`
}

// filesPath is where files are read.
const filesPath = "/api/chat/files/"

// upload is the content of a file that came within a message. It belongs to one
// of its parts.
type upload struct {
	part    int
	content []byte
}

// decodeParts reads the parts of a message that is to be stored. Parts that the
// SDK adds to messages on its own are passed over; others that Parley cannot
// keep are refused: a file that is not stored would seem to have been read.
func (m *uiMessage) decodeParts() (parts []chat.Part, uploads []upload, err error) {
	if len(m.Parts) > chat.MaxParts {
		return nil, nil, fault.New(fault.Invalid, "A message cannot have more than %d parts", chat.MaxParts)
	}
	for _, p := range m.Parts {
		name, isData := strings.CutPrefix(p.Type, "data-")
		switch {
		case p.Type == "text":
			if p.Text != "" {
				parts = append(parts, chat.Part{Kind: chat.TextPart, Text: p.Text})
			}
		case p.Type == "file":
			part, content, err := p.decodeFile()
			if err != nil {
				return nil, nil, err
			}
			if content != nil {
				uploads = append(uploads, upload{len(parts), content})
			}
			parts = append(parts, part)
		case isData:
			if p.ID != "" && !chat.ValidID(p.ID) {
				return nil, nil, fault.New(fault.Invalid, "Invalid ID of a data part")
			}
			data, err := json.Marshal(p.Data)
			if err != nil {
				return nil, nil, fault.New(fault.Invalid, "A data part needs data")
			}
			parts = append(parts, chat.Part{Kind: chat.DataPart, Name: name, ID: p.ID, Data: data})
		case p.Type == "step-start":
		default:
			parts = append(parts, chat.Part{Kind: chat.PartKind(p.Type)}) // refused by name
		}
	}
	return parts, uploads, chat.ValidateMessage(chat.ContentOf(parts), parts)
}

// decodeFile reads a part of the type file: the content of a data: URL, or a file
// that is stored here. Nothing is fetched from elsewhere.
func (p uiPart) decodeFile() (chat.Part, []byte, error) {
	part := chat.Part{Kind: chat.FilePart, Name: p.Filename, MediaType: p.MediaType}
	scheme, rest, _ := strings.Cut(p.URL, ":")
	if id, ours := strings.CutPrefix(p.URL, filesPath); ours {
		if part.ID = id; !chat.ValidID(id) {
			return part, nil, chat.FileNotFound()
		}
		return part, nil, nil
	}
	if !strings.EqualFold(scheme, "data") {
		return part, nil, fault.New(fault.Invalid, "The URL of a file must be a data: URL or begin with %s; upload the file first", filesPath)
	}
	head, encoded, found := strings.Cut(rest, ",")
	kind, isBase64 := strings.CutSuffix(head, ";base64")
	if !found || !isBase64 {
		return part, nil, fault.New(fault.Invalid, "A data: URL must be base64")
	}
	content, err := base64.StdEncoding.Strict().DecodeString(encoded)
	switch {
	case err != nil:
		return part, nil, fault.New(fault.Invalid, "A data: URL must be base64")
	case len(content) == 0:
		return part, nil, fault.New(fault.Invalid, "The file is empty")
	}
	part.MediaType = cmp.Or(kind, p.MediaType)
	return part, content, nil
}

// shownText is the text of a message, as it would be stored.
func (m *uiMessage) shownText() string {
	var parts []chat.Part
	for _, p := range m.Parts {
		if p.Type == "text" && p.Text != "" {
			parts = append(parts, chat.Part{Kind: chat.TextPart, Text: p.Text})
		}
	}
	return chat.ContentOf(parts)
}

// Values of trigger.
const (
	submitMessage     = "submit-message"
	regenerateMessage = "regenerate-message"
)

// messageWire is what useChat sends. Pages add members of their own, which are
// not read.
type messageWire struct {
	httpapi.OpenMembers

	Chat     string        `json:"id" ref:"new conversation" schema:"required" errmsg:"Invalid chat ID"`
	Trigger  string        `json:"trigger" schema:"enum=submit-message|regenerate-message" errmsg:"trigger must be submit-message or regenerate-message"`
	Target   string        `json:"messageId" ref:"new message" errmsg:"Invalid message ID"` // to edit, or to regenerate
	Message  *uiMessage    `json:"message" errmsg:"message must be a message of the AI SDK"`
	Messages []uiMessage   `json:"messages" errmsg:"messages must be a list of messages of the AI SDK"`
	Parent   string        `json:"parentId" ref:"message" errmsg:"Invalid parent ID"`
	WhenBusy chat.WhenBusy `json:"whenBusy" errmsg:"whenBusy must be reject, queue or interrupt"`
	httpapi.IdempotencyKey
	httpapi.ReplyParams
}

// messageCall is a request for a reply: to the message that the page shows last,
// or without a View to the message that target names.
type messageCall struct {
	send    replies.Send
	uploads []upload // of files of its parts
	target  string   // a reply or its question; "": the end of the chat
}

func decodeMessage(c httpapi.Call, in messageWire) (out messageCall, err error) {
	switch {
	case !chat.ValidID(in.Chat):
		return out, fault.New(fault.Invalid, "Invalid chat ID")
	case reservedChats[in.Chat]:
		return out, fault.New(fault.Invalid, "The chat ID %s is reserved; please use another one", in.Chat)
	case in.Trigger != "" && in.Trigger != submitMessage && in.Trigger != regenerateMessage:
		return out, fault.New(fault.Invalid, "trigger must be submit-message or regenerate-message")
	}
	out.target = in.Target
	out.send = replies.Send{
		Principal: c.Principal, Caller: c.Caller, ConversationID: in.Chat, CreateConversation: true, Leaf: in.Parent, Streamed: true,
		// The SDK stops reading by closing the connection, so that a client that
		// sends does not read an earlier reply any more.
		WhenBusy: cmp.Or(in.WhenBusy, chat.Supersede), ReplayOnlyReason: c.ReplayOnlyReason,
	}
	if last, view := in.view(); last != nil {
		out.send.View, out.send.MessageID = view, last.ID
		if out.send.Metadata, err = chat.DecodeMetadata(json.RawMessage(last.Metadata)); err != nil {
			return out, err
		}
		if out.send.Parts, out.uploads, err = last.decodeParts(); err != nil {
			return out, err
		}
	} else if in.Trigger != regenerateMessage || len(in.Messages) > 0 {
		return out, fault.New(fault.Invalid, "The last message must be the user's")
	}
	if out.send.Params, err = in.ReplyParams.Decode(); err != nil {
		return out, err
	}
	if out.send.Key, err = in.IdempotencyKey.Decode(); err != nil {
		return out, err
	}
	if c.ReplayOnlyReason != nil && out.send.Key == "" && out.send.MessageID == "" {
		return out, c.ReplayOnlyReason // there is nothing by which a repeat could be recognised
	}
	return out, nil
}

// view returns the message that is to be answered, and what the page shows before
// it. last is nil if the page shows no message of the user's.
func (in messageWire) view() (last *uiMessage, view *chat.View) {
	again := in.Trigger == regenerateMessage
	view = &chat.View{Again: again, Edit: in.Target != "" && !again}
	if again {
		view.Reply = in.Target
	}
	if in.Message != nil {
		view.LastOnly = true
		return in.Message.ifUsers(), view
	}
	shown := in.Messages
	for again && len(shown) > 0 && shown[len(shown)-1].Role == string(chat.Assistant) {
		shown = shown[:len(shown)-1] // replies to it that the page keeps
	}
	if len(shown) == 0 {
		return nil, nil
	}
	last = shown[len(shown)-1].ifUsers()
	for _, m := range slices.Backward(shown[:len(shown)-1]) {
		if len(view.Before) == chat.MaxShown {
			break
		}
		s := chat.Shown{ID: m.ID, Role: chat.Role(m.Role)}
		if s.Role == chat.User {
			s.Text = m.shownText()
		}
		view.Before = append(view.Before, s)
	}
	slices.Reverse(view.Before)
	return last, view
}

// ifUsers returns the message if it is the user's.
func (m *uiMessage) ifUsers() *uiMessage {
	if m.Role != string(chat.User) {
		return nil
	}
	return m
}
