package httpapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"parley/adapters/httpapi"
)

// TestOpenAPI_Examples: every route has a summary, an example of each body that
// it reads and writes which its schema accepts, and the codes of its refusals.
func TestOpenAPI_Examples(t *testing.T) {
	d := description(t)
	for path, item := range d.Paths.Map() {
		for method, op := range item.Operations() {
			problems := d.undocumented(op)
			for _, p := range problems {
				t.Errorf("%s %s %s", method, path, p)
			}
		}
	}
}

// undocumented says what the description of an operation lacks.
func (d described) undocumented(op *openapi3.Operation) (problems []string) {
	lacks := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if op.Summary == "" {
		lacks("has no summary: set Summary in its Route")
	}
	for _, p := range op.Parameters {
		if p.Value.Required && p.Value.Example == nil {
			lacks("has no example of the parameter %s", p.Value.Name)
		}
		if why := d.refused(p.Value.Example, p.Value.Schema.Value, "."+p.Value.Name); why != "" {
			lacks("%s", why)
		}
	}
	if op.RequestBody != nil {
		if op.RequestBody.Value.Content.Get(httpapi.MediaJSON) == nil && op.RequestBody.Value.Content.Get("multipart/form-data") == nil {
			lacks("has a body that is neither JSON nor a form")
		}
		for media, content := range op.RequestBody.Value.Content {
			if why := d.badExample(media, content); why != "" {
				lacks("has a bad example of its body: %s", why)
			}
		}
	}
	refusals := 0
	for status, response := range op.Responses.Map() {
		code, _ := strconv.Atoi(status)
		for media, content := range response.Value.Content {
			switch {
			case code < 400 || content.Examples == nil:
				if why := d.badExample(media, content); why != "" {
					lacks("has a bad example of its answer %s: %s", status, why)
				}
			default:
				refusals++
				for name, example := range content.Examples {
					if why := d.refused(example.Value.Value, content.Schema.Value, name); why != "" {
						lacks("has a bad example of its refusal %s: %s", status, why)
					}
				}
			}
		}
	}
	if refusals < 2 { // 400 and 500 at least
		lacks("describes only %d of its refusals with examples of their codes", refusals)
	}
	return problems
}

// badExample says what is wrong with the example of a body; "": nothing.
func (d described) badExample(media string, content *openapi3.MediaType) string {
	textual := strings.HasPrefix(media, "text/") || media == httpapi.MediaJSON && !content.Schema.Value.Type.Includes("string")
	if content.Example == nil {
		if textual {
			return "there is none for " + media
		}
		return ""
	}
	if media == httpapi.MediaEvents {
		text, _ := content.Example.(string)
		if strings.Contains(text, "no example") {
			return "an event has a member without a value: add it to exampleValues in openapi_examples.go\n" + text
		}
		if err := d.events(content, text); err != nil {
			return err.Error()
		}
		return ""
	}
	return d.refused(content.Example, content.Schema.Value, media)
}

// refused says why a schema does not accept an example; "": it does.
func (d described) refused(example any, schema *openapi3.Schema, where string) string {
	if example == nil {
		return ""
	}
	raw, err := json.Marshal(example)
	if err != nil {
		return err.Error()
	}
	if strings.Contains(string(raw), `"no example"`) {
		return fmt.Sprintf("a member of the example of %s has no value: add it to exampleValues in openapi_examples.go: %s", where, raw)
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return err.Error()
	}
	if err := schema.VisitJSON(value, openapi3.EnableFormatValidation()); err != nil {
		return fmt.Sprintf("the example of %s is not what its schema says: %v in %s", where, err, raw)
	}
	return ""
}

// TestOpenAPI_ExamplesAreMissed keeps the test above honest.
func TestOpenAPI_ExamplesAreMissed(t *testing.T) {
	d := description(t)
	good := func() *openapi3.Operation {
		object := openapi3.NewObjectSchema().WithProperty("a", openapi3.NewIntegerSchema()).WithRequired([]string{"a"})
		op := &openapi3.Operation{Summary: "Do", Responses: &openapi3.Responses{}}
		answer := openapi3.NewResponse().WithContent(openapi3.NewContentWithSchema(object, []string{httpapi.MediaJSON}))
		answer.Content.Get(httpapi.MediaJSON).Example = map[string]any{"a": 1.0}
		op.Responses.Set("200", &openapi3.ResponseRef{Value: answer})
		op.Responses.Set("400", d.Components.Responses["Refused400"])
		op.Responses.Set("500", d.Components.Responses["Refused500"])
		return op
	}
	if got := d.undocumented(good()); len(got) != 0 {
		t.Fatal(got)
	}
	for want, spoil := range map[string]func(*openapi3.Operation){
		"no summary": func(op *openapi3.Operation) { op.Summary = "" },
		"there is none for": func(op *openapi3.Operation) {
			op.Responses.Value("200").Value.Content.Get(httpapi.MediaJSON).Example = nil
		},
		"add it to exampleValues": func(op *openapi3.Operation) {
			op.Responses.Value("200").Value.Content.Get(httpapi.MediaJSON).Example = map[string]any{"a": "no example"}
		},
		"is not what its schema says": func(op *openapi3.Operation) {
			op.Responses.Value("200").Value.Content.Get(httpapi.MediaJSON).Example = map[string]any{"a": "x"}
		},
		"only 1 of its refusals": func(op *openapi3.Operation) { op.Responses.Delete("400") },
		"no example of the parameter ": func(op *openapi3.Operation) {
			op.AddParameter(openapi3.NewPathParameter("id").WithSchema(openapi3.NewStringSchema()))
		},
	} {
		op := good()
		spoil(op)
		if got := d.undocumented(op); !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("%q is not among %q", want, got)
		}
	}
}
