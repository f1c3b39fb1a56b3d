// Package openai asks OpenAI, or any server that speaks its chat completions,
// through the official SDK. The SDK builds the request and reads the stream's
// frames. Of each piece only the few fields that matter are looked at, which
// costs a fraction of decoding it and admits the fields that compatible servers add.
package openai

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
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
	Conns    int
	Observer ports.Observer // nil: nobody is told of rate limits
	Wrap     func(http.RoundTripper) http.RoundTripper
}

// Provider implements ports.Model. Prompt.Params.Model must be set.
type Provider struct {
	client   sdk.Client
	http     *http.Client
	limits   upstream.Limits
	official bool // OpenAI itself, which knows newer parameters than its imitators
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
	p := &Provider{limits: c.Limits.OrDefaults(), official: u.Host == "api.openai.com"}
	p.http = upstream.Client{Limits: p.limits, Conns: c.Conns, Wrap: c.Wrap, Seen: headroom(c.Observer)}.HTTP()
	p.client = sdk.Client{Options: []option.RequestOption{
		option.WithBaseURL(strings.TrimRight(base, "/") + "/"),
		option.WithAPIKey(c.Key),
		option.WithHTTPClient(p.http),
		option.WithMaxRetries(0), // ours are the only ones
	}}
	return p, nil
}

// Close lets go of idle connections.
func (p *Provider) Close() { p.http.CloseIdleConnections() }

// Generate implements ports.Model. The reply is whole when a finish reason has
// come; usage may follow it, and is Estimated when it does not.
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
	reply := upstream.NewReply(watch, emit)
	for events.Next() {
		data := events.Event().Data
		if bytes.HasPrefix(data, done) {
			break
		}
		if err = take(data, &a, reply); err != nil {
			return a, reply.Failed(err)
		}
		if a.FinishReason != "" {
			watch.Whole()
		}
	}
	if a.FinishReason != "" {
		return a, nil
	}
	a.Usage.Estimated = true // of as much as there was
	return a, reply.Failed(upstream.CutShort(ctx, events.Err()))
}

// open sends the request and returns the events of its reply.
func (p *Provider) open(ctx context.Context, params sdk.ChatCompletionNewParams) (ssestream.Decoder, error) {
	var resp *http.Response
	err := p.client.Post(ctx, "chat/completions", params, &resp, option.WithJSONSet("stream", true))
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

// ListModels returns the names of the models that the server offers, in its order.
func (p *Provider) ListModels(ctx context.Context) ([]string, error) {
	ctx, watch := upstream.NewWatch(ctx, p.limits)
	defer watch.End()
	var resp *http.Response
	err := p.client.Get(ctx, "models", nil, &resp)
	if resp != nil && resp.StatusCode >= 400 {
		return nil, upstream.ReadRefusal(resp).Fault()
	}
	if err != nil {
		return nil, upstream.Broken(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
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
