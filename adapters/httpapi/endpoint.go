package httpapi

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"reflect"
	"time"

	kitendpoint "github.com/go-kit/kit/endpoint"
	kit "github.com/go-kit/kit/transport/http"

	"parley/domain/access"
	"parley/domain/fault"
)

// Access says who may use a route, and which limit it counts against.
type Access int

// The kinds of access.
const (
	Public        Access = iota // no credential, no limit
	PublicLimited               // no credential; counts against a limit of the address
	Reads                       // changes nothing
	Writes                      // changes something, but asks no provider
	Sends                       // asks for a reply: counts against the tier's limit
)

// NeedsCredential reports whether a request must come from a known caller.
func (a Access) NeedsCredential() bool { return a >= Reads }

func (a Access) scope() access.Scope {
	if a == Reads {
		return access.ChatRead
	}
	return access.ChatWrite
}

// Route describes one address of the API: its name and every input that it
// reads.
type Route struct {
	Method, Path string
	Access       Access
	Stream       bool   // always answers with a stream, of server-sent events unless Media is set
	Media        string // of its answers, if neither JSON nor events
	NoBody       bool   // the body may be left out
	BodyFactor   int64  // how many times Config.MaxBody the body may have; 0: once
	MaxFile      int64  // bytes of the file that is the body; 0: it is none
	Refuses      []int  // further statuses with which it refuses requests
	// PlainRefusals: refusals are a sentence in plain text, with the code in a header.
	PlainRefusals bool
	Page          bool   // serves the page rather than the API: left out of its description
	Summary       string // for the description
	Fields        []Field
	Answers       []Answer
	Details       map[string]reflect.Type // further members of its problems

	openBody bool // the body may have other members, which are not read
}

// Label names the route in metrics, logs and the audit.
func (r Route) Label() string { return r.Method + " " + r.Path }

// Answer is one way in which a route answers when it does not refuse.
type Answer struct {
	Status int
	Media  string         // "": there is no body
	Types  []reflect.Type // of the body, or of the events
}

// Encoder writes the output of an operation. Answers lists all that it may
// write; the description of the API is made of them. Encode may return an
// error only before it has written anything.
type Encoder[Out any] struct {
	Answers []Answer
	Encode  func(ctx context.Context, w *Response, out Out) error
}

// JSONEncoder encodes every output with one status, as the JSON that convert
// makes of it.
func JSONEncoder[Out, JSON any](status int, convert func(Out) JSON) Encoder[Out] {
	return Encoder[Out]{
		[]Answer{JSONAnswer[JSON](status)},
		func(_ context.Context, w *Response, out Out) error { return w.JSON(status, convert(out)) },
	}
}

// JSONAnswer describes an answer with a JSON body.
func JSONAnswer[JSON any](status int) Answer {
	return Answer{status, MediaJSON, []reflect.Type{reflect.TypeFor[JSON]()}}
}

// Call is what is known about a request once it has been let in.
type Call struct {
	Principal access.Principal
	Caller    access.Caller
	// ReplayOnlyReason is the refusal of a request over its limit: it is served
	// only if it turns out to be the repeat of one that was let in.
	ReplayOnlyReason error
}

// Endpoint is a route with what serves it.
type Endpoint struct {
	Route
	handler func(*API) http.Handler
}

// Handle makes an endpoint: the fields of Wire are read from the request,
// decode makes the operation's input of them, and encoder writes its output.
// A route that is public has a zero Call.Principal.
func Handle[Wire, In, Out any](
	route Route,
	decode func(Call, Wire) (In, error),
	operation func(context.Context, In) (Out, error),
	encoder Encoder[Out],
) Endpoint {
	wire := reflect.TypeFor[Wire]()
	route.Fields, route.Answers, route.openBody = fieldsOf(wire), encoder.Answers, isOpen(wire)
	invoke := func(ctx context.Context, req any) (any, error) { return operation(ctx, req.(*request).in.(In)) }
	encode := func(ctx context.Context, w *Response, out any) error { return encoder.Encode(ctx, w, out.(Out)) }
	return Endpoint{route, func(a *API) http.Handler {
		return a.handler(route, decodeInput(newBinder(reflect.TypeFor[Wire](), route.NoBody), decode), invoke, encode)
	}}
}

// handler puts the middlewares before an operation and makes go-kit serve it.
// What is refused is refused in this order: credential, origin, kill switch,
// coarse limit, scope, the tier's limit, input, open streams. Of a public route
// these are the kill switch and the limit of the address, or none. The body is not
// read before its turn comes.
func (a *API) handler(
	route Route, decode kitendpoint.Middleware, invoke kitendpoint.Endpoint, encode func(context.Context, *Response, any) error,
) http.Handler {
	middlewares := []kitendpoint.Middleware{a.instrument, decode}
	switch {
	case route.Access == PublicLimited:
		middlewares = []kitendpoint.Middleware{a.checkAddress, a.instrument, decode}
	case route.Access.NeedsCredential():
		middlewares = []kitendpoint.Middleware{
			a.authenticate, a.checkOrigin, a.checkRequest, a.checkScope, a.consumeSend, a.instrument, decode, a.limitStreams, a.recheck,
		}
	}
	server := kit.NewServer(
		kitendpoint.Chain(respond, middlewares...)(invoke),
		func(_ context.Context, r *http.Request) (any, error) {
			return &request{Request: r, Call: Call{Caller: a.caller(r)}, route: route, header: http.Header{}}, nil
		},
		func(ctx context.Context, w http.ResponseWriter, response any) error {
			out := response.(output)
			defer out.request.closeStream()
			maps.Copy(w.Header(), out.request.header)
			err := encode(ctx, &Response{w, a, out.request}, out.value)
			if err != nil {
				a.observeFailure(ctx, out.request, err)
				err = failure{out.request, err}
			}
			return err
		},
		kit.ServerErrorEncoder(encodeFailure),
	)
	maxBody, idle := a.MaxBody*cmp.Or(route.BodyFactor, 1), time.Duration(0)
	if route.MaxFile > 0 { // around a file there may be a form
		maxBody, idle = route.MaxFile+64<<10, a.ReadTimeout
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server.ServeHTTP(w, boundBody(w, r, maxBody, idle))
	})
}

// request is one request on its way through the middlewares of its endpoint.
type request struct {
	*http.Request // whose body is bounded
	Call
	route      Route
	credential access.Credential
	header     http.Header // of the answer, whatever it will be
	in         any         // the operation's input, once it has been decoded
	stream     func()      // stops counting the request's stream; nil: none is open
}

func (r *request) closeStream() {
	if r.stream != nil {
		r.stream()
	}
}

// output is what an endpoint answers, with the request that it belongs to.
type output struct {
	request *request
	value   any
}

// failure is output for errors.
type failure struct {
	request *request
	error
}

func (f failure) Unwrap() error { return f.error }

// respond is the outermost middleware: it adds the request to the output.
func respond(next kitendpoint.Endpoint) kitendpoint.Endpoint {
	return func(ctx context.Context, in any) (any, error) {
		req := in.(*request)
		out, err := next(ctx, req)
		if err != nil {
			return nil, failure{req, err}
		}
		return output{req, out}, nil
	}
}

// encodeFailure answers an error of an endpoint or an encoder.
func encodeFailure(ctx context.Context, err error, w http.ResponseWriter) {
	if fault.KindOf(err) == fault.Canceled && ctx.Err() != nil {
		return // the client has gone
	}
	if f, ok := err.(failure); ok { //nolint:errorlint // no error wraps one
		maps.Copy(w.Header(), f.request.header)
		err = f.error
		if f.request.route.PlainRefusals {
			writePlainRefusal(w, err)
			return
		}
	}
	writeProblem(w, err)
}

// middleware makes a middleware of a check that a request has to pass.
func middleware(next kitendpoint.Endpoint, check func(context.Context, *request) error) kitendpoint.Endpoint {
	return func(ctx context.Context, in any) (any, error) {
		if err := check(ctx, in.(*request)); err != nil {
			return nil, err
		}
		return next(ctx, in)
	}
}

// decodeInput makes the middleware that reads the operation's input.
func decodeInput[Wire, In any](b binder, decode func(Call, Wire) (In, error)) kitendpoint.Middleware {
	read := func(req *request) (In, error) {
		var wire Wire
		var none In
		if err := req.checkAccept(); err != nil {
			return none, err
		}
		if err := b.bind(req.Request, &wire); err != nil {
			return none, err
		}
		return decode(req.Call, wire)
	}
	return func(next kitendpoint.Endpoint) kitendpoint.Endpoint {
		return middleware(next, func(_ context.Context, req *request) error {
			in, err := read(req)
			if err != nil && req.ReplayOnlyReason != nil {
				// Whatever is wrong with it, it is no repeat of what was let in.
				return req.ReplayOnlyReason
			}
			req.in = in
			return err
		})
	}
}

// checkAccept refuses a request that does not accept what its route answers with.
func (r *request) checkAccept() error {
	offered := cmp.Or(r.route.Media, MediaJSON)
	if r.route.Stream && r.route.Media == "" {
		offered = MediaEvents
	}
	if offered == MediaAny || accepts(r.Request, offered) || r.route.Access == Sends && accepts(r.Request, MediaEvents) {
		return nil
	}
	return fault.New(fault.NotAcceptable, "This address answers with %s", offered)
}

// opensStream is implemented by inputs of which only some open a stream.
type opensStream interface{ OpensStream() bool }

func (r *request) opensStream() bool {
	if in, ok := r.in.(opensStream); ok {
		return in.OpensStream()
	}
	return r.route.Stream
}
