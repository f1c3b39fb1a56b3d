package openai

import (
	"net/http"

	"github.com/tidwall/gjson"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

var done = []byte("[DONE]")

// take reads one piece of the stream into the answer and the reply.
func take(data []byte, a *ports.Answer, reply *upstream.Reply) (err error) {
	if !gjson.ValidBytes(data) {
		return upstream.Garbled()
	}
	event := gjson.ParseBytes(data)
	event.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "model":
			if value.Str != "" {
				a.Model = value.Str
			}
		case "choices":
			if choice := value.Get("0"); choice.Exists() {
				err = takeChoice(choice, a, reply)
			}
		case "usage":
			if value.IsObject() {
				a.Usage = count(value)
			}
		case "error":
			if value.Type != gjson.Null {
				err = upstream.ParseRefusal(event, http.StatusOK, nil).Fault()
			}
		}
		return err == nil
	})
	return err
}

func takeChoice(choice gjson.Result, a *ports.Answer, reply *upstream.Reply) (err error) {
	choice.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "delta":
			value.ForEach(func(key, value gjson.Result) bool {
				switch key.Str {
				case "reasoning_content", // vLLM, llama.cpp, DeepSeek
					"reasoning": // OpenRouter, Ollama
					err = reply.Reasoning(value.Str)
				case "content", "refusal":
					err = reply.Text(value.Str)
				}
				return err == nil
			})
		case "finish_reason":
			if value.Str != "" {
				a.FinishReason = value.Str
			}
		}
		return err == nil
	})
	return err
}

// count reads usage as OpenAI counts it: prompt tokens include the cached
// ones, completion tokens the reasoning.
func count(u gjson.Result) chat.Usage {
	return chat.Usage{
		Input:      u.Get("prompt_tokens").Int(),
		Output:     u.Get("completion_tokens").Int(),
		CacheRead:  u.Get("prompt_tokens_details.cached_tokens").Int(),
		CacheWrite: u.Get("prompt_tokens_details.cache_write_tokens").Int(),
		Reasoning:  u.Get("completion_tokens_details.reasoning_tokens").Int(),
	}
}
