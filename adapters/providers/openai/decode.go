package openai

import (
	"bytes"
	"io"
	"net/http"
	"strings"

	"github.com/tidwall/gjson"

	"parley/adapters/providers/upstream"
)

// decoder reads the chunks of one stream, or the one document of a server that
// does not stream.
type decoder struct {
	choice int64 // the index of the choice that is the reply
	chosen bool  // it has said something
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
		case "x_groq":
			reportUsage(value.Get("usage"), r)
		case "error":
			if value.Type != gjson.Null {
				err = upstream.ParseRefusal(chunk, http.StatusOK, nil).Fault()
			}
		}
		return err == nil
	})
	return err
}

// decodeChoice reads a choice. Where it says something is a delta, or in a
// document a message, or the text of a legacy completion.
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
		}
		return true
	})
	said := d.read(delta, r)
	if !said.spoke() && !d.chosen { // Perplexity repeats the whole message beside every delta
		said.merge(d.read(message, r).Content)
	}
	if !said.spoke() {
		said.merge(upstream.ReadContent(text))
	}
	if said.spoke() || said.Unsupported != "" {
		switch {
		case !d.chosen:
			d.choice, d.chosen = index, true
		case d.choice != index:
			r.Unsupported("a_second_choice") // one was asked for
			return nil
		}
	}
	if err := r.Content(said.Content); err != nil {
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

// spoken is what a delta or a message says.
type spoken struct{ upstream.Content }

func (s *spoken) spoke() bool { return s.Text != "" || s.Reasoning != "" }

func (s *spoken) merge(c upstream.Content) {
	s.Text += c.Text
	s.addReasoning(c.Reasoning)
	if s.Unsupported == "" {
		s.Unsupported = c.Unsupported
	}
}

// addReasoning adds reasoning once: some servers give it under several names.
func (s *spoken) addReasoning(text string) {
	switch {
	case strings.Contains(s.Reasoning, text):
	case strings.Contains(text, s.Reasoning):
		s.Reasoning = text
	default:
		s.Reasoning += text
	}
}

// read reads a delta or a message.
func (d *decoder) read(v gjson.Result, r *upstream.Reply) (s spoken) {
	if !v.IsObject() {
		s.merge(upstream.ReadContent(v))
		return s
	}
	v.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "content", "refusal":
			s.merge(upstream.ReadContent(value))
		case "reasoning_content", // DeepSeek, vLLM, llama.cpp
			"reasoning",         // OpenRouter, Ollama, Groq
			"reasoning_details", // OpenRouter
			"reasoning_text",
			"thinking", "thinking_blocks": // LiteLLM
			s.addReasoning(upstream.ReadReasoning(value))
		case "tool_calls", "function_call", "audio", "images":
			if !isEmpty(value) && s.Unsupported == "" {
				s.Unsupported = key.Str
			}
		case "usage":
			reportUsage(value, r)
		case "role", "name", "id", "type", "index", "status", "annotations", "citations", "logprobs", "token_ids",
			"provider_specific_fields", "reasoning_signature", "signature":
		default:
			if !isEmpty(value) {
				r.UnknownMember(key.Str)
			}
		}
		return true
	})
	return s
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
