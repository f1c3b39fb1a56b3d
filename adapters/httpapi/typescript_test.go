package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"parley/adapters/httpapi"
)

// TestTypeScript_IsGenerated: the types of the client are those of the description.
// make client writes them anew.
func TestTypeScript_IsGenerated(t *testing.T) {
	const name = "client-ts/src/types.ts"
	g := &typeScript{doc: description(t).T}
	want := g.file()
	for _, w := range g.warnings {
		t.Errorf("the description cannot be expressed: %s", w)
	}
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is stale, run make client (-want +got):\n%s", name, diff)
	}
}

// typeScript writes the description as types.
type typeScript struct {
	doc      *openapi3.T
	out      strings.Builder
	warnings []string
}

func (g *typeScript) printf(format string, args ...any) { fmt.Fprintf(&g.out, format, args...) }

// file returns the whole file.
func (g *typeScript) file() string {
	g.printf("// Generated from the description of the API by make client. Do not edit.\n\n")
	g.printf("/** The codes of refusals. */\nexport type ErrorCode =\n")
	codes := map[string]bool{}
	for _, kind := range slices.Sorted(maps.Keys(httpapi.StatusOf)) {
		codes[string(kind)] = true
	}
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		g.printf("  | %q\n", code)
	}
	g.printf("  ;\n\n/** A refusal, as in RFC 9457. */\nexport interface Problem ")
	problem := *g.doc.Components.Responses["Refused400"].Value.Content[httpapi.MediaProblem].Schema.Value
	g.printf("%s\n\n", strings.NewReplacer(
		`code: `+g.typeOf(problem.Properties["error"].Value.Properties["code"], "    "), "code: ErrorCode", "status: 400", "status: number",
	).Replace(g.object(&problem, "")))
	for _, name := range slices.Sorted(maps.Keys(g.doc.Components.Schemas)) {
		if text := g.object(g.doc.Components.Schemas[name].Value, ""); strings.HasPrefix(text, "{") {
			g.printf("export interface %s %s\n\n", name, text)
		} else {
			g.printf("export type %s = %s;\n\n", name, text)
		}
	}
	g.printf("/** Every route: what it reads, what it answers, and the events of its stream. */\nexport interface Operations {\n")
	var binary []string
	for _, path := range slices.Sorted(maps.Keys(g.doc.Paths.Map())) {
		operations := g.doc.Paths.Value(path).Operations()
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			op := operations[method]
			g.printf("  /** %s */\n  %q: {\n    input: %s;\n", op.Summary, method+" "+path, g.input(op))
			answer, events, files := g.answers(op)
			g.printf("    answer: %s;\n    events: %s;\n  };\n", answer, events)
			if files {
				binary = append(binary, method+" "+path)
			}
		}
	}
	g.printf("}\n\n/** Routes that answer with a file. */\nexport const binaryRoutes: ReadonlySet<string> = new Set([\n")
	for _, route := range binary {
		g.printf("  %q,\n", route)
	}
	g.printf("]);\n")
	return g.out.String()
}

// input writes what an operation reads.
func (g *typeScript) input(op *openapi3.Operation) string {
	groups := map[string]*openapi3.Schema{}
	for _, p := range op.Parameters {
		in := map[string]string{"path": "path", "query": "query", "header": "headers"}[p.Value.In]
		if groups[in] == nil {
			groups[in] = openapi3.NewObjectSchema()
		}
		groups[in].WithPropertyRef(p.Value.Name, p.Value.Schema)
		if p.Value.Required {
			groups[in].Required = append(groups[in].Required, p.Value.Name)
		}
	}
	var members []string
	for _, in := range []string{"path", "query", "headers"} {
		if s := groups[in]; s != nil {
			members = append(members, in+optional(len(s.Required) > 0)+": "+g.object(s, "      "))
		}
	}
	if body := op.RequestBody; body != nil {
		switch content := body.Value.Content; {
		case content["multipart/form-data"] != nil:
			members = append(members, "body: FormData | Blob")
		default:
			members = append(members, "body"+optional(body.Value.Required)+": "+g.typeOf(content[httpapi.MediaJSON].Schema, "      "))
		}
	}
	if len(members) == 0 {
		return "Record<never, never>"
	}
	return "{\n      " + strings.Join(members, ";\n      ") + ";\n    }"
}

func optional(required bool) string {
	if required {
		return ""
	}
	return "?"
}

// answers writes what an operation answers with when it does not refuse.
func (g *typeScript) answers(op *openapi3.Operation) (answer, events string, files bool) {
	var all, streamed []string
	for _, status := range slices.Sorted(maps.Keys(op.Responses.Map())) {
		if status >= "300" {
			continue
		}
		content := op.Responses.Value(status).Value.Content
		if len(content) > 2 {
			files = true
			all = append(all, "Blob")
			continue
		}
		if len(content) == 0 {
			all = append(all, "undefined")
		}
		for _, media := range slices.Sorted(maps.Keys(content)) {
			switch {
			case media == httpapi.MediaEvents:
				raw, _ := json.Marshal(content[media].Extensions["x-events"])
				var kinds struct {
					OneOf []struct {
						Ref string `json:"$ref"`
					} `json:"oneOf"`
				}
				if err := json.Unmarshal(raw, &kinds); err != nil || len(kinds.OneOf) == 0 {
					g.warnings = append(g.warnings, op.OperationID+" has no events")
				}
				for _, kind := range kinds.OneOf {
					streamed = append(streamed, refName(kind.Ref))
				}
			case media == httpapi.MediaJSON:
				all = append(all, g.typeOf(content[media].Schema, "    "))
			case strings.HasPrefix(media, "text/"):
				all = append(all, "string")
			default:
				g.warnings = append(g.warnings, op.OperationID+" answers with "+media)
			}
		}
	}
	return union(all), union(streamed), files
}

// union writes alternatives, each once.
func union(list []string) string {
	slices.Sort(list)
	if list = slices.Compact(list); len(list) == 0 {
		return "never"
	}
	return strings.Join(list, " | ")
}

func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// typeOf writes a schema as a type.
func (g *typeScript) typeOf(ref *openapi3.SchemaRef, indent string) string {
	if ref.Ref != "" {
		return refName(ref.Ref)
	}
	s := ref.Value
	var list []string
	switch {
	case len(s.AnyOf) > 0:
		for _, one := range s.AnyOf {
			list = append(list, g.typeOf(one, indent))
		}
	case len(s.Enum) > 0:
		for _, v := range s.Enum {
			raw, err := json.Marshal(v)
			if err != nil {
				g.warnings = append(g.warnings, err.Error())
			}
			list = append(list, string(raw))
		}
	case s.Type == nil:
		return "unknown"
	default:
		for _, name := range s.Type.Slice() {
			switch name {
			case openapi3.TypeArray:
				items := g.typeOf(s.Items, indent)
				if strings.Contains(items, "|") {
					items = "(" + items + ")"
				}
				list = append(list, items+"[]")
			case openapi3.TypeObject:
				list = append(list, g.object(s, indent))
			case openapi3.TypeInteger, openapi3.TypeNumber:
				list = append(list, "number")
			case openapi3.TypeString, openapi3.TypeBoolean, openapi3.TypeNull:
				list = append(list, name)
			default:
				g.warnings = append(g.warnings, "the type "+name)
			}
		}
	}
	return strings.Join(list, " | ")
}

// object writes an object, one member a line.
func (g *typeScript) object(s *openapi3.Schema, indent string) string {
	if len(s.Properties) == 0 {
		if of := s.AdditionalProperties.Schema; of != nil {
			return "Record<string, " + g.typeOf(of, indent) + ">"
		}
		return "Record<string, unknown>"
	}
	var out strings.Builder
	out.WriteString("{\n")
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		member := name
		if strings.ContainsAny(name, "-.") {
			member = strconv.Quote(name)
		}
		if about := s.Properties[name].Value.Description; about != "" && s.Properties[name].Ref == "" {
			out.WriteString(indent + "  /** " + about + " */\n")
		}
		out.WriteString(indent + "  " + member + optional(slices.Contains(s.Required, name)) + ": " + g.typeOf(s.Properties[name], indent+"  ") + ";\n")
	}
	if s.AdditionalProperties.Has != nil && *s.AdditionalProperties.Has {
		out.WriteString(indent + "  [member: string]: unknown;\n")
	}
	out.WriteString(indent + "}")
	return out.String()
}
