package providers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// cache answers a question that was answered before, word for word, and lets
// callers who ask the same at the same time share one call. Only complete
// replies of the model that was asked for are stored.
type cache struct {
	store  ports.Cache
	ttl    time.Duration
	shared bool

	mu    sync.Mutex
	calls map[string]*sharedCall // by key
}

func newCache(store ports.Cache, ttl time.Duration, shared bool) *cache {
	return &cache{store: store, ttl: ttl, shared: shared, calls: map[string]*sharedCall{}}
}

// question is what must be equal for a stored reply to answer it.
type question struct {
	User            string
	Provider, Model string
	System          string
	Temperature     *float64
	MaxTokens       int
	Reasoning       string
	Turns           []ports.PromptMessage
}

// key is the cache's key of a question: a hash, so that no message can be read
// from it. Line ends and the space around a message do not matter.
func (c *cache) key(p ports.Prompt, e endpoint) string {
	q := question{
		Provider: e.name, Model: e.model, System: normalize(p.Params.System), Temperature: p.Params.Temperature,
		MaxTokens: p.Params.MaxTokens, Reasoning: p.Params.Reasoning,
	}
	q.User = c.owner(p)
	for _, m := range p.Messages {
		if len(filesOf(m.Parts)) == 0 {
			m = ports.PromptText(m.Role, normalize(m.Text()))
		}
		q.Turns = append(q.Turns, m)
	}
	data, err := json.Marshal(q)
	if err != nil { // no field can fail to encode
		panic(err)
	}
	sum := sha256.Sum256(data)
	return "reply:" + hex.EncodeToString(sum[:])
}

// owner is the user whose erasure removes the stored reply; "" when users share
// it. The ids of files are those of one user, and so is a reply about them.
func (c *cache) owner(p ports.Prompt) string {
	if c.shared && !hasFiles(p) {
		return ""
	}
	return p.UserID
}

func normalize(s string) string {
	return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n"))
}

// storedReply is a reply in the cache, in the chunks it was streamed in.
type storedReply struct {
	Provider     string      `json:"provider"`
	Model        string      `json:"model"`
	FinishReason string      `json:"finishReason"`
	Demo         bool        `json:"demo,omitempty"`
	Chunks       []chat.Part `json:"parts"` // as emitted
}

// askFunc calls the providers.
type askFunc func(ctx context.Context, emit func(chat.Delta)) (ports.Answer, error)

// generate answers from the cache, from a call that is already under way, or by
// asking.
func (c *cache) generate(ctx context.Context, p ports.Prompt, first endpoint, ask askFunc, emit func(chat.Delta)) (ports.Answer, error) {
	if p.NoCache || len(p.Messages) == 0 || p.Messages[len(p.Messages)-1].Role != chat.User {
		return ask(ctx, emit)
	}
	key := c.key(p, first)
	if a, ok := c.replay(ctx, c.owner(p), key, emit); ok {
		return a, nil
	}
	for {
		call, started := c.join(ctx, c.owner(p), key, first, ask)
		a, shown, err := call.follow(ctx, emit, started)
		// The deadline or the cancellation was that of the caller who started the
		// call. As long as nothing was shown here, this caller asks again.
		if err != nil && !started && !shown && ctx.Err() == nil {
			switch upstream.ReasonOf(err) {
			case upstream.Deadline, upstream.Canceled:
				continue
			}
		}
		return a, err
	}
}

func (c *cache) replay(ctx context.Context, owner, key string, emit func(chat.Delta)) (ports.Answer, bool) {
	data, ok := c.store.Get(ctx, owner, key)
	if !ok {
		return ports.Answer{}, false
	}
	var k storedReply
	if json.Unmarshal(data, &k) != nil || len(k.Chunks) == 0 {
		return ports.Answer{}, false
	}
	for _, p := range k.Chunks {
		emit(chat.Delta{Part: p})
	}
	a := ports.Answer{Provider: k.Provider, Model: k.Model, FinishReason: k.FinishReason}
	if k.Demo {
		a.Metadata = map[string]any{"demo": true}
	}
	return withoutUsage(a), true
}

// withoutUsage is an answer whose usage is charged to another caller.
func withoutUsage(a ports.Answer) ports.Answer {
	zero := int64(0)
	meta := map[string]any{"cached": true}
	for k, v := range a.Metadata {
		meta[k] = v
	}
	a.Usage, a.CostMicros, a.Metadata = chat.Usage{}, &zero, meta
	return a
}

// put stores a complete reply of the endpoint that was asked for.
func (c *cache) put(ctx context.Context, owner, key string, a ports.Answer, deltas []chat.Delta) {
	if a.FinishReason != "stop" || a.Metadata["fallback"] != nil || len(deltas) == 0 {
		return
	}
	k := storedReply{Provider: a.Provider, Model: a.Model, FinishReason: a.FinishReason, Demo: a.Metadata["demo"] == true}
	for _, d := range deltas {
		k.Chunks = append(k.Chunks, d.Part)
	}
	if data, err := json.Marshal(k); err == nil {
		c.store.Set(ctx, owner, key, data, c.ttl)
	}
}
