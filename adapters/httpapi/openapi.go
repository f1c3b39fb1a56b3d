package httpapi

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"parley/domain/fault"
)

// schema is a JSON object of the description.
type schema = map[string]any

// describe returns the description of the API, OpenAPI 3.0.3. It is made of the
// table of routes: of the fields that a route reads, of the types that its
// encoder writes, and of what its kind of access can be refused for.
func (a *API) describe(context.Context, call) (json.RawMessage, error) { return a.description() }

func itself(raw json.RawMessage) json.RawMessage { return raw }

func (a *API) makeDescription() (json.RawMessage, error) {
	t := types{}
	paths := map[string]schema{}
	for _, r := range a.Routes() {
		if paths[r.Path] == nil {
			paths[r.Path] = schema{}
		}
		paths[r.Path][strings.ToLower(r.Method)] = t.operation(r)
	}
	responses := schema{}
	for status, kinds := range kindsByStatus() {
		responses["Refused"+strconv.Itoa(status)] = t.refusal(status, kinds)
	}
	version := a.Version
	if version == "" {
		version = "dev"
	}
	return json.Marshal(schema{
		"openapi": "3.0.3",
		"info": schema{"title": "Parley", "version": version, "description": "A backend for AI chat. " +
			"HEAD answers where GET does, except on streams; another method is 405 with Allow. " +
			"A stream's schema is that of the text; x-events is that of the JSON in the data of its events."},
		"paths": paths,
		"components": schema{
			"schemas": t, "responses": responses,
			"securitySchemes": schema{
				"bearer": schema{"type": "http", "scheme": "bearer"},
				"cookie": schema{"type": "apiKey", "in": "cookie", "name": "authjs.session-token"},
			},
		},
	})
}

func (t types) operation(r Route) schema {
	var parameters []schema
	members, required := schema{}, []string{}
	for _, f := range r.Fields {
		of, must := t.input(f)
		switch {
		case f.In != "body":
			parameters = append(parameters, schema{"in": f.In, "name": f.Name, "required": must, "schema": of})
		case must:
			required = append(required, f.Name)
			fallthrough
		default:
			members[f.Name] = of
		}
	}
	responses := schema{}
	for _, answer := range r.Answers {
		t.answer(responses, answer)
	}
	for _, status := range r.refusals() {
		name := strconv.Itoa(status)
		responses[name] = t.ref("Refused"+name, "responses")
	}
	out := schema{"operationId": operationID(r), "summary": r.Does, "responses": responses}
	if len(parameters) > 0 {
		out["parameters"] = parameters
	}
	if len(members) > 0 {
		body := schema{"type": "object", "properties": members, "additionalProperties": false}
		if len(required) > 0 {
			body["required"] = required
		}
		out["requestBody"] = schema{"required": !r.NoBody, "content": schema{mediaJSON: schema{"schema": body}}}
	}
	out["security"] = []schema{}
	if r.Access != Public {
		out["security"] = []schema{{"bearer": []string{}}, {"cookie": []string{}}}
	}
	return out
}

// operationID makes getChatMessagesIdStream of GET /api/chat/messages/{id}/stream.
func operationID(r Route) string {
	var out strings.Builder
	out.WriteString(strings.ToLower(r.Method))
	for word := range strings.FieldsFuncSeq(strings.TrimPrefix(r.Path, "/api"), func(c rune) bool { return strings.ContainsRune("/{}.", c) }) {
		out.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return out.String()
}

// refusals lists the statuses with which a route can refuse.
func (r Route) refusals() []int {
	out := []int{http.StatusBadRequest, http.StatusNotAcceptable, http.StatusInternalServerError}
	if r.Access == Public {
		return out
	}
	out = append(out, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable)
	for _, f := range r.Fields {
		switch {
		case f.chosen() && f.In == "body":
			out = append(out, http.StatusConflict)
		case f.Names != "":
			out = append(out, http.StatusNotFound)
		}
		if f.In == "body" {
			out = append(out, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
		}
	}
	if r.Access == Sends {
		out = append(out, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusBadGateway)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// chosen reports whether the caller makes the id up.
func (f Field) chosen() bool { return strings.HasPrefix(f.Names, "new ") }

func kindsByStatus() map[int][]fault.Kind {
	out := map[int][]fault.Kind{}
	for kind, status := range statusOf {
		out[status] = append(out[status], kind)
	}
	for _, kinds := range out {
		slices.Sort(kinds)
	}
	return out
}

// details are the members that a problem may have besides the usual ones.
func (t types) details() schema {
	text := schema{"type": "string"}
	return schema{
		"limit": schema{"type": "integer"}, "reset": schema{"type": "string", "format": "date-time"},
		"budget": text, "runId": text, "userMessage": t.of(reflect.TypeFor[messageJSON]()),
	}
}

func (t types) refusal(status int, kinds []fault.Kind) schema {
	text := schema{"type": "string", "minLength": 1}
	inner := schema{"code": schema{"type": "string", "enum": kinds}, "message": text}
	maps.Copy(inner, t.details())
	outer := schema{
		"type": text, "title": text, "status": schema{"type": "integer", "enum": []int{status}}, "detail": text,
		"requestId": text, "message": text,
		"error": schema{"type": "object", "properties": inner, "required": []string{"code", "message"}, "additionalProperties": false},
	}
	required := slices.Sorted(maps.Keys(outer))
	maps.Copy(outer, t.details())
	headers := schema{requestID: schema{"required": true, "schema": text}}
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		headers["Retry-After"] = schema{"required": true, "schema": schema{"type": "integer", "minimum": 1}}
	case http.StatusUnauthorized:
		headers["WWW-Authenticate"] = schema{"required": true, "schema": text}
	case http.StatusMethodNotAllowed:
		headers["Allow"] = schema{"required": true, "schema": text}
	}
	return schema{
		"description": http.StatusText(status), "headers": headers,
		"content": schema{mediaProblem: schema{"schema": schema{
			"type": "object", "properties": outer, "required": required, "additionalProperties": false,
		}}},
	}
}

// answer adds one way of answering to the responses of an operation.
func (t types) answer(responses schema, a Answer) {
	status := strconv.Itoa(a.Status)
	response, ok := responses[status].(schema)
	if !ok {
		response = schema{
			"description": http.StatusText(a.Status),
			"headers":     schema{requestID: schema{"required": true, "schema": schema{"type": "string"}}},
		}
		responses[status] = response
	}
	if a.Media == "" {
		return
	}
	var all []schema
	for _, one := range a.Types {
		all = append(all, t.of(one))
	}
	content := schema{"schema": all[0]}
	if a.Media == eventStream {
		content = schema{"schema": schema{"type": "string"}, "x-events": schema{"oneOf": all}}
	}
	if response["content"] == nil {
		response["content"] = schema{}
	}
	response["content"].(schema)[a.Media] = content
}
