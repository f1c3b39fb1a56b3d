package httpapi

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// schemas are the named schemas of the description: of Go structs, as
// encoding/json writes them.
type schemas openapi3.Schemas

// enums are the types of which every value is known.
var enums = map[reflect.Type][]any{
	reflect.TypeFor[chat.Role]():     {chat.User, chat.Assistant},
	reflect.TypeFor[chat.Kind]():     {chat.Reply, chat.Regeneration, chat.Continuation},
	reflect.TypeFor[chat.State]():    {chat.Queued, chat.Running, chat.Completed, chat.Stopped, chat.Failed, chat.Interrupted},
	reflect.TypeFor[chat.WhenBusy](): {chat.Reject, chat.Queue, chat.Supersede},
	reflect.TypeFor[access.Tier]():   {access.Anonymous, access.Authenticated, access.APIKey, access.Admin, access.Webhook},
	reflect.TypeFor[fault.Kind](): { // of error events
		fault.AIFailed, fault.AIUnavailable, CodeInterrupted, fault.Unauthenticated},
}

// OpenMembers is embedded by types of inputs that may have members which are
// not read.
type OpenMembers struct{}

// isOpen reports whether a type embeds OpenMembers.
func isOpen(t reflect.Type) bool {
	f, ok := t.FieldByName("OpenMembers")
	return ok && f.Type == reflect.TypeFor[OpenMembers]()
}

// schemaName makes Message of messageJSON.
func schemaName(t reflect.Type) string {
	name := strings.TrimSuffix(t.Name(), "JSON")
	return strings.ToUpper(name[:1]) + name[1:]
}

// of returns the schema of a type. A struct is added to the named schemas and
// referred to.
func (t schemas) of(r reflect.Type) *openapi3.SchemaRef {
	if r == reflect.TypeFor[json.RawMessage]() {
		return openapi3.NewObjectSchema().WithAnyAdditionalProperties().NewRef()
	}
	if r == reflect.TypeFor[Object]() {
		return nullable(openapi3.NewObjectSchema().WithAnyAdditionalProperties().NewRef())
	}
	if r == reflect.TypeFor[any]() {
		return openapi3.NewSchema().NewRef() // any JSON
	}
	if values, ok := enums[r]; ok {
		return openapi3.NewStringSchema().WithEnum(values...).NewRef()
	}
	switch r.Kind() {
	case reflect.Pointer:
		return nullable(t.of(r.Elem()))
	case reflect.Slice:
		out := openapi3.NewArraySchema()
		out.Items = t.of(r.Elem())
		return out.NewRef()
	case reflect.Map:
		out := openapi3.NewObjectSchema()
		if r.Elem().Kind() == reflect.Interface { // what the user sent
			return nullable(out.WithAnyAdditionalProperties().NewRef())
		}
		out.AdditionalProperties.Schema = t.of(r.Elem())
		return out.NewRef()
	case reflect.Bool:
		return openapi3.NewBoolSchema().NewRef()
	case reflect.Int, reflect.Int64:
		return openapi3.NewIntegerSchema().NewRef()
	case reflect.Float64:
		return openapi3.NewFloat64Schema().NewRef()
	case reflect.Struct:
		return t.object(r)
	}
	return openapi3.NewStringSchema().NewRef()
}

func (t schemas) object(r reflect.Type) *openapi3.SchemaRef {
	name := schemaName(r)
	ref := openapi3.NewSchemaRef("#/components/schemas/"+name, nil)
	if t[name] != nil {
		return ref
	}
	out := openapi3.NewObjectSchema()
	if out.WithoutAdditionalProperties(); isOpen(r) {
		out.WithAnyAdditionalProperties()
	}
	t[name] = out.NewRef()
	for _, f := range reflect.VisibleFields(r) {
		member, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		if member == "" || member == "-" {
			continue
		}
		schema := t.of(f.Type)
		restrict(schema.Value, f.Tag.Get("schema"))
		out.WithPropertyRef(member, schema)
		if option != "omitempty" {
			out.Required = append(out.Required, member)
		}
	}
	slices.Sort(out.Required)
	return ref
}

// nullable returns a schema that also admits null.
func nullable(ref *openapi3.SchemaRef) *openapi3.SchemaRef {
	if ref.Ref != "" {
		null := &openapi3.Schema{Type: &openapi3.Types{openapi3.TypeNull}}
		return (&openapi3.Schema{AnyOf: openapi3.SchemaRefs{ref, null.NewRef()}}).NewRef()
	}
	if ref.Value.Type != nil && !ref.Value.Type.IncludesNull() {
		ref.Value.Type.With(openapi3.TypeNull)
	}
	if ref.Value.Enum != nil && !slices.Contains(ref.Value.Enum, nil) {
		ref.Value.Enum = append(slices.Clone(ref.Value.Enum), nil)
	}
	return ref
}

// input returns the schema of one input, and whether it is required. In a body,
// null counts as absent.
func (t schemas) input(f Field) (ref *openapi3.SchemaRef, required bool) {
	r := f.Type
	if r.Kind() == reflect.Pointer && r.Elem().Kind() != reflect.Struct {
		r = r.Elem()
	}
	ref = t.of(r)
	required = restrict(ref.Value, f.Schema) || f.In == "path"
	if f.Ref != "" {
		id := ref.Value
		if id.Items != nil { // of each element
			id = id.Items.Value
		}
		id.WithMinLength(1).WithMaxLength(chat.MaxID).Pattern = `^[!-.0-\[\]-~]+$`
		id.Description = "Names a " + f.Ref + "."
	}
	if f.In == "body" && !required {
		ref = nullable(ref)
	}
	return ref, required
}

// restrict adds the rules of a tag to a schema, and reports whether the value is
// required. The schema is nil where it is a reference, which takes no rule but
// required.
func restrict(s *openapi3.Schema, tag string) (required bool) {
	for rule := range strings.SplitSeq(tag, ",") {
		name, value, _ := strings.Cut(rule, "=")
		switch name {
		case "":
		case "required":
			required = true
		case "enum":
			for v := range strings.SplitSeq(value, "|") {
				s.Enum = append(s.Enum, v)
			}
		case "format":
			s.Format = value
		case "pattern":
			s.Pattern = value
		default:
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				panic("httpapi: no rule " + rule)
			}
			restrictNumber(s, name, n)
		}
	}
	return required
}

func restrictNumber(s *openapi3.Schema, name string, n int64) {
	switch name {
	case "minimum":
		s.WithMin(float64(n))
	case "maximum":
		s.WithMax(float64(n))
	case "minLength":
		s.WithMinLength(n)
	case "maxLength":
		s.WithMaxLength(n)
	case "minItems":
		s.WithMinItems(n)
	case "maxItems":
		s.WithMaxItems(n)
	default:
		panic("httpapi: no rule " + name)
	}
}
