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

// cache answers a question that was answered a while ago, word for word, and
// lets those who ask the same at the same time share one reply. Only whole
// replies of the model that was asked for are kept.
type cache struct {
	store  ports.Cache
	ttl    time.Duration
	shared bool

	mu      sync.Mutex
	flights map[string]*flight
}

func newCache(store ports.Cache, ttl time.Duration, shared bool) *cache {
	return &cache{store: store, ttl: ttl, shared: shared, flights: map[string]*flight{}}
}

// question is what has to be the same for a reply to be the same.
type question struct {
	User            string
	Provider, Model string
	System          string
	Temperature     *float64
	MaxTokens       int
	Reasoning       string
	Turns           []ports.Turn
}

// key is the name of a question: a hash, so that no message can be read in
// the cache's keys. Line ends and the space around a message do not matter.
func (c *cache) key(p ports.Prompt, t target) string {
	q := question{
		Provider: t.member.name, Model: t.name, System: normal(p.Params.System), Temperature: p.Params.Temperature,
		MaxTokens: p.Params.MaxTokens, Reasoning: p.Params.Reasoning,
	}
	q.User = c.owner(p)
	for _, turn := range p.Turns {
		q.Turns = append(q.Turns, ports.Turn{Role: turn.Role, Text: normal(turn.Text)})
	}
	data, err := json.Marshal(q)
	if err != nil { // there is nothing in it that could fail
		panic(err)
	}
	sum := sha256.Sum256(data)
	return "reply:" + hex.EncodeToString(sum[:])
}

// owner is whose the answer is, and goes with: everybody's, if they share.
func (c *cache) owner(p ports.Prompt) string {
	if c.shared {
		return ""
	}
	return p.UserID
}

func normal(s string) string {
	return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n"))
}

// kept is a reply in the cache, with the cuts it was streamed in.
type kept struct {
	Provider     string  `json:"provider"`
	Model        string  `json:"model"`
	FinishReason string  `json:"finishReason"`
	Demo         bool    `json:"demo,omitempty"`
	Pieces       []piece `json:"pieces"`
}

type piece struct {
	Reasoning bool   `json:"r,omitempty"`
	Text      string `json:"t"`
}

type asker func(ctx context.Context, emit func(chat.Delta)) (ports.Answer, error)

// generate answers from the cache, from a reply that is on its way to somebody
// else, or by asking.
func (c *cache) generate(ctx context.Context, p ports.Prompt, first target, ask asker, emit func(chat.Delta)) (ports.Answer, error) {
	if p.Fresh || len(p.Turns) == 0 || p.Turns[len(p.Turns)-1].Role != chat.User {
		return ask(ctx, emit)
	}
	key := c.key(p, first)
	if a, ok := c.replay(ctx, c.owner(p), key, emit); ok {
		return a, nil
	}
	for {
		f, leads := c.join(ctx, c.owner(p), key, first, ask)
		a, shown, err := f.follow(ctx, emit, leads)
		// Whoever led had less time, or no wish to hear the end. That is not
		// ours to suffer as long as we have shown nothing.
		if err != nil && !leads && !shown && ctx.Err() == nil {
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
	var k kept
	if json.Unmarshal(data, &k) != nil || len(k.Pieces) == 0 {
		return ports.Answer{}, false
	}
	for _, p := range k.Pieces {
		emit(chat.Delta{Reasoning: p.Reasoning, Text: p.Text})
	}
	a := ports.Answer{Provider: k.Provider, Model: k.Model, FinishReason: k.FinishReason}
	if k.Demo {
		a.Metadata = map[string]any{"demo": true}
	}
	return unpaid(a), true
}

// unpaid is an answer that somebody else has paid for.
func unpaid(a ports.Answer) ports.Answer {
	nothing := int64(0)
	meta := map[string]any{"cached": true}
	for k, v := range a.Metadata {
		meta[k] = v
	}
	a.Usage, a.CostMicros, a.Metadata = chat.Usage{}, &nothing, meta
	return a
}

// keep stores a reply that another time would be as good.
func (c *cache) keep(ctx context.Context, owner, key string, a ports.Answer, said []chat.Delta) {
	if a.FinishReason != "stop" || a.Metadata["fallback"] != nil || len(said) == 0 {
		return
	}
	k := kept{Provider: a.Provider, Model: a.Model, FinishReason: a.FinishReason, Demo: a.Metadata["demo"] == true}
	for _, d := range said {
		k.Pieces = append(k.Pieces, piece{Reasoning: d.Reasoning, Text: d.Text})
	}
	if data, err := json.Marshal(k); err == nil {
		c.store.Set(ctx, owner, key, data, c.ttl)
	}
}
