// Package openai asks OpenAI, or any server that speaks its chat completions,
// through the official SDK. The SDK builds the request and reads the stream's
// frames; the pieces are decoded into the few fields that matter, which also
// admits the fields that compatible servers add.
package openai

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"

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

// chunk is a piece of the stream.
type chunk struct {
	Model   string `json:"model"`
	Choices []struct {
		Delta struct {
			Content          upstream.Piece `json:"content"`
			Refusal          upstream.Piece `json:"refusal"`
			ReasoningContent upstream.Piece `json:"reasoning_content"` // vLLM, llama.cpp, DeepSeek
			Reasoning        upstream.Piece `json:"reasoning"`         // OpenRouter, Ollama
		} `json:"delta"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage `json:"usage"`
}

// usage as OpenAI counts: prompt tokens include the cached ones, completion
// tokens the reasoning.
type usage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	PromptHas  struct {
		Cached  int64 `json:"cached_tokens"`
		Written int64 `json:"cache_write_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionHas struct {
		Reasoning int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

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
	stream, err := p.open(ctx, params)
	if err != nil {
		return a, err
	}
	defer stream.Close() //nolint:errcheck // nothing is left to read
	reply := upstream.NewReply(watch, emit)
	for stream.Next() {
		c := stream.Current()
		if c.Model != "" {
			a.Model = c.Model
		}
		if c.Usage != nil {
			a.Usage = c.Usage.count()
		}
		for _, choice := range c.Choices {
			d := choice.Delta
			for _, err := range []error{
				reply.Reasoning(d.ReasoningContent), reply.Reasoning(d.Reasoning),
				reply.Text(d.Content), reply.Text(d.Refusal),
			} {
				if err != nil {
					return a, err
				}
			}
			if choice.FinishReason != "" {
				a.FinishReason = choice.FinishReason
				watch.Whole()
			}
		}
	}
	if a.FinishReason != "" {
		return a, nil
	}
	a.Usage.Estimated = true // of as much as there was
	return a, reply.Failed(broken(ctx, stream.Err()))
}

// open sends the request and returns the stream of its reply.
func (p *Provider) open(ctx context.Context, params sdk.ChatCompletionNewParams) (*ssestream.Stream[chunk], error) {
	var resp *http.Response
	err := p.client.Post(ctx, "chat/completions", params, &resp, option.WithJSONSet("stream", true))
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
	return ssestream.NewStream[chunk](ssestream.NewDecoder(resp), nil), nil
}

func (u usage) count() chat.Usage {
	return chat.Usage{
		Input: u.Prompt, Output: u.Completion,
		CacheRead: u.PromptHas.Cached, CacheWrite: u.PromptHas.Written,
		Reasoning: u.CompletionHas.Reasoning,
	}
}

// refusal is an error in OpenAI's words. Some servers put a number where the
// code should be.
type refusal struct {
	Error struct {
		Type    string          `json:"type"`
		Code    json.RawMessage `json:"code"`
		Message string          `json:"message"`
	} `json:"error"`
}

func parse(data []byte) upstream.Refusal {
	var r refusal
	var code string
	if json.Unmarshal(data, &r) == nil {
		_ = json.Unmarshal(r.Error.Code, &code)
	}
	return upstream.Refusal{Type: r.Error.Type, Code: code, Message: r.Error.Message}
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
	if said := streamError(err); said != nil {
		r := parse(said.Event.Data)
		r.Status = http.StatusOK
		return r.Fault()
	}
	return upstream.Broken(ctx, err)
}
