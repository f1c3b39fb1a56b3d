package httpapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed" // the style sheet of the page
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"

	"parley/domain/fault"
)

// The reference page is made of the description, on the server: it has no script.
//
//go:embed reference.css
var referenceCSS []byte

const referencePolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// referenceRoutes are the routes of the page at /docs.
func (a *API) referenceRoutes() []Endpoint {
	style := newReferenceFile(referenceCSS, "text/css; charset=utf-8", "public, max-age=31536000, immutable")
	name := "reference-" + strings.Trim(style.etag, `"`) + ".css"
	page := sync.OnceValues(func() (referenceFile, error) { return a.makeReference("/docs/" + name) })
	return []Endpoint{
		Handle(Route{Method: "GET", Path: "/docs", Media: "text/html", Page: true, Summary: "The reference page"}, decodeReference,
			func(_ context.Context, in referenceCall) (referenceResponse, error) {
				f, err := page()
				return referenceResponse{f, in.match}, err
			}, referenceEncoder),
		Handle(Route{Method: "GET", Path: "/docs/{file}", Media: MediaAny, Page: true, Summary: "The style sheet of the reference page"}, decodeReferenceFile,
			func(_ context.Context, in referenceCall) (referenceResponse, error) {
				if in.name != name {
					return referenceResponse{}, fault.New(fault.NotFound, "Not found")
				}
				return referenceResponse{style, in.match}, nil
			}, referenceEncoder),
	}
}

type referenceFile struct {
	content                []byte
	mediaType, cache, etag string
}

func newReferenceFile(content []byte, mediaType, cache string) referenceFile {
	sum := sha256.Sum256(content)
	return referenceFile{content, mediaType, cache, `"` + hex.EncodeToString(sum[:8]) + `"`}
}

type referenceFileWire struct {
	File string `path:"file"`
	Revalidation
}

type referenceCall struct{ name, match string }

func decodeReference(_ Call, in Revalidation) (referenceCall, error) {
	return referenceCall{match: in.IfNoneMatch}, nil
}

func decodeReferenceFile(_ Call, in referenceFileWire) (referenceCall, error) {
	return referenceCall{in.File, in.IfNoneMatch}, nil
}

type referenceResponse struct {
	referenceFile
	match string
}

var referenceEncoder = Encoder[referenceResponse]{
	Answers: []Answer{{http.StatusOK, MediaAny, []reflect.Type{reflect.TypeFor[string]()}}, {Status: http.StatusNotModified}},
	Encode: func(_ context.Context, w *Response, f referenceResponse) error {
		h := w.Header()
		h.Set("ETag", f.etag)
		h.Set("Cache-Control", f.cache)
		h.Set("Content-Security-Policy", referencePolicy)
		h.Set("X-Robots-Tag", "noindex")
		if Matches(f.match, f.etag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		h.Set("Content-Type", f.mediaType)
		w.Body(http.StatusOK, f.content)
		return nil
	},
}

// reference is the description as the page shows it.
type reference struct {
	Title, Version, About, Style string
	Groups                       []referenceGroup
	Errors                       []referenceError
	Schemas                      []referenceSchema
}

type referenceGroup struct {
	Name       string
	Operations []referenceOperation
}

type referenceOperation struct {
	ID, Method, Path, Summary string
	Public                    bool
	Parameters                []referenceMember
	Body                      []referenceContent
	Answers                   []referenceAnswer
	Refusals                  []referenceRefusal
}

type referenceMember struct {
	Name, In, About string
	Type            markup
	Required        bool
}

type referenceContent struct {
	Media   string
	Type    markup // "": see Members
	Members []referenceMember
	Events  []markup
	Example string
}

type referenceAnswer struct {
	Status, Text string
	Contents     []referenceContent
}

type referenceRefusal struct {
	Status string
	Codes  []string
}

type referenceError struct{ Code, Status, Sentence, Example string }

type referenceSchema struct {
	Name    string
	Members []referenceMember
}

// makeReference renders the page.
func (a *API) makeReference(style string) (referenceFile, error) {
	raw, err := a.description()
	if err != nil {
		return referenceFile{}, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		return referenceFile{}, err
	}
	page := reference{Title: doc.Info.Title, Version: doc.Info.Version, About: doc.Info.Description, Style: style, Errors: errorsOf(doc)}
	groups := map[string]*referenceGroup{}
	for _, r := range a.Routes() { // in their order
		item := doc.Paths.Value(r.Path)
		if r.Page || item == nil {
			continue
		}
		name := groupOf(r.Path)
		if groups[name] == nil {
			groups[name] = &referenceGroup{Name: name}
		}
		groups[name].Operations = append(groups[name].Operations, operationOf(r, item.GetOperation(r.Method)))
	}
	for _, name := range slices.SortedFunc(maps.Keys(groups), byGroup) {
		page.Groups = append(page.Groups, *groups[name])
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		page.Schemas = append(page.Schemas, referenceSchema{name, membersOf(doc.Components.Schemas[name].Value)})
	}
	return newReferenceFile([]byte(page.html()), "text/html; charset=utf-8", "no-cache"), nil
}

// lastGroups are shown behind the others, in this order.
var lastGroups = []string{"Account", "AI SDK", "System"}

// byGroup orders the sections of the page: messages first.
func byGroup(a, b string) int {
	rank := func(name string) int {
		if name == "Messages" {
			return -2
		}
		return slices.Index(lastGroups, name)
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
}

// groupOf names the section that a path is shown in.
func groupOf(path string) string {
	segments := strings.Split(strings.TrimPrefix(path, "/api/"), "/")
	if segments[0] != "chat" {
		if segments[0] == "share" {
			return "Shares"
		}
		return "System"
	}
	if len(segments) == 1 || strings.HasPrefix(segments[1], "{") || segments[1] == "ui" || segments[1] == "text" {
		return "AI SDK"
	}
	switch name := segments[len(segments)-1]; name {
	case "shares", "feedback":
		return strings.ToUpper(name[:1]) + name[1:]
	}
	switch segments[1] {
	case "stream", "live":
		return "Messages"
	case "account", "export", "usage":
		return "Account"
	}
	return strings.ToUpper(segments[1][:1]) + segments[1][1:]
}

func operationOf(r Route, op *openapi3.Operation) referenceOperation {
	out := referenceOperation{ID: op.OperationID, Method: r.Method, Path: r.Path, Summary: op.Summary, Public: !r.Access.NeedsCredential()}
	for _, p := range op.Parameters {
		out.Parameters = append(out.Parameters, referenceMember{p.Value.Name, p.Value.In, aboutOf(p.Value.Schema), typeOf(p.Value.Schema), p.Value.Required})
	}
	if op.RequestBody != nil {
		out.Body = contentsOf(op.RequestBody.Value.Content)
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses.Map())) {
		response := op.Responses.Value(status).Value
		if status < "4" {
			out.Answers = append(out.Answers, referenceAnswer{status, *response.Description, contentsOf(response.Content)})
			continue
		}
		refusal := referenceRefusal{Status: status}
		for _, content := range response.Content {
			refusal.Codes = append(refusal.Codes, slices.Sorted(maps.Keys(content.Examples))...)
		}
		out.Refusals = append(out.Refusals, refusal)
	}
	return out
}

func contentsOf(content openapi3.Content) (list []referenceContent) {
	for _, media := range slices.Sorted(maps.Keys(content)) {
		c := referenceContent{Media: media}
		of := content[media]
		switch example := of.Example.(type) {
		case nil:
		case string:
			c.Example = example
		default:
			c.Example = indented(example)
		}
		switch events, _ := of.Extensions["x-events"].(map[string]any); {
		case events != nil:
			kinds, _ := events["oneOf"].([]any)
			for _, kind := range kinds {
				ref, _ := kind.(map[string]any)["$ref"].(string)
				c.Events = append(c.Events, linkTo(ref))
			}
		case of.Schema.Ref == "" && len(of.Schema.Value.Properties) > 0:
			c.Members = membersOf(of.Schema.Value)
		default:
			c.Type = typeOf(of.Schema)
		}
		list = append(list, c)
	}
	return list
}

// membersOf lists the members of an object, the required ones first.
func membersOf(s *openapi3.Schema) (list []referenceMember) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		of := s.Properties[name]
		list = append(list, referenceMember{Name: name, Type: typeOf(of), About: aboutOf(of), Required: slices.Contains(s.Required, name)})
	}
	slices.SortStableFunc(list, func(a, b referenceMember) int {
		return cmp.Compare(map[bool]int{true: 0, false: 1}[a.Required], map[bool]int{true: 0, false: 1}[b.Required])
	})
	return list
}

// typeOf writes a schema in the notation of TypeScript, with links.
func typeOf(ref *openapi3.SchemaRef) markup {
	if ref.Ref != "" {
		return linkTo(ref.Ref)
	}
	s := ref.Value
	var parts []string
	switch {
	case len(s.AnyOf) > 0:
		for _, one := range s.AnyOf {
			parts = append(parts, string(typeOf(one)))
		}
	case len(s.Enum) > 0:
		for _, v := range s.Enum {
			raw, _ := json.Marshal(v)
			parts = append(parts, string(escape(string(raw))))
		}
	case s.Type == nil:
		return "any"
	default:
		for _, name := range s.Type.Slice() {
			switch {
			case name == openapi3.TypeArray:
				name = string(typeOf(s.Items)) + "[]"
			case name == openapi3.TypeString && s.Format != "":
				name = s.Format
			}
			parts = append(parts, name)
		}
	}
	return markup(strings.Join(parts, " | ")) // each is escaped
}

func linkTo(ref string) markup {
	name := escape(ref[strings.LastIndexByte(ref, '/')+1:])
	return join(`<a href="#`, name, `">`, name, `</a>`)
}

// aboutOf says what a schema demands besides its type.
func aboutOf(ref *openapi3.SchemaRef) string {
	s := ref.Value
	var parts []string
	if s.Description != "" {
		parts = append(parts, strings.TrimSuffix(s.Description, "."))
	}
	if s.Min != nil {
		parts = append(parts, "at least "+compact(*s.Min))
	}
	if s.Max != nil {
		parts = append(parts, "at most "+compact(*s.Max))
	}
	if s.MaxLength != nil {
		parts = append(parts, "at most "+compact(*s.MaxLength)+" characters")
	}
	return strings.Join(parts, ", ")
}

func compact(v any) string {
	raw, _ := json.Marshal(v) // a number
	return string(raw)
}

func indented(v any) string {
	raw, _ := json.MarshalIndent(v, "", "  ") // decoded from JSON
	return string(raw)
}

// errorsOf lists the codes of refusals, with their statuses and an example.
func errorsOf(doc *openapi3.T) (list []referenceError) {
	for status, kinds := range kindsByStatus() {
		examples := doc.Components.Responses[refusedName(status, false)].Value.Content[MediaProblem].Examples
		for _, kind := range kinds {
			e := examples[string(kind)].Value
			list = append(list, referenceError{string(kind), compact(status), e.Summary, indented(e.Value)})
		}
	}
	slices.SortFunc(list, func(a, b referenceError) int { return strings.Compare(a.Status+a.Code, b.Status+b.Code) })
	return list
}
