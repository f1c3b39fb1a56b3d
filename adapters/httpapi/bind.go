package httpapi

import (
	"bytes"
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
// parameter, of a header or of a member of the JSON body, or the file that is
// the body.
type Field struct {
	In   string // path, query, header, body, file
	Name string
	// Ref says what the value identifies: "conversation", "message", "file", "share", "share token", each with
	// "new" before it when the caller chooses it, or "" when it is no id. A
	// request with the id of another user must reveal nothing about it.
	Ref    string
	Type   reflect.Type
	Schema string // rules for the description, separated by commas: required, minimum=1, maxLength=200, enum=a|b

	index  []int
	errmsg string // the sentence for a value of another type
}

// fieldsOf reads the tags of a wire struct: path, query, header and json say
// where a field is in the request; schema, ref and errmsg are as in Field. A
// decoder sees nothing of a request but the fields of its struct, so this list
// is complete.
func fieldsOf(t reflect.Type) []Field {
	var out []Field
	for _, f := range reflect.VisibleFields(t) {
		for _, in := range []string{"path", "query", "header", "file", "json"} {
			name, ok := f.Tag.Lookup(in)
			if !ok || name == "-" {
				continue
			}
			if in == "json" {
				in = "body"
			}
			out = append(out, Field{
				In: in, Name: name, Ref: f.Tag.Get("ref"), Type: f.Type, Schema: f.Tag.Get("schema"),
				index: f.Index, errmsg: f.Tag.Get("errmsg"),
			})
		}
	}
	return out
}

// binder fills wire structs of one type.
type binder struct {
	fields   []Field
	body     map[string]Field // by name
	optional bool             // the body may be left out
	open     bool             // other members of the body are passed over
}

func newBinder(t reflect.Type, optional bool) binder {
	b := binder{fields: fieldsOf(t), body: map[string]Field{}, optional: optional, open: isOpen(t)}
	for _, f := range b.fields {
		if f.In == "body" {
			b.body[f.Name] = f
		}
	}
	return b
}

// bind fills the struct that dst points to from a request.
func (b binder) bind(r *http.Request, dst any) error {
	v := reflect.ValueOf(dst).Elem()
	if len(b.body) > 0 {
		if err := b.bindBody(r, v); err != nil {
			return err
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fault.New(fault.Invalid, "Invalid query string")
	}
	for _, f := range b.fields {
		var given []string
		switch f.In {
		case "path":
			given = []string{r.PathValue(f.Name)}
		case "query":
			given = query[f.Name]
		case "header":
			given = r.Header.Values(f.Name)
		case "file":
			file, err := bindFile(r)
			if err != nil {
				return err
			}
			v.FieldByIndex(f.index).Set(reflect.ValueOf(file))
			continue
		default:
			continue
		}
		if len(given) == 0 {
			continue
		}
		if len(given) > 1 {
			return fault.New(fault.Invalid, "%s is given more than once", f.Name)
		}
		if !parseText(v.FieldByIndex(f.index), given[0]) {
			return f.invalid()
		}
	}
	return nil
}

// parseText reads text into a string, *string, *int or bool.
func parseText(v reflect.Value, text string) bool {
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

func (b binder) bindBody(r *http.Request, dst reflect.Value) error {
	if b.optional && (r.Body == nil || r.Body == http.NoBody) {
		return nil
	}
	if r.Header.Get("Content-Encoding") != "" {
		return fault.New(fault.MediaType, "A compressed request body is not accepted")
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if b.optional && len(body) == 0 {
		return nil
	}
	if kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != MediaJSON ||
		params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
		return fault.New(fault.MediaType, "Content-Type must be application/json")
	}
	names, err := checkObject(body)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := b.body[name]; !ok && !b.open {
			return unknownField(name)
		}
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return errNotJSON()
	}
	for name, raw := range members {
		f, ok := b.body[name]
		if !ok {
			continue
		}
		if unmarshal(raw, dst.FieldByIndex(f.index).Addr().Interface()) != nil {
			return f.invalid()
		}
	}
	return nil
}

// boundedBody is a request's body with a bound on its length. The deadline that
// the request came with is lifted once all of it has been read: left behind, it
// would end the wait for the reply. After a failure it stays, or the server
// would wait for the rest.
type boundedBody struct {
	io.ReadCloser
	conn *http.ResponseController
	max  int64
	idle time.Duration // of an upload: renews the deadline at each read; 0: it stays
	end  time.Time     // when the deadline is not renewed any more
}

// uploadTimeout bounds an upload, however steadily it comes.
const uploadTimeout = 30 * time.Minute

// boundBody returns the request with a bounded body. It needs the response
// writer, which is told to close the connection when the body is too long.
func boundBody(w http.ResponseWriter, r *http.Request, maxBody int64, idle time.Duration) *http.Request {
	if r.Body == nil || r.Body == http.NoBody {
		return r
	}
	bounded := *r
	bounded.Body = &boundedBody{
		http.MaxBytesReader(w, r.Body, maxBody), http.NewResponseController(w), maxBody, idle, time.Now().Add(uploadTimeout),
	}
	return &bounded
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if now := time.Now(); b.idle > 0 && now.Before(b.end) {
		_ = b.conn.SetReadDeadline(now.Add(b.idle))
	}
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

func readBody(r *http.Request) ([]byte, error) {
	if b, ok := r.Body.(*boundedBody); ok && r.ContentLength > b.max {
		return nil, tooLarge(b.max)
	}
	var body bytes.Buffer
	if n := r.ContentLength; n > 0 && n <= maxBuffer { // of what its client says, so much is believed
		body.Grow(int(n) + bytes.MinRead)
	}
	if _, err := body.ReadFrom(r.Body); err != nil {
		return nil, bodyError(r, err)
	}
	return body.Bytes(), nil
}

// bodyError is the fault of a body that cannot be read to its end.
func bodyError(r *http.Request, err error) error {
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return tooLarge(over.Limit)
	case r.Context().Err() != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return r.Context().Err() // the client has gone
	}
	return fault.Wrap(err, fault.Invalid, "The request body could not be read")
}

func (f Field) invalid() error {
	if f.errmsg != "" {
		return fault.New(fault.Invalid, "%s", f.errmsg)
	}
	return fault.New(fault.Invalid, "Invalid %s", f.Name)
}

func tooLarge(limit int64) error {
	return fault.New(fault.TooLarge, "Request body cannot exceed %d bytes", limit)
}

// unknownField names a member only if it looks like one: anything else may be
// text that slipped into the wrong place.
func unknownField(name string) error {
	if len(name) <= 40 && chat.ValidID(name) {
		return fault.New(fault.Invalid, "Unknown field %s", strconv.Quote(name))
	}
	return fault.New(fault.Invalid, "Unknown field in request body")
}

// accepts reports whether the client accepts an answer of this media type.
func accepts(r *http.Request, offered string) bool {
	given := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(given) == "" {
		return true
	}
	group, _, _ := strings.Cut(offered, "/")
	best, found := 0.0, -1 // the most specific range decides
	for part := range strings.SplitSeq(given, ",") {
		kind, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		specific := -1
		switch kind {
		case offered:
			specific = 2
		case group + "/*":
			specific = 1
		case "*/*":
			specific = 0
		}
		if specific <= found {
			continue
		}
		found, best = specific, 1
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			best = q
		}
	}
	return best > 0
}
