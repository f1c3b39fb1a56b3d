// Package anthropic asks Anthropic's messages API through the official SDK.
// The SDK builds and sends the request. Of each event of the reply only the few
// members that matter are looked at, which costs a fraction of decoding it.
package anthropic

import (
	"context"
	"fmt"
	"net/http"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// Name is the provider's name.
const Name = "anthropic"

// BaseURL is Anthropic's own.
const BaseURL = "https://api.anthropic.com"

// Config says how to reach the server. Only Key is needed for Anthropic itself.
type Config struct {
	Key       string
	BaseURL   string // without the version; "": Anthropic's
	MaxTokens int    // of a reply whose prompt sets no bound; the API demands one. 0: 8192
	Limits    upstream.Limits
	Conns     int            // idle connections to keep
	Observer  ports.Observer // receives the headroom of rate limits; nil: none
	Wrap      func(http.RoundTripper) http.RoundTripper
}

// Provider implements ports.Model. Prompt.Params.Model must be set.
type Provider struct {
	endpoint  *upstream.Endpoint
	client    sdk.Client
	maxTokens int64
}

// Server returns the host and the port of the provider, for traces.
func (p *Provider) Server() (host string, port int) { return p.endpoint.Server() }

// New returns a provider. It sends nothing yet, and reads no environment.
func New(c Config) (*Provider, error) {
	base := c.BaseURL
	if base == "" {
		base = BaseURL
	}
	endpoint, err := upstream.NewEndpoint(Name, base,
		upstream.Client{
			Limits: c.Limits, Conns: c.Conns, Wrap: c.Wrap,
			OnHeader: upstream.ReportHeadroom(c.Observer, Name, "Anthropic-Ratelimit-%s-Limit", "Anthropic-Ratelimit-%s-Remaining"),
		}, "/messages", "/v1")
	if err != nil {
		return nil, fmt.Errorf("anthropic: %w", err)
	}
	p := &Provider{endpoint: endpoint, maxTokens: int64(c.MaxTokens)}
	if p.maxTokens <= 0 {
		p.maxTokens = 8192
	}
	p.client = sdk.Client{Options: []option.RequestOption{
		option.WithBaseURL(endpoint.Base.String()),
		option.WithAPIKey(c.Key),
		option.WithHTTPClient(endpoint.HTTP),
		option.WithMaxRetries(0),      // the router retries
		option.WithoutOpenTelemetry(), // its spans may carry messages
	}}
	return p, nil
}

// Close closes idle connections.
func (p *Provider) Close() { p.endpoint.Close() }

// Generate implements ports.Model. The reply is complete when message_stop has come.
func (p *Provider) Generate(ctx context.Context, prompt ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	var d decoder
	return p.endpoint.Generate(ctx, prompt, emit, upstream.Protocol{
		Build: p.request,
		Post: func(ctx context.Context, req upstream.Request, resp **http.Response) error {
			return p.client.Post(ctx, "v1/messages", req.Params, resp, option.WithJSONSet("stream", true))
		},
		Decode: d.decode,
	})
}
