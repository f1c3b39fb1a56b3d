package httpapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"parley/domain/fault"
)

// Ids and times of examples.
const (
	exampleConversation = "019ac5c4-8000-7000-8000-000000000001"
	exampleQuestion     = "019ac5c4-8b1d-7000-8000-000000000002"
	exampleReply        = "019ac5c4-8b1e-7000-8000-000000000003"
	exampleTime         = "2026-11-27T12:00:00.000Z"
	exampleLater        = "2026-12-04T12:00:00.000Z"
	exampleCursor       = "ZDRhbXU4LjAxOWFjNWM0"
	exampleText         = "A monad is a monoid in the category of endofunctors."
	exampleDigest       = "185f8db32271fe25f561a6fc938b2e264306ec304eda518007d1764826381969"
)

// unknownExample stands where exampleValues have no value. A test refuses it.
const unknownExample = "no example"

// exampleValues are the values of members and parameters in examples: by
// Schema.member, or by the member of any schema. Schemas of request bodies have the
// name "", parameters the operationId of their operation.
var exampleValues = map[string]any{ //nolint:gosec // the tokens in it open nothing
	"content": exampleText, ".content": "What is a monad?", "contentHtml": "<p>" + exampleText + "</p>", "snippetHtml": "A <mark>monad</mark> is a monoid",
	"titleHtml": "What is a <mark>monad</mark>?", "conversationTitle": "What is a monad?", "q": "monad",
	"title": "What is a monad?", "text": exampleText, "delta": "A monad is", "DeltaEvent.content": "A monad is",
	"system": "Answer in one sentence.", "systemPrompt": "Answer in one sentence.",

	"id": exampleReply, "conversationId": exampleConversation, "runId": exampleReply, "messageId": exampleReply, "parentId": exampleQuestion,
	"Conversation.id": exampleConversation, "ExportedConversation.id": exampleConversation, "userId": "user_1", "sourceId": "source-1",
	"File.id": "019ac5c4-9000-7000-8000-000000000004", "Share.id": "019ac5c4-9100-7000-8000-000000000005", "fileId": "019ac5c4-9000-7000-8000-000000000004",
	"token": "mFQ3u9dY0cJ7sVxk2LrTzA", "siblings": []any{exampleReply}, "leaf": exampleReply, "source": exampleReply, ".files": []any{"019ac5c4-9000-7000-8000-000000000004"},

	"createdAt": exampleTime, "updatedAt": exampleTime, "lastMessageAt": exampleTime, "endedAt": exampleTime, "exportedAt": exampleTime,
	"reset": exampleLater, "expiresAt": exampleLater, "period": "2026-11-27",

	"provider": "openai", "model": "openai/gpt-5-mini", "Model.model": "gpt-5-mini", "Model.state": "closed", "note": "postgres", "version": "1.0.0", "Component.status": "ok",
	"name": "notes.txt", "filename": "notes.txt", "mediaType": "text/plain", "size": 5.0, "sha256": exampleDigest,
	"url": "/api/chat/files/019ac5c4-9000-7000-8000-000000000004", "Shared.url": "/share/mFQ3u9dY0cJ7sVxk2LrTzA",
	"SourceURLChunk.url": "https://en.wikipedia.org/wiki/Monad", "uploadUrl": "https://bucket.example.com/key?signature=s",
	"reason": "clear and short", "rating": "up", ".rating": "up",
	"limit": 50.0, "offset": 0.0, "hasMore": false, "before": exampleCursor, "after": exampleCursor, "cursor": exampleCursor, "nextCursor": nil,
	"live": 1.0, "Live.limit": 8.0, "tokens": 1026.0, "heldTokens": 0.0, "tokenLimit": 200000.0, "costUsd": 0.0006, "heldCostUsd": 0.0, "costLimitUsd": 5.0, "replies": 3.0,
	"metadata": map[string]any{"topic": "maths"}, "messageMetadata": map[string]any{}, "Message.metadata": nil, "UiMessage.metadata": nil,
	"components": map[string]any{"database": map[string]any{"status": "ok", "note": "postgres"}},
	"data":       map[string]any{"city": "Oslo"}, "DataChunk.type": "data-weather", "failure": "AI_FAILED",
	"role": "assistant", "Part.type": "text", "UiPart.type": "text", "UiPart.state": "done", "Message.role": "assistant", "UiMessage.role": "assistant", "SharedMessage.role": "assistant",
	"state": "completed", "Run.state": "running", "Run.endedAt": nil, "Queued.state": "queued",
	"error": "The model returned an error; please try again", "errorText": "The model returned an error; please try again",
	"success": true, "confirm": true, "stream": true, "default": true, "temporary": true, "background": true, "stopRequested": false, "demo": false, "disabled": false,
	"trigger": "submit-message", "render": "html", "budget": "tokens_day",
	"feedback": nil, "expired": false, "EndEvent.userMessage": nil,
	"messages":               nil, // as its items are
	"Message.conversationId": exampleConversation,
	"Range":                  "bytes=0-1023", "If-Range": `"185f8db3"`, "If-None-Match": `"185f8db3"`, "Idempotency-Key": "5f0c7a52-send-1", "Last-Event-ID": "0199.48", "getChatMessagesIdStream.after": 48.0,
	"getOpenapiJson.answer": map[string]any{"openapi": "3.1.1", "info": map[string]any{"title": "Parley", "version": "1.0.0"}, "paths": map[string]any{}},
}

// exampleChanges are members of objects that are not as in other examples of their
// schema, by the member that holds the object.
var exampleChanges = map[string]map[string]any{
	"userMessage": {"id": exampleQuestion, "role": "user", "content": "What is a monad?", "parentId": nil},
	"message":     {"id": "q1", "role": "user", "parts": []any{map[string]any{"type": "text", "text": "What is a monad?"}}},
}

// exampleShown are optional members that examples have. Others are left out.
var exampleShown = []string{
	".content", ".conversationId", ".title", ".message", ".expiresAt", ".mediaType", ".name", "Part.text", "UiPart.text", "Feedback.reason", ".reason", "Health.version", "Component.note",
}

// example returns an example of a schema: of the member of owner, or of a type
// when both are "".
func (t schemas) example(ref *openapi3.SchemaRef, owner, member string) any {
	if name, named := strings.CutPrefix(ref.Ref, "#/components/schemas/"); named {
		out := t.exampleObject(t[name].Value, name)
		maps.Copy(out, exampleChanges[member])
		return out
	}
	s := ref.Value
	for _, key := range []string{owner + "." + member, member} {
		if value, known := exampleValues[key]; known && member != "" && fits(s, value) {
			return value
		}
	}
	switch {
	case len(s.AnyOf) > 0:
		return t.example(s.AnyOf[0], owner, member)
	case len(s.Enum) > 0:
		raw, _ := json.Marshal(s.Enum[0])
		var value any
		_ = json.Unmarshal(raw, &value)
		return value
	case s.Type.Includes(openapi3.TypeArray):
		return []any{t.example(s.Items, owner, member)}
	case s.Type.Includes(openapi3.TypeObject):
		return t.exampleObject(s, owner)
	case s.Type == nil:
		return map[string]any{}
	}
	return unknownExample
}

// exampleObject returns an example of an object: its required members and those
// that are shown.
func (t schemas) exampleObject(s *openapi3.Schema, name string) map[string]any {
	out := map[string]any{}
	for member, of := range s.Properties {
		if slices.Contains(s.Required, member) || slices.Contains(exampleShown, name+"."+member) {
			out[member] = t.example(of, name, member)
		}
	}
	return out
}

// fits reports whether a schema accepts a value, as far as it does not refer to
// others.
func fits(s *openapi3.Schema, value any) bool {
	if len(s.AnyOf) > 0 {
		return value == nil
	}
	if len(s.Enum) > 0 { // of named types
		return slices.ContainsFunc(s.Enum, func(v any) bool { return fmt.Sprint(v) == fmt.Sprint(value) })
	}
	if of := s.AdditionalProperties.Schema; of != nil && of.Ref != "" {
		_, object := value.(map[string]any)
		return object
	}
	return s.VisitJSON(value, openapi3.EnableFormatValidation()) == nil
}

// addExamples adds examples to everything that an operation reads and writes.
func (t schemas) addExamples(op *openapi3.Operation) {
	for _, p := range op.Parameters {
		if p.Value.Required || p.Value.In == "query" {
			p.Value.Example = t.example(p.Value.Schema, op.OperationID, p.Value.Name)
		}
	}
	if op.RequestBody != nil {
		for media, content := range op.RequestBody.Value.Content {
			t.addExample(media, content, "", "")
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses.Map())) {
		if response := op.Responses.Value(status); response.Ref == "" {
			for media, content := range response.Value.Content {
				t.addExample(media, content, op.OperationID, "answer")
			}
		}
	}
}

// addExample adds the example of one body, if it is text.
func (t schemas) addExample(media string, content *openapi3.MediaType, owner, member string) {
	switch {
	case media == MediaJSON && (content.Schema.Ref != "" || !content.Schema.Value.Type.Includes(openapi3.TypeString)):
		content.Example = t.example(content.Schema, owner, member)
	case media == MediaEvents:
		content.Example = t.exampleEvents(content.Extensions["x-events"].(*openapi3.Schema))
	case media == MediaMarkdown:
		content.Example = "# What is a monad?\n\n" + exampleText + "\n"
	case strings.HasPrefix(media, "text/"):
		content.Example = exampleText
	case media == "multipart/form-data":
		content.Example = map[string]any{"file": exampleText}
	}
}

// exampleEvents returns a stream with each of its events once.
func (t schemas) exampleEvents(kinds *openapi3.Schema) string {
	var out strings.Builder
	for _, kind := range kinds.OneOf {
		data, _ := json.Marshal(t.example(kind, "", "")) // made of maps
		out.WriteString("data: " + string(data) + "\n\n")
	}
	return out.String()
}

// exampleRefusals are the sentences of refusals in examples, by their code.
var exampleRefusals = map[fault.Kind]string{
	fault.Invalid: "Message content is required", fault.Unauthenticated: "Authentication required", fault.Forbidden: "Insufficient scope",
	fault.NotFound: "Conversation not found or access denied", fault.Method: "Method not allowed", fault.NotAcceptable: "This address answers with application/json",
	fault.Busy: "A reply is already being made in this conversation", fault.Conflict: "This message ID is already in use",
	fault.TooLarge: "The request body is too large", fault.MediaType: "The request body must be application/json",
	fault.Mismatch: "This idempotency key was used for a different request", fault.Limited: "Rate limit exceeded. Please try again later.",
	fault.OverBudget: "Your usage budget does not cover this request", fault.TooManyStreams: "Too many open streams; close one of them first",
	fault.QueueFull: "Too many replies are waiting; please try again", fault.Overloaded: "The server is busy; please try again",
	fault.AIFailed: "The model returned an error; please try again", fault.AIUnavailable: "No model is available at the moment",
	fault.Unavailable: "Service temporarily unavailable", fault.Disabled: "Chat temporarily unavailable", fault.Internal: "Internal server error",
}

// refusalExamples returns a problem for each code of a status.
func refusalExamples(status int, kinds []fault.Kind, plain bool) openapi3.Examples {
	out := openapi3.Examples{}
	for _, kind := range kinds {
		sentence, known := exampleRefusals[kind]
		if !known {
			sentence = unknownExample
		}
		var value any = sentence
		if !plain {
			value = map[string]any{
				"type": problemType(kind), "title": http.StatusText(status), "status": float64(status), "detail": sentence, "message": sentence,
				"requestId": "019ac5c4-8b1c-7000-8000-0000000000aa", "error": map[string]any{"code": string(kind), "message": sentence},
			}
		}
		out[string(kind)] = &openapi3.ExampleRef{Value: &openapi3.Example{Summary: sentence, Value: value}}
	}
	return out
}
