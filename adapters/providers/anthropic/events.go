package anthropic

import (
	"net/http"

	"github.com/tidwall/gjson"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// message is a reply as its events tell it.
type message struct {
	answer *ports.Answer
	watch  *upstream.Watch
	reply  *upstream.Reply
	used   usage
	stop   string
}

// take reads one event. Events are known by their name: data without one is
// nothing, as in the SDK.
func (m *message) take(name string, data []byte) (err error) {
	if name == "" || name == "ping" {
		return nil
	}
	if !gjson.ValidBytes(data) {
		return upstream.Garbled()
	}
	e := gjson.ParseBytes(data)
	switch name {
	case "message_start":
		if model := e.Get("message.model").Str; model != "" {
			m.answer.Model = model
		}
		m.used.take(e.Get("message.usage"))
	case "content_block_delta":
		m.watch.Begin() // whatever it is: a signature comes after thinking that is not shown
		e.Get("delta").ForEach(func(key, value gjson.Result) bool {
			switch key.Str {
			case "text":
				err = m.reply.Text(value.Str)
			case "thinking":
				err = m.reply.Reasoning(value.Str)
			}
			return err == nil
		})
		return err
	case "message_delta":
		m.used.take(e.Get("usage"))
		m.stop = e.Get("delta.stop_reason").Str
	case "message_stop":
		m.watch.Whole()
		m.answer.FinishReason, m.answer.Usage = finishReason(m.stop), m.used.count()
		return nil
	case "error":
		return upstream.ParseRefusal(e, http.StatusOK, nil).Fault()
	}
	m.answer.Usage = m.used.count()
	m.answer.Usage.Estimated = true // of as much as there was
	return nil
}

// finishReason is a stop reason in the common words.
func finishReason(stop string) string {
	switch stop {
	case "end_turn", "stop_sequence", "":
		return "stop"
	case "max_tokens", "model_context_window_exceeded":
		return "length"
	case "tool_use":
		return "tool_calls"
	}
	return stop
}

// usage as Anthropic counts: input excludes what a prompt cache gave or took.
// Later figures are cumulative and replace earlier ones; absent ones do not.
type usage struct {
	input, output, cacheRead, cacheWrite, thinking int64
	hasInput, hasOutput                            bool
}

func (u *usage) take(later gjson.Result) {
	later.ForEach(func(key, value gjson.Result) bool {
		if value.Type == gjson.Null {
			return true
		}
		switch key.Str {
		case "input_tokens":
			u.input, u.hasInput = value.Int(), true
		case "output_tokens":
			u.output, u.hasOutput = value.Int(), true
		case "cache_read_input_tokens":
			u.cacheRead = value.Int()
		case "cache_creation_input_tokens":
			u.cacheWrite = value.Int()
		case "output_tokens_details":
			u.thinking = value.Get("thinking_tokens").Int()
		}
		return true
	})
}

func (u *usage) count() chat.Usage {
	return chat.Usage{
		Input: u.input + u.cacheRead + u.cacheWrite, Output: u.output,
		CacheRead: u.cacheRead, CacheWrite: u.cacheWrite, Reasoning: u.thinking,
		Estimated: !u.hasInput || !u.hasOutput,
	}
}
