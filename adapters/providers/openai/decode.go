package openai

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
)

// decoder reads the chunks of one stream, or the one document of a server that
// does not stream.
type decoder struct {
	choice    int64 // the index of the choice that is the reply
	chosen    bool  // it has sent text
	reasoning mirror
}

var done = []byte("[DONE]")

func (d *decoder) decode(e upstream.Event, r *upstream.Reply) error {
	if bytes.HasPrefix(bytes.TrimSpace(e.Data), done) {
		return io.EOF
	}
	chunk, err := e.JSON()
	if err != nil {
		return err
	}
	if e.Name == "error" || chunk.Get("object").Str == "error" { // vLLM, Mistral
		return upstream.ParseRefusal(chunk, http.StatusOK, nil).Fault()
	}
	var sources []chat.Part // after the text, wherever they stand
	chunk.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "model":
			if value.Str != "" {
				r.Model = value.Str
			}
		case "choices":
			value.ForEach(func(_, choice gjson.Result) bool {
				err = d.decodeChoice(choice, r)
				return err == nil
			})
		case "usage":
			reportUsage(value, r)
		case "citations", "search_results": // Perplexity, xAI
			sources = append(sources, upstream.ReadSources(value)...)
		case "x_groq":
			reportUsage(value.Get("usage"), r)
		case "error":
			if value.Type != gjson.Null {
				err = upstream.ParseRefusal(chunk, http.StatusOK, nil).Fault()
			}
		case "text", "content", "delta", "message", "response", "output", "token", "generated_text": // other protocols
			if !isEmpty(value) {
				r.UnknownMember(key.Str)
			}
		}
		return err == nil
	})
	r.Sources(titled(sources)...)
	return err
}

// titled puts the sources with a title first: Perplexity lists its pages twice,
// as addresses alone and with titles.
func titled(sources []chat.Part) []chat.Part {
	slices.SortStableFunc(sources, func(a, b chat.Part) int {
		return cmp.Compare(min(len(b.Title), 1), min(len(a.Title), 1))
	})
	return sources
}

// decodeChoice reads a choice. Its content is in a delta, in a message (of a
// document), or in the text of a legacy completion.
func (d *decoder) decodeChoice(choice gjson.Result, r *upstream.Reply) error {
	var delta, message, text, finish, failed gjson.Result
	index := d.choice
	choice.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "index":
			if value.Type == gjson.Number {
				index = value.Int()
			}
		case "delta":
			delta = value
		case "message":
			message = value
		case "text":
			text = value
		case "finish_reason":
			finish = value
		case "error": // OpenRouter
			failed = value
		case "usage": // Moonshot
			reportUsage(value, r)
		case "content", "response", "output", "token", "generated_text":
			if !isEmpty(value) {
				r.UnknownMember(key.Str)
			}
		}
		return true
	})
	c := d.read(delta, r)
	if c.isEmpty() && !d.chosen { // Perplexity repeats the whole message beside every delta
		m := d.read(message, r)
		m.Unsupported = cmp.Or(c.Unsupported, m.Unsupported)
		c = m
	}
	if c.isEmpty() {
		c.merge(upstream.ReadContent(text))
	}
	if !c.isEmpty() || c.Unsupported != "" {
		switch {
		case !d.chosen:
			d.choice, d.chosen = index, true
		case d.choice != index:
			r.Unsupported("a_second_choice") // one was asked for
			return nil
		}
	}
	if err := d.pass(c, r); err != nil {
		return err
	}
	switch {
	case failed.IsObject() || failed.Type == gjson.String:
		return upstream.ParseRefusal(choice, http.StatusOK, nil).Fault()
	case index != d.choice && d.chosen:
	case finish.Type == gjson.Null, finish.Type == gjson.False, finish.Type == gjson.String && finish.Str == "":
	default:
		r.Finish(finish.String())
	}
	return nil
}

// pass passes on what has not been passed on yet: reasoning that has a member of
// its own, and then the content in its order.
func (d *decoder) pass(c content, r *upstream.Reply) error {
	if err := r.Reasoning(d.reasoning.unseen(c.source, c.reasoning)); err != nil {
		return err
	}
	for i, p := range c.Parts {
		switch {
		case p.Kind != chat.ReasoningPart:
		case strings.Contains(c.reasoning, p.Text):
			c.Parts[i].Text = ""
		default:
			c.Parts[i].Text = d.reasoning.unseen("content", p.Text)
		}
	}
	if err := r.Content(c.Content); err != nil {
		return err
	}
	r.Sources(titled(c.sources)...)
	return nil
}

// content is that of a delta or a message, gathered from several members.
type content struct {
	upstream.Content
	reasoning string // of members that hold nothing else
	source    string // the first of them
	sources   []chat.Part
}

func (c *content) isEmpty() bool { return c.Empty() && c.reasoning == "" }

func (c *content) merge(more upstream.Content) {
	if c.Parts == nil {
		c.Parts = more.Parts
	} else {
		c.Parts = append(c.Parts, more.Parts...)
	}
	if c.Unsupported == "" {
		c.Unsupported = more.Unsupported
	}
}

// addReasoning adds reasoning once: some servers send it in several members.
func (c *content) addReasoning(source, text string) {
	if text != "" && c.source == "" {
		c.source = source
	}
	switch {
	case strings.Contains(c.reasoning, text):
	case strings.Contains(text, c.reasoning):
		c.reasoning = text
	default:
		c.reasoning += text
	}
}

// mirror finds reasoning that a server sends again under another name, in
// chunks of their own or as a whole at the end.
type mirror struct {
	text    []byte         // as passed on
	sources map[string]int // how much of it each member has sent; -1: something else
}

// unseen returns the part of a member's next chunk that was not passed on yet.
func (m *mirror) unseen(source, chunk string) string {
	if chunk == "" {
		return ""
	}
	if m.sources == nil {
		m.sources = map[string]int{}
	}
	at := m.sources[source]
	if at >= 0 {
		switch known := m.text[at:]; {
		case strings.HasPrefix(string(known[:min(len(known), len(chunk))]), chunk):
			m.sources[source] = at + len(chunk)
			return ""
		case len(known) <= len(chunk) && strings.HasPrefix(chunk, string(known)):
			chunk = chunk[len(known):]
			m.sources[source] = len(m.text) + len(chunk)
		default:
			m.sources[source] = -1
		}
	}
	m.text = append(m.text, chunk...)
	return chunk
}

// read reads a delta or a message.
func (d *decoder) read(v gjson.Result, r *upstream.Reply) (c content) {
	if !v.IsObject() {
		c.merge(upstream.ReadContent(v))
		return c
	}
	v.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "content", "refusal":
			c.merge(upstream.ReadContent(value))
		case "reasoning_content", // DeepSeek, vLLM, llama.cpp
			"reasoning",         // OpenRouter, Ollama, Groq
			"reasoning_details", // OpenRouter
			"reasoning_text",
			"thinking", "thinking_blocks": // LiteLLM
			c.addReasoning(key.Str, upstream.ReadReasoning(value))
		case "tool_calls", "function_call", "audio", "images":
			if !isEmpty(value) && c.Unsupported == "" {
				c.Unsupported = key.Str
			}
		case "usage":
			reportUsage(value, r)
		case "annotations", "citations", "search_results":
			c.sources = append(c.sources, upstream.ReadSources(value)...)
		case "provider_specific_fields": // LiteLLM
			c.sources = append(c.sources, upstream.ReadSources(value.Get("citations"))...)
		case "role", "name", "id", "type", "index", "status", "logprobs", "token_ids", "reasoning_signature", "signature":
		default:
			if !isEmpty(value) {
				r.UnknownMember(key.Str)
			}
		}
		return true
	})
	return c
}

// isEmpty reports whether a value can hold no text: null, a number, a truth
// value, or a string, list or object without anything in it.
func isEmpty(v gjson.Result) bool {
	switch v.Type {
	case gjson.String:
		return v.Str == ""
	case gjson.JSON:
		empty := true
		v.ForEach(func(_, _ gjson.Result) bool {
			empty = false
			return false
		})
		return empty
	}
	return true
}

// reportUsage reads usage as OpenAI counts it: prompt tokens include the cached
// ones, completion tokens the reasoning. Some servers use the names of the
// Responses API.
func reportUsage(u gjson.Result, r *upstream.Reply) {
	if !u.IsObject() {
		return
	}
	r.Usage(upstream.UsageReport{
		Input:      first(u, "prompt_tokens", "input_tokens"),
		Output:     first(u, "completion_tokens", "output_tokens"),
		CacheRead:  first(u, "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens"),
		CacheWrite: u.Get("prompt_tokens_details.cache_write_tokens"),
		Reasoning:  first(u, "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens"),
	})
}

// first returns the first of the members that is there.
func first(v gjson.Result, paths ...string) gjson.Result {
	for _, path := range paths {
		if m := v.Get(path); m.Type != gjson.Null {
			return m
		}
	}
	return gjson.Result{}
}
