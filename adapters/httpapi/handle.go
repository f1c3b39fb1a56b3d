package httpapi

import (
	"cmp"
	"context"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	kit "github.com/go-kit/kit/transport/http"

	"parley/domain/access"
	"parley/domain/fault"
)

// Access says who may use a route, and what it counts against.
type Access int

// The kinds of route.
const (
	Public Access = iota // anybody, uncounted
	Reads                // changes nothing
	Writes               // changes something, but asks no provider
	Sends                // makes a reply: counts against the tier's limit
)

func (a Access) scope() access.Scope {
	if a == Reads {
		return access.ChatRead
	}
	return access.ChatWrite
}

// Route describes one row of the table: what it is called by and every input
// that it reads.
type Route struct {
	Method, Path string
	Access       Access
	Stream       bool   // always answers with server-sent events
	Media        string // what it answers with, if neither JSON nor events
	NoBody       bool   // the body may be left out
	MaxBody      int64  // bytes of the body; 0: as of any other
	Does         string // in a few words, for the description
	Fields       []Field
	Answers      []Answer
}

// Answer is one way in which a route answers when it does not refuse.
type Answer struct {
	Status int
	Media  string         // "": there is no body
	Types  []reflect.Type // of the body, or those of the events
}

// encoder writes what came of a use case. Its answers are all that it may
// write; the description of the API is made of them.
type encoder[Out any] struct {
	answers []Answer
	write   func(context.Context, http.ResponseWriter, Out) error
}

// as encodes everything alike: one status, and the JSON that of makes.
func as[Out, JSON any](status int, of func(Out) JSON) encoder[Out] {
	return encoder[Out]{
		[]Answer{jsonAnswer[JSON](status)},
		func(_ context.Context, w http.ResponseWriter, out Out) error { return encodeJSON(w, status, of(out)) },
	}
}

func jsonAnswer[JSON any](status int) Answer {
	return Answer{status, mediaJSON, []reflect.Type{reflect.TypeFor[JSON]()}}
}

// Label names the route in metrics, logs and the audit.
func (r Route) Label() string { return r.Method + " " + r.Path }

// row is a route with what serves it.
type row struct {
	Route
	handler http.Handler
}

// Routes lists every route.
func (a *API) Routes() []Route {
	out := make([]Route, len(a.rows))
	for i, r := range a.rows {
		out[i] = r.Route
	}
	return out
}

// Sends reports whether a route asks for a reply. path is its pattern.
func (a *API) Sends(method, path string) bool {
	return slices.ContainsFunc(a.rows, func(r row) bool {
		return r.Access == Sends && r.Method == method && r.Path == path
	})
}

type responseKey struct{}

// handle makes a row: the fields of Wire are read from the request, accept
// makes them the use case's input, use is the use case, and encode writes what
// came of it. It may return an error only before it has written anything: kit
// would write the error behind it.
func handle[Wire, In, Out any](
	a *API, route Route,
	accept func(call, Wire) (In, error),
	use func(context.Context, In) (Out, error),
	encode encoder[Out],
) row {
	wire := reflect.TypeFor[Wire]()
	route.Fields, route.Answers = fieldsOf(wire), encode.answers
	b := newBinder(wire, route.NoBody, cmp.Or(route.MaxBody, a.MaxBody))
	server := kit.NewServer(
		func(ctx context.Context, in any) (any, error) {
			if opens, ok := in.(interface{ opensStream() bool }); route.Stream || ok && opens.opensStream() {
				c := callOf(ctx)
				if err := c.stream.open(a.Gate, c.principal); err != nil {
					return nil, err
				}
			}
			return use(ctx, in.(In))
		},
		func(ctx context.Context, r *http.Request) (any, error) {
			c := callOf(ctx)
			in, err := decode(b, c, accept, r)
			if err != nil && c.onlyReplay != nil {
				// Whatever is wrong with it, it is no repeat of what was let in.
				err = c.onlyReplay
			}
			return in, err
		},
		func(ctx context.Context, w http.ResponseWriter, out any) error {
			return encode.write(ctx, w, out.(Out))
		},
		kit.ServerErrorEncoder(a.fail),
	)
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A decoder of kit's does not get the writer, which bounds the body.
		server.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), responseKey{}, w)))
	})
	return row{route, a.admit(route, serve)}
}

func decode[Wire, In any](b binder, c call, accept func(call, Wire) (In, error), r *http.Request) (In, error) {
	var wire Wire
	var none In
	offered := mediaJSON
	switch {
	case c.route.Stream:
		offered = eventStream
	case c.route.Media != "":
		offered = c.route.Media
	}
	if !acceptable(r, offered) && (c.route.Access != Sends || !acceptable(r, eventStream)) {
		return none, fault.New(fault.NotAcceptable, "This address answers with %s", offered)
	}
	w := r.Context().Value(responseKey{}).(http.ResponseWriter)
	if err := b.bind(w, r, &wire); err != nil {
		return none, err
	}
	return accept(c, wire)
}

// acceptable reports whether the client takes an answer of this media type.
func acceptable(r *http.Request, offered string) bool {
	given := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(given) == "" {
		return true
	}
	group, _, _ := strings.Cut(offered, "/")
	best, how := 0.0, -1 // the most specific range decides
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
		if specific <= how {
			continue
		}
		how, best = specific, 1
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			best = q
		}
	}
	return best > 0
}
