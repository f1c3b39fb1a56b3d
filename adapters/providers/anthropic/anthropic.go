// Package anthropic asks Anthropic's messages API through the official SDK.
// The SDK builds the request and reads the stream's frames; events are decoded
// into the few fields that matter.
package anthropic

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/ssestream"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// Name is the provider's name.
const Name = "anthropic"

// BaseURL is Anthropic's own.
const BaseURL = "https://api.anthropic.com"

var errBaseURL = errors.New("anthropic: the base URL must be http(s)://host")

// Config says how to reach the server. Only Key is needed for Anthropic itself.
type Config struct {
	Key       string
	BaseURL   string // without the version; "": Anthropic's
	MaxTokens int    // of a reply that does not say; the API demands a number. 0: 8192
	Limits    upstream.Limits
	Conns     int
	Observer  ports.Observer // nil: nobody is told of rate limits
	Wrap      func(http.RoundTripper) http.RoundTripper
}

// Provider implements ports.Model. Prompt.Params.Model must be set.
type Provider struct {
	client    sdk.Client
	http      *http.Client
	limits    upstream.Limits
	maxTokens int64
}

// New returns a provider. It asks nothing yet, and reads no environment.
func New(c Config) (*Provider, error) {
	base := c.BaseURL
	if base == "" {
		base = BaseURL
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errBaseURL
	}
	p := &Provider{limits: c.Limits.OrDefaults(), maxTokens: int64(c.MaxTokens)}
	if p.maxTokens <= 0 {
		p.maxTokens = 8192
	}
	p.http = upstream.Client{Limits: p.limits, Conns: c.Conns, Wrap: c.Wrap, Seen: headroom(c.Observer)}.HTTP()
	p.client = sdk.Client{Options: []option.RequestOption{
		option.WithBaseURL(strings.TrimRight(base, "/") + "/"),
		option.WithAPIKey(c.Key),
		option.WithHTTPClient(p.http),
		option.WithMaxRetries(0),      // ours are the only ones
		option.WithoutOpenTelemetry(), // its spans may carry messages
	}}
	return p, nil
}

// Close lets go of idle connections.
func (p *Provider) Close() { p.http.CloseIdleConnections() }

// event is a piece of the stream.
type event struct {
	Type    string `json:"type"`
	Message struct {
		Model string `json:"model"`
		Usage usage  `json:"usage"`
	} `json:"message"`
	Delta struct {
		Text       upstream.Piece `json:"text"`
		Thinking   upstream.Piece `json:"thinking"`
		StopReason string         `json:"stop_reason"`
	} `json:"delta"`
	Usage usage `json:"usage"`
}

// usage as Anthropic counts: input excludes what a prompt cache gave or took.
// Later figures are cumulative and replace earlier ones; absent ones do not.
type usage struct {
	Input      *int64 `json:"input_tokens"`
	CacheWrite *int64 `json:"cache_creation_input_tokens"`
	CacheRead  *int64 `json:"cache_read_input_tokens"`
	Output     *int64 `json:"output_tokens"`
	OutputHas  struct {
		Thinking *int64 `json:"thinking_tokens"`
	} `json:"output_tokens_details"`
}

func (u *usage) take(later usage) {
	for _, f := range []struct{ to, from **int64 }{
		{&u.Input, &later.Input}, {&u.CacheWrite, &later.CacheWrite}, {&u.CacheRead, &later.CacheRead},
		{&u.Output, &later.Output}, {&u.OutputHas.Thinking, &later.OutputHas.Thinking},
	} {
		if *f.from != nil {
			*f.to = *f.from
		}
	}
}

func (u usage) count() chat.Usage {
	n := func(p *int64) int64 {
		if p == nil {
			return 0
		}
		return *p
	}
	return chat.Usage{
		Input:  n(u.Input) + n(u.CacheRead) + n(u.CacheWrite),
		Output: n(u.Output), CacheRead: n(u.CacheRead), CacheWrite: n(u.CacheWrite),
		Reasoning: n(u.OutputHas.Thinking),
		Estimated: u.Input == nil || u.Output == nil,
	}
}

// Generate implements ports.Model. The reply is whole when message_stop has come.
func (p *Provider) Generate(ctx context.Context, prompt ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	ctx, watch := upstream.NewWatch(ctx, p.limits)
	defer watch.End()
	a := ports.Answer{Provider: Name, Model: prompt.Params.Model, Usage: chat.Usage{Estimated: true}}
	params, ignored := p.params(prompt)
	if len(ignored) > 0 {
		a.Metadata = map[string]any{"ignored": ignored}
	}
	stream, err := p.open(ctx, params)
	if err != nil {
		return a, err
	}
	defer stream.Close() //nolint:errcheck // nothing is left to read
	reply := upstream.NewReply(watch, emit)
	var used usage
	stop := ""
	for stream.Next() {
		e := stream.Current()
		switch e.Type {
		case "message_start":
			a.Model = e.Message.Model
			used.take(e.Message.Usage)
		case "content_block_delta":
			watch.Begin() // whatever it is: a signature comes after thinking that is not shown
			if err := reply.Reasoning(e.Delta.Thinking); err != nil {
				return a, err
			}
			if err := reply.Text(e.Delta.Text); err != nil {
				return a, err
			}
		case "message_delta":
			used.take(e.Usage)
			stop = e.Delta.StopReason
		case "message_stop":
			watch.Whole()
			a.FinishReason, a.Usage = finishReason(stop), used.count()
			return a, nil
		}
		a.Usage = used.count()
		a.Usage.Estimated = true // of as much as there was
	}
	return a, reply.Failed(broken(ctx, stream.Err()))
}

// finishReason is a stop reason in the common words.
func finishReason(stop string) string {
	switch stop {
	case "end_turn", "stop_sequence", "":
		return "stop"
	case "max_tokens", "model_context_window_exceeded":
		return "length"
	case "tool_use":
		return "tool_calls"
	}
	return stop
}

// open sends the request and returns the stream of its reply.
func (p *Provider) open(ctx context.Context, params sdk.MessageNewParams) (*ssestream.Stream[event], error) {
	var resp *http.Response
	err := p.client.Post(ctx, "v1/messages", params, &resp, option.WithJSONSet("stream", true))
	if resp != nil && resp.StatusCode >= 400 {
		return nil, refused(resp)
	}
	if err != nil {
		return nil, upstream.Broken(ctx, err)
	}
	if err := upstream.Stream(resp); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return ssestream.NewStream[event](ssestream.NewDecoder(resp), nil), nil
}

func parse(data []byte) upstream.Refusal {
	var r struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(data, &r) // an empty refusal is classified by its status
	return upstream.Refusal{Type: r.Error.Type, Message: r.Error.Message}
}

func refused(resp *http.Response) error {
	data, _ := io.ReadAll(resp.Body) // what the SDK has kept, or as much as may be read
	_ = resp.Body.Close()
	r := parse(data)
	r.Status, r.Header = resp.StatusCode, resp.Header
	return r.Fault()
}

// broken is why a stream ended before its time.
func broken(ctx context.Context, err error) error {
	if err == nil {
		if ended := upstream.Ended(ctx); ended != nil {
			return ended
		}
		return upstream.Unfinished()
	}
	var said *sdk.Error
	if errors.As(err, &said) {
		r := parse([]byte(said.RawJSON()))
		r.Status = http.StatusOK
		return r.Fault()
	}
	return upstream.Broken(ctx, err)
}
