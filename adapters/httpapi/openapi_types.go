package httpapi

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// types are the schemas of Go types by name, as encoding/json writes them.
type types map[string]schema

// enums are the types of which every value is known.
var enums = map[reflect.Type][]any{
	reflect.TypeFor[chat.Role]():     {chat.User, chat.Assistant},
	reflect.TypeFor[chat.Kind]():     {chat.Reply, chat.Regeneration, chat.Continuation},
	reflect.TypeFor[chat.State]():    {chat.Queued, chat.Running, chat.Completed, chat.Stopped, chat.Failed, chat.Interrupted},
	reflect.TypeFor[chat.WhenBusy](): {chat.Reject, chat.Queue, chat.Supersede},
	reflect.TypeFor[access.Tier]():   {access.Anonymous, access.Authenticated, access.APIKey, access.Admin, access.Webhook},
	reflect.TypeFor[fault.Kind](): { // of error events
		fault.AIFailed, fault.AIUnavailable, codeInterrupted},
}

// lenient are the types that may have members which are not read.
var lenient = map[reflect.Type]bool{reflect.TypeFor[uiMessage](): true, reflect.TypeFor[uiPart](): true}

// nameOf makes Message of messageJSON.
func nameOf(t reflect.Type) string {
	name := strings.TrimSuffix(t.Name(), "JSON")
	return strings.ToUpper(name[:1]) + name[1:]
}

func (t types) ref(name, section string) schema {
	return schema{"$ref": "#/components/" + section + "/" + name}
}

// of returns the schema of a type; that of a struct is put among the named ones.
func (t types) of(r reflect.Type) schema {
	if r == reflect.TypeFor[json.RawMessage]() {
		return schema{"type": "object"}
	}
	if values, ok := enums[r]; ok {
		return schema{"type": "string", "enum": values}
	}
	switch r.Kind() {
	case reflect.Pointer:
		if r.Elem().Kind() == reflect.Struct {
			return schema{"nullable": true, "allOf": []schema{t.of(r.Elem())}}
		}
		out := t.of(r.Elem())
		out["nullable"] = true
		return out
	case reflect.Slice:
		return schema{"type": "array", "items": t.of(r.Elem())}
	case reflect.Map:
		if r.Elem().Kind() == reflect.Interface { // what the user sent
			return schema{"type": "object", "nullable": true}
		}
		return schema{"type": "object", "additionalProperties": t.of(r.Elem())}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return schema{"type": "integer"}
	case reflect.Float64:
		return schema{"type": "number"}
	case reflect.Struct:
		return t.object(r)
	}
	return schema{"type": "string"}
}

func (t types) object(r reflect.Type) schema {
	name := nameOf(r)
	if t[name] != nil {
		return t.ref(name, "schemas")
	}
	properties, required := schema{}, []string{}
	t[name] = schema{"type": "object", "properties": properties, "additionalProperties": lenient[r]}
	for _, f := range reflect.VisibleFields(r) {
		member, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		if member == "" || member == "-" {
			continue
		}
		of := t.of(f.Type)
		restrict(of, f.Tag.Get("is"))
		properties[member] = of
		if option != "omitempty" {
			required = append(required, member)
		}
	}
	if slices.Sort(required); len(required) > 0 {
		t[name]["required"] = required
	}
	return t.ref(name, "schemas")
}

// input returns the schema of one input, and whether it has to be given. In a
// body null is as good as nothing.
func (t types) input(f Field) (of schema, required bool) {
	r := f.Type
	if r.Kind() == reflect.Pointer && r.Elem().Kind() != reflect.Struct {
		r = r.Elem()
	}
	of = t.of(r)
	required = restrict(of, f.Is) || f.In == "path"
	if f.Names != "" {
		of["minLength"], of["maxLength"] = 1, chat.MaxID
		of["pattern"] = `^[!-.0-\[\]-~]+$`
		of["description"] = "Names a " + f.Names + "."
	}
	if of["nullable"] == nil && f.In == "body" && !required {
		of["nullable"] = true
	}
	if values, ok := of["enum"].([]any); ok && of["nullable"] == true {
		of["enum"] = append(slices.Clone(values), nil)
	}
	return of, required
}

// restrict adds what a tag says to a schema.
func restrict(of schema, is string) (required bool) {
	for rule := range strings.SplitSeq(is, ",") {
		name, value, _ := strings.Cut(rule, "=")
		switch name {
		case "":
		case "required":
			required = true
		case "enum":
			var values []any
			for v := range strings.SplitSeq(value, "|") {
				values = append(values, v)
			}
			of["enum"] = values
		case "format":
			of[name] = value
		default:
			n, err := strconv.Atoi(value)
			if err != nil {
				panic("httpapi: no rule " + rule)
			}
			of[name] = n
		}
	}
	return required
}
