// Package openai asks OpenAI, or any server that implements its chat completions.
// Of each chunk of the reply only the few members that matter are looked at,
// which costs a fraction of decoding it and admits what compatible servers add.
package openai

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/tidwall/gjson"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// Name is the provider's name.
const Name = "openai"

// BaseURL is OpenAI's own.
const BaseURL = "https://api.openai.com/v1"

// Config says how to reach the server. Only Key is needed for OpenAI itself.
type Config struct {
	Key      string
	BaseURL  string // with the version, as in http://localhost:11434/v1; "": OpenAI's
	Limits   upstream.Limits
	Conns    int            // idle connections to keep
	Observer ports.Observer // receives the headroom of rate limits; nil: none
	Wrap     func(http.RoundTripper) http.RoundTripper
}

// Provider implements ports.Model. Prompt.Params.Model must be set.
type Provider struct {
	endpoint *upstream.Endpoint
	official bool        // OpenAI itself, which knows newer members than compatible servers
	underV1  atomic.Bool // the base URL has no path, and the server answers under /v1
}

// Server returns the host and the port of the provider, for traces.
func (p *Provider) Server() (host string, port int) { return p.endpoint.Server() }

// New returns a provider. It sends nothing yet, and reads no environment.
func New(c Config) (*Provider, error) {
	base := c.BaseURL
	if base == "" {
		base = BaseURL
	}
	header := http.Header{}
	if c.Key != "" {
		header.Set("Authorization", "Bearer "+c.Key)
	}
	endpoint, err := upstream.NewEndpoint(Name, base, header,
		upstream.Client{
			Limits: c.Limits, Conns: c.Conns, Wrap: c.Wrap,
			OnHeader: upstream.ReportHeadroom(c.Observer, Name, "X-Ratelimit-Limit-%s", "X-Ratelimit-Remaining-%s"),
		}, "/chat/completions")
	if err != nil {
		return nil, fmt.Errorf("openai: %w", err)
	}
	return &Provider{endpoint: endpoint, official: endpoint.Base.Host == "api.openai.com"}, nil
}

// Close closes idle connections.
func (p *Provider) Close() { p.endpoint.Close() }

// Generate implements ports.Model. The reply is complete when a finish reason
// has come and the stream has ended; usage is Estimated when it did not come.
func (p *Provider) Generate(ctx context.Context, prompt ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	var d decoder
	return p.endpoint.Generate(ctx, prompt, emit, upstream.Protocol{
		Build: p.request,
		Post: func(ctx context.Context, req upstream.Request) (*http.Response, error) {
			return p.send(ctx, http.MethodPost, "chat/completions", req.Body)
		},
		Decode: d.decode,
	})
}

// send calls the server. To a base URL without a path, which may lack the
// version, it calls again under /v1 when nothing is found, and remembers what
// was found there.
func (p *Provider) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	if p.underV1.Load() {
		return p.endpoint.Send(ctx, method, "v1/"+path, body)
	}
	resp, err := p.endpoint.Send(ctx, method, path, body)
	if err != nil || p.endpoint.Base.Path != "/" || resp.StatusCode != http.StatusNotFound {
		return resp, err
	}
	again, err := p.endpoint.Send(ctx, method, "v1/"+path, body)
	if err != nil {
		return resp, nil //nolint:nilerr // the first answer is the one to report
	}
	if again.StatusCode == http.StatusNotFound {
		_ = again.Body.Close()
		return resp, nil
	}
	_ = resp.Body.Close()
	p.underV1.Store(true)
	return again, nil
}

var errNoModels = errors.New("openai: the server did not answer with a list of models")

// ListModels returns the names of the models that the server offers, in its order.
func (p *Provider) ListModels(ctx context.Context) ([]string, error) {
	ctx, watchdog := p.endpoint.Watch(ctx)
	defer watchdog.Stop()
	resp, err := p.send(ctx, http.MethodGet, "models", nil)
	if err != nil {
		return nil, upstream.Broken(ctx, err)
	}
	if resp.StatusCode >= 400 {
		return nil, upstream.ReadRefusal(resp).Fault()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxModelList))
	if err != nil {
		return nil, upstream.Broken(ctx, err)
	}
	list := gjson.GetBytes(data, "data")
	if resp.StatusCode >= 300 || !list.IsArray() {
		return nil, upstream.Fail(upstream.NotAStream, errNoModels)
	}
	var names []string
	for _, model := range list.Array() {
		if id := model.Get("id").Str; id != "" {
			names = append(names, id)
		}
	}
	return names, nil
}

// maxModelList bounds a list of models, in bytes.
const maxModelList = 4 << 20
