// Package anthropic asks Anthropic's messages API through the official SDK.
// The SDK builds the request and reads the stream's frames. Of each event only
// the few fields that matter are looked at, which costs a fraction of decoding it.
package anthropic

import (
	"context"
	"errors"
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

// Generate implements ports.Model. The reply is whole when message_stop has come.
func (p *Provider) Generate(ctx context.Context, prompt ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	ctx, watch := upstream.NewWatch(ctx, p.limits)
	defer watch.End()
	a := ports.Answer{Provider: Name, Model: prompt.Params.Model, Usage: chat.Usage{Estimated: true}}
	params, ignored := p.params(prompt)
	if len(ignored) > 0 {
		a.Metadata = map[string]any{"ignored": ignored}
	}
	events, err := p.open(ctx, params)
	if err != nil {
		return a, err
	}
	defer events.Close()
	m := message{answer: &a, watch: watch, reply: upstream.NewReply(watch, emit)}
	for events.Next() {
		e := events.Event()
		if err = m.take(e.Type, e.Data); err != nil {
			return a, m.reply.Failed(err)
		}
		if a.FinishReason != "" {
			return a, nil
		}
	}
	return a, m.reply.Failed(upstream.CutShort(ctx, events.Err()))
}

// open sends the request and returns the events of its reply.
func (p *Provider) open(ctx context.Context, params sdk.MessageNewParams) (ssestream.Decoder, error) {
	var resp *http.Response
	err := p.client.Post(ctx, "v1/messages", params, &resp, option.WithJSONSet("stream", true))
	if resp != nil && resp.StatusCode >= 400 {
		return nil, upstream.ReadRefusal(resp).Fault()
	}
	if err != nil {
		return nil, upstream.Broken(ctx, err)
	}
	if err := upstream.Stream(resp); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return ssestream.NewDecoder(resp), nil
}
