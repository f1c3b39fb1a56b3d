// Package anthropic asks Anthropic's messages API. Of each event of the reply only
// the few members that matter are looked at, which costs a fraction of decoding it.
package anthropic

import (
	"context"
	"fmt"
	"net/http"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// Name is the provider's name.
const Name = "anthropic"

// BaseURL is Anthropic's own.
const BaseURL = "https://api.anthropic.com"

// apiVersion is the version of the API, a date.
const apiVersion = "2023-06-01"

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
	endpoint, err := upstream.NewEndpoint(Name, base, http.Header{"X-Api-Key": {c.Key}, "Anthropic-Version": {apiVersion}},
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
	return p, nil
}

// Close closes idle connections.
func (p *Provider) Close() { p.endpoint.Close() }

// Generate implements ports.Model. The reply is complete when message_stop has come.
func (p *Provider) Generate(ctx context.Context, prompt ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	var d decoder
	return p.endpoint.Generate(ctx, prompt, emit, upstream.Protocol{
		Build: p.request,
		Post: func(ctx context.Context, req upstream.Request) (*http.Response, error) {
			return p.endpoint.Send(ctx, http.MethodPost, "v1/messages", req.Body)
		},
		Decode: d.decode,
	})
}
