package openai

import (
	"io"
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
	gjson.ParseBytes(data).ForEach(func(key, value gjson.Result) bool {
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
				err = said(value, upstream.Refusal{Status: http.StatusOK})
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

// refused is the fault of a response that is an error.
func refused(resp *http.Response) error {
	data, _ := io.ReadAll(resp.Body) // what the SDK has kept, or as much as may be read
	_ = resp.Body.Close()
	return said(gjson.GetBytes(data, "error"), upstream.Refusal{Status: resp.StatusCode, Header: resp.Header})
}

// said adds to a refusal what the server says of it. Some servers put a number
// where the code should be.
func said(e gjson.Result, r upstream.Refusal) error {
	r.Type, r.Code, r.Message = e.Get("type").Str, e.Get("code").Str, e.Get("message").Str
	return r.Fault()
}
