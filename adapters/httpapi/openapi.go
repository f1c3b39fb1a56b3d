package httpapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"parley/domain/fault"
)

// makeDescription returns the description of the API, OpenAPI 3.1. It is
// generated from the routes: from the fields that a route reads, the types that
// its encoder writes, and the refusals of its kind of access.
func (a *API) makeDescription() (json.RawMessage, error) {
	t := schemas{}
	paths := openapi3.NewPaths()
	for _, r := range a.Routes() {
		if r.Page {
			continue
		}
		item := paths.Value(r.Path)
		if item == nil {
			item = &openapi3.PathItem{}
			paths.Set(r.Path, item)
		}
		item.SetOperation(r.Method, t.operation(r))
	}
	details := t.details(a.routes)
	responses := openapi3.ResponseBodies{}
	for status, kinds := range kindsByStatus() {
		responses[refusedName(status, false)] = &openapi3.ResponseRef{Value: t.refusal(status, kinds, details)}
		responses[refusedName(status, true)] = &openapi3.ResponseRef{Value: plainRefusal(status, kinds)}
	}
	version := a.Version
	if version == "" {
		version = "dev"
	}
	return json.Marshal(&openapi3.T{
		OpenAPI: "3.1.1",
		Info: &openapi3.Info{Title: "Parley", Version: version, Description: "A backend for AI chat. " +
			"HEAD is answered where GET is, except on streams; any other method is 405 with Allow. " +
			"The schema of a stream describes its text; x-events describes the JSON in the data of its events."},
		Paths: paths,
		Components: &openapi3.Components{
			Schemas: openapi3.Schemas(t), Responses: responses,
			SecuritySchemes: openapi3.SecuritySchemes{
				"bearer": {Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("bearer")},
				"cookie": {Value: openapi3.NewSecurityScheme().WithType("apiKey").WithIn("cookie").WithName("authjs.session-token")},
			},
		},
	})
}

func (t schemas) operation(r Route) *openapi3.Operation {
	op := &openapi3.Operation{OperationID: operationID(r), Summary: r.Summary, Responses: &openapi3.Responses{}}
	body := openapi3.NewObjectSchema().WithoutAdditionalProperties()
	if r.openBody {
		body.WithAnyAdditionalProperties()
	}
	for _, f := range r.Fields {
		schema, required := t.input(f)
		switch {
		case f.In == "file":
			op.RequestBody = fileBody()
		case f.In != "body":
			op.AddParameter(&openapi3.Parameter{In: f.In, Name: f.Name, Required: required, Schema: schema})
		case required:
			body.Required = append(body.Required, f.Name)
			fallthrough
		default:
			body.WithPropertyRef(f.Name, schema)
		}
	}
	if len(body.Properties) > 0 {
		op.RequestBody = &openapi3.RequestBodyRef{
			Value: openapi3.NewRequestBody().WithRequired(!r.NoBody).WithContent(openapi3.NewContentWithSchema(body, []string{MediaJSON})),
		}
	}
	for _, answer := range r.Answers {
		t.addAnswer(op.Responses, answer)
	}
	for _, status := range r.refusals() {
		op.Responses.Set(strconv.Itoa(status), &openapi3.ResponseRef{Ref: "#/components/responses/" + refusedName(status, r.PlainRefusals)})
	}
	t.addExamples(op)
	op.Security = openapi3.NewSecurityRequirements()
	if r.Access.NeedsCredential() {
		op.Security.With(openapi3.NewSecurityRequirement().Authenticate("bearer")).
			With(openapi3.NewSecurityRequirement().Authenticate("cookie"))
	}
	return op
}

// fileBody describes the body of an upload: the file, or a form with it.
func fileBody() *openapi3.RequestBodyRef {
	file := openapi3.NewStringSchema()
	file.Format = "binary"
	form := openapi3.NewObjectSchema().WithoutAdditionalProperties().WithProperty("file", file).WithRequired([]string{"file"})
	return &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithRequired(true).WithContent(openapi3.Content{
		"multipart/form-data": openapi3.NewMediaType().WithSchema(form), MediaAny: openapi3.NewMediaType().WithSchema(file),
	})}
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

// refusals lists the statuses with which a route can refuse a request.
func (r Route) refusals() []int {
	out := append([]int{http.StatusBadRequest, http.StatusInternalServerError}, r.Refuses...)
	if r.Media != MediaAny {
		out = append(out, http.StatusNotAcceptable)
	}
	if r.Access != Public {
		out = append(out, http.StatusTooManyRequests, http.StatusServiceUnavailable)
	}
	if r.Access.NeedsCredential() {
		out = append(out, http.StatusUnauthorized, http.StatusForbidden)
	}
	for _, f := range r.Fields {
		switch {
		case f.chosen() && f.In != "path":
			out = append(out, http.StatusConflict)
		case f.Ref != "":
			out = append(out, http.StatusNotFound)
		}
		if f.In == "body" || f.In == "file" {
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
func (f Field) chosen() bool { return strings.HasPrefix(f.Ref, "new ") }

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

func refusedName(status int, plain bool) string {
	if plain {
		return "PlainRefused" + strconv.Itoa(status)
	}
	return "Refused" + strconv.Itoa(status)
}

// details returns the members that a problem may have besides the standard ones.
func (t schemas) details(routes []Route) openapi3.Schemas {
	out := openapi3.Schemas{
		"limit": openapi3.NewIntegerSchema().NewRef(), "reset": openapi3.NewDateTimeSchema().NewRef(),
		"budget": openapi3.NewStringSchema().NewRef(), "remaining": openapi3.NewIntegerSchema().NewRef(), "runId": openapi3.NewStringSchema().NewRef(),
	}
	for _, r := range routes {
		for name, of := range r.Details {
			out[name] = t.of(of)
		}
	}
	return out
}

func (t schemas) refusal(status int, kinds []fault.Kind, details openapi3.Schemas) *openapi3.Response {
	text := openapi3.NewStringSchema().WithMinLength(1)
	codes := openapi3.NewStringSchema()
	for _, kind := range kinds {
		codes.Enum = append(codes.Enum, string(kind))
	}
	inner := openapi3.NewObjectSchema().WithoutAdditionalProperties().
		WithProperty("code", codes).WithProperty("message", text).WithRequired([]string{"code", "message"})
	maps.Copy(inner.Properties, details)
	problem := openapi3.NewObjectSchema().WithoutAdditionalProperties().
		WithProperty("status", openapi3.NewIntegerSchema().WithEnum(status)).WithProperty("error", inner)
	for _, name := range []string{"type", "title", "detail", "requestId", "message"} {
		problem.WithProperty(name, text)
	}
	problem.Required = slices.Sorted(maps.Keys(problem.Properties))
	maps.Copy(problem.Properties, details)

	out := openapi3.NewResponse().WithDescription(http.StatusText(status)).
		WithContent(openapi3.NewContentWithSchema(problem, []string{MediaProblem}))
	out.Content[MediaProblem].Examples = refusalExamples(status, kinds, false)
	out.Headers = refusalHeaders(status)
	return out
}

// plainRefusal describes a refusal in plain text.
func plainRefusal(status int, kinds []fault.Kind) *openapi3.Response {
	codes := openapi3.NewStringSchema()
	for _, kind := range kinds {
		codes.Enum = append(codes.Enum, string(kind))
	}
	out := openapi3.NewResponse().WithDescription(http.StatusText(status)).
		WithContent(openapi3.NewContentWithSchema(openapi3.NewStringSchema().WithMinLength(1), []string{MediaText}))
	out.Content[MediaText].Examples = refusalExamples(status, kinds, true)
	out.Headers = refusalHeaders(status)
	out.Headers[errorCode] = requiredHeader(codes)
	for _, name := range detailHeaders {
		out.Headers[name] = &openapi3.HeaderRef{Value: &openapi3.Header{Parameter: openapi3.Parameter{Schema: openapi3.NewStringSchema().NewRef()}}}
	}
	return out
}

// refusalHeaders are the headers that refusals of a status have in any format.
func refusalHeaders(status int) openapi3.Headers {
	text := openapi3.NewStringSchema().WithMinLength(1)
	headers := openapi3.Headers{requestID: requiredHeader(text)}
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		headers["Retry-After"] = requiredHeader(openapi3.NewIntegerSchema().WithMin(1))
	case http.StatusUnauthorized:
		headers["WWW-Authenticate"] = requiredHeader(text)
	case http.StatusMethodNotAllowed:
		headers["Allow"] = requiredHeader(text)
	}
	return headers
}

func requiredHeader(schema *openapi3.Schema) *openapi3.HeaderRef {
	return &openapi3.HeaderRef{Value: &openapi3.Header{Parameter: openapi3.Parameter{Required: true, Schema: schema.NewRef()}}}
}

// addAnswer adds one way of answering to the responses of an operation.
func (t schemas) addAnswer(responses *openapi3.Responses, a Answer) {
	status := strconv.Itoa(a.Status)
	response := responses.Value(status)
	if response == nil {
		response = &openapi3.ResponseRef{Value: openapi3.NewResponse().WithDescription(http.StatusText(a.Status))}
		response.Value.Headers = openapi3.Headers{requestID: requiredHeader(openapi3.NewStringSchema())}
		responses.Set(status, response)
	}
	if a.Media == "" {
		return
	}
	var all openapi3.SchemaRefs
	for _, answered := range a.Types {
		all = append(all, t.of(answered))
	}
	content := openapi3.NewMediaType().WithSchemaRef(all[0])
	if a.Media == MediaEvents {
		content = openapi3.NewMediaType().WithSchema(openapi3.NewStringSchema())
		content.Extensions = map[string]any{"x-events": &openapi3.Schema{OneOf: all}}
	}
	if response.Value.Content == nil {
		response.Value.Content = openapi3.Content{}
	}
	response.Value.Content[a.Media] = content
}
