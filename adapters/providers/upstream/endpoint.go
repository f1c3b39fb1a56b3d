package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"parley/domain/chat"
	"parley/ports"
)

// Endpoint is one server of a provider.
type Endpoint struct {
	Base *url.URL // without its query, which is added to every request; the path ends with a slash
	HTTP *http.Client

	header   http.Header // of every request
	provider string
	limits   Limits
	refused  refusedMembers
}

var errBaseURL = errors.New("the base URL must be http(s)://host/path")

// NewEndpoint returns the server at a base URL, to which every request is sent
// with header. suffixes are dropped from the end of its path: addresses of calls,
// which are easily taken for the base.
func NewEndpoint(provider, base string, header http.Header, c Client, suffixes ...string) (*Endpoint, error) {
	u, err := url.Parse(strings.TrimSpace(base))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errBaseURL // without what was given: it may hold a secret
	}
	query := u.RawQuery
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment, u.RawPath = "", false, "", "", ""
	u.Path = strings.TrimRight(u.Path, "/")
	for _, suffix := range suffixes {
		u.Path = strings.TrimRight(strings.TrimSuffix(u.Path, suffix), "/")
	}
	u.Path += "/"
	return &Endpoint{Base: u, HTTP: c.newHTTP(query), header: header, provider: provider, limits: c.Limits.OrDefaults()}, nil
}

// Server returns the host and the port of the endpoint, for traces.
func (e *Endpoint) Server() (host string, port int) {
	port, err := strconv.Atoi(e.Base.Port())
	switch {
	case err == nil:
	case e.Base.Scheme == "https":
		port = 443
	default:
		port = 80
	}
	return e.Base.Hostname(), port
}

// Close closes idle connections.
func (e *Endpoint) Close() { e.HTTP.CloseIdleConnections() }

// Watch starts the time limits of a request. Stop of the watchdog must be called.
func (e *Endpoint) Watch(ctx context.Context) (context.Context, *Watchdog) {
	return NewWatchdog(ctx, e.limits)
}

// Send sends a request to a path below the base URL, with a body as JSON unless it
// is nil, and returns the response, whatever its status.
func (e *Endpoint) Send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content bytes.Buffer
	if body != nil {
		encoder := json.NewEncoder(&content)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(body); err != nil {
			return nil, err
		}
	}
	address := *e.Base
	address.Path += path
	req, err := http.NewRequestWithContext(ctx, method, address.String(), bytes.NewReader(content.Bytes()))
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, e.header)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "parley")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return e.HTTP.Do(req)
}

// Request is a request for a reply, as a provider makes it of a prompt.
type Request struct {
	Body      any      // is encoded as JSON
	Optional  []string // the names of its members that a server may refuse
	Ignored   []string // the parameters of the prompt that are left out, by their names in ports.Prompt
	MaxOutput int64    // the bound of output tokens; 0: none
}

// Protocol is how a provider is asked and how its answers are read.
type Protocol struct {
	// Build makes the request of a prompt, whose messages are given, without the
	// members in omit.
	Build func(p ports.Prompt, messages []Message, omit Members) Request
	// Post sends it and returns the response, whatever its status.
	Post func(ctx context.Context, req Request) (*http.Response, error)
	// Decode reads an event into the reply. It returns io.EOF after the last one.
	Decode func(e Event, r *Reply) error
}

// Generate implements ports.Model for a provider. A stream is read to its end,
// whatever reason to end has come before it.
func (e *Endpoint) Generate(ctx context.Context, p ports.Prompt, emit func(chat.Delta), protocol Protocol) (ports.Answer, error) {
	ctx, watchdog := e.Watch(ctx)
	defer watchdog.Stop()
	watchdog.due = p.Due
	a := ports.Answer{Provider: e.provider, Model: p.Params.Model, Usage: chat.Usage{Estimated: true}}
	resp, req, err := e.open(ctx, p, protocol)
	if len(req.Ignored) > 0 {
		a.Metadata = map[string]any{"ignored": req.Ignored}
	}
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	reply := NewReply(watchdog, e.provider, p.Params.Model, emit)
	events := NewEventReader(resp.Body, e.limits.MaxEvent, e.limits.MaxEvent+6*e.limits.MaxReply) // a character takes up to 6 bytes of JSON
	for err == nil && events.Next() {
		err = protocol.Decode(events.Event(), reply)
	}
	readErr := events.Err()
	if errors.Is(err, io.EOF) {
		err, readErr = nil, nil
	}
	err = reply.end(ctx, err, readErr, events.Document())
	if reply.Model != "" {
		a.Model = reply.Model
	}
	a.FinishReason, a.Usage = reply.answer(p, req.MaxOutput, err)
	return a, err
}

// open sends the request, again without each optional member that the server
// refuses by name, and returns the response that it accepts it with.
func (e *Endpoint) open(ctx context.Context, p ports.Prompt, protocol Protocol) (*http.Response, Request, error) {
	messages, err := Messages(ctx, p)
	if err != nil {
		return nil, Request{}, err
	}
	omit := e.refused.of(p.Params.Model)
	for {
		req := protocol.Build(p, messages, omit)
		resp, err := protocol.Post(ctx, req)
		if err != nil {
			return nil, req, Broken(ctx, err)
		}
		if resp.StatusCode >= 400 {
			refusal := ReadRefusal(resp)
			if member := refusal.member(req.Optional); member != "" {
				omit = append(slices.Clip(omit), member)
				continue
			}
			if hasFiles(messages) && refusal.ofFile() {
				return nil, req, refusal.fault(FileRefused)
			}
			return nil, req, refusal.Fault()
		}
		if err := checkResponse(resp); err != nil {
			_ = resp.Body.Close()
			return nil, req, err
		}
		e.refused.remember(p.Params.Model, omit)
		resp.Request, req.Body = nil, nil // files are large, and a reply may take minutes
		return resp, req, nil
	}
}
