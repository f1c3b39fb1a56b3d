package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"parley/domain/chat"
	"parley/domain/fault"
)

// Field is one input of a route: the name of a path segment, of a query
// parameter, of a header or of a member of the JSON body.
type Field struct {
	In   string // path, query, header, body
	Name string
	// Names says what the value identifies: "conversation", "message", either
	// with "new" before it when the caller chooses it, or "" when it is no id.
	// Whoever asks with an id of somebody else must learn nothing.
	Names string
	Type  reflect.Type
	Is    string // for the description: required, minimum=1, maxLength=200, enum=a|b ..., with commas between

	index  []int
	refuse string // the sentence for a value of another type
}

// fieldsOf reads the tags of a wire struct: path, query, header and json say
// where a field stands, names, is and refuse as in Field. A handler sees nothing of
// a request but the fields of its struct, so this list is complete.
func fieldsOf(t reflect.Type) []Field {
	var out []Field
	for _, f := range reflect.VisibleFields(t) {
		for _, in := range []string{"path", "query", "header", "json"} {
			name, ok := f.Tag.Lookup(in)
			if !ok || name == "-" {
				continue
			}
			if in == "json" {
				in = "body"
			}
			out = append(out, Field{
				In: in, Name: name, Names: f.Tag.Get("names"), Type: f.Type, Is: f.Tag.Get("is"),
				index: f.Index, refuse: f.Tag.Get("refuse"),
			})
		}
	}
	return out
}

// binder fills wire structs of one type.
type binder struct {
	fields   []Field
	body     map[string]Field // by name
	optional bool             // no body at all is as good as an empty object
	maxBody  int64
}

func newBinder(t reflect.Type, optional bool, maxBody int64) binder {
	b := binder{fields: fieldsOf(t), body: map[string]Field{}, optional: optional, maxBody: maxBody}
	for _, f := range b.fields {
		if f.In == "body" {
			b.body[f.Name] = f
		}
	}
	return b
}

// bind fills the struct that dst points to from a request.
func (b binder) bind(w http.ResponseWriter, r *http.Request, dst any) error {
	if len(b.body) > 0 {
		if err := b.bindBody(w, r, dst); err != nil {
			return err
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fault.New(fault.Invalid, "Invalid query string")
	}
	v := reflect.ValueOf(dst).Elem()
	for _, f := range b.fields {
		var given []string
		switch f.In {
		case "path":
			given = []string{r.PathValue(f.Name)}
		case "query":
			given = query[f.Name]
		case "header":
			given = r.Header.Values(f.Name)
		default:
			continue
		}
		if len(given) == 0 {
			continue
		}
		if len(given) > 1 {
			return fault.New(fault.Invalid, "%s is given more than once", f.Name)
		}
		if !set(v.FieldByIndex(f.index), given[0]) {
			return f.refused()
		}
	}
	return nil
}

// set writes text into a string, *string, *int or bool.
func set(v reflect.Value, text string) bool {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case **string:
		*p = &text
	case **int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return false
		}
		*p = &n
	case *bool:
		on, err := strconv.ParseBool(text)
		if err != nil {
			return false
		}
		*p = on
	default:
		panic("httpapi: no way to read a " + v.Type().String() + " from text")
	}
	return true
}

func (b binder) bindBody(w http.ResponseWriter, r *http.Request, dst any) error {
	if b.optional && (r.Body == nil || r.Body == http.NoBody) {
		return nil
	}
	if r.Header.Get("Content-Encoding") != "" {
		return fault.New(fault.MediaType, "A compressed request body is not accepted")
	}
	if r.ContentLength > b.maxBody {
		return tooLarge(b.maxBody)
	}
	body, err := b.read(w, r)
	if err != nil {
		return err
	}
	if b.optional && len(body) == 0 {
		return nil
	}
	if kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" ||
		params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
		return fault.New(fault.MediaType, "Content-Type must be application/json")
	}
	names, err := checkObject(body)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := b.body[name]; !ok {
			return unknownField(name)
		}
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return errNotJSON()
	}
	v := reflect.ValueOf(dst).Elem()
	for name, raw := range members {
		f := b.body[name]
		if unmarshal(raw, v.FieldByIndex(f.index).Addr().Interface()) != nil {
			return f.refused()
		}
	}
	return nil
}

// read takes the body within its bound. The deadline that the request came with
// is lifted once all of it is there: left behind, it would end the wait for the
// reply. After a failure it stays, or the server would wait for the rest.
func (b binder) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, b.maxBody))
	if err == nil {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		return body, nil
	}
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(b.maxBody)
	case r.Context().Err() != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return nil, r.Context().Err() // the client has gone
	}
	return nil, fault.Wrap(err, fault.Invalid, "The request body could not be read")
}

func (f Field) refused() error {
	if f.refuse != "" {
		return fault.New(fault.Invalid, "%s", f.refuse)
	}
	return fault.New(fault.Invalid, "Invalid %s", f.Name)
}

func tooLarge(most int64) error {
	return fault.New(fault.TooLarge, "Request body cannot exceed %d bytes", most)
}

// unknownField names a member only if it looks like one: anything else may be
// text that slipped into the wrong place.
func unknownField(name string) error {
	if len(name) <= 40 && chat.ValidID(name) {
		return fault.New(fault.Invalid, "Unknown field %s", strconv.Quote(name))
	}
	return fault.New(fault.Invalid, "Unknown field in request body")
}
