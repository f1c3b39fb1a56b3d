package upstream

import (
	"errors"
	"fmt"
	"strings"
)

// finish is what a provider's finish reason says about the reply.
type finish struct {
	reason string // in the words of ports.Answer, when the reply is complete
	failed Reason // when it is not
}

// finishReasons lists every reason to end that a provider is known to give, of
// OpenAI's finish_reason and of Anthropic's stop_reason, in lower case. A reason
// that is not listed fails the reply with UnknownFinish: it may mean that text
// is missing.
var finishReasons = map[string]finish{
	"stop":          {reason: "stop"},
	"end_turn":      {reason: "stop"}, // Anthropic
	"stop_sequence": {reason: "stop"}, // Anthropic, TGI
	"eos":           {reason: "stop"}, // Together
	"eos_token":     {reason: "stop"}, // TGI
	"complete":      {reason: "stop"}, // Cohere

	"length":                        {reason: "length"},
	"max_tokens":                    {reason: "length"}, // Anthropic, Cohere
	"max_output_tokens":             {reason: "length"},
	"model_length":                  {reason: "length"}, // Mistral: the context window is full
	"model_context_window_exceeded": {reason: "length"}, // Anthropic

	"tool_calls":    {reason: "tool_calls"},
	"tool_use":      {reason: "tool_calls"}, // Anthropic
	"function_call": {reason: "function_call"},

	"content_filter":     {reason: "content_filter"},
	"safety":             {reason: "content_filter"}, // Gemini, as the next four
	"recitation":         {reason: "content_filter"},
	"blocklist":          {reason: "content_filter"},
	"prohibited_content": {reason: "content_filter"},
	"spii":               {reason: "content_filter"},
	"sensitive":          {reason: "content_filter"}, // Zhipu
	"refusal":            {reason: "refusal"},        // Anthropic

	"error":                        {failed: ServerError}, // OpenRouter, Mistral, LiteLLM
	"abort":                        {failed: ServerError}, // vLLM, SGLang
	"aborted":                      {failed: ServerError},
	"cancelled":                    {failed: ServerError},
	"canceled":                     {failed: ServerError},
	"timeout":                      {failed: ServerError},
	"network_error":                {failed: ServerError}, // Zhipu
	"malformed_function_call":      {failed: ServerError}, // Gemini
	"other":                        {failed: ServerError}, // Gemini
	"insufficient_system_resource": {failed: Overloaded},  // DeepSeek
	"pause_turn":                   {failed: Incomplete},  // Anthropic: it waits to be asked again
	"compaction":                   {failed: Incomplete},  // Anthropic: as above
}

// finishOf returns the reason to end in the words of ports.Answer, or the
// fault of a reply that ended for that reason.
func finishOf(reason string) (string, error) {
	f, ok := finishReasons[strings.ToLower(strings.TrimSpace(reason))]
	switch {
	case !ok:
		return "", Fail(UnknownFinish, fmt.Errorf("finish reason %q", label(reason)))
	case f.failed != "":
		return "", Fail(f.failed, errors.New("finish reason "+label(reason)))
	}
	return f.reason, nil
}
