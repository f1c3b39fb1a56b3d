package upstream

import (
	"strings"
)

// finish is what a provider's finish reason says about the reply.
type finish struct {
	reason string // in the words of ports.Answer, when the reply is complete
	failed Reason // when it is not
	none   bool   // it is not a reason to end
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
	"completed":     {reason: "stop"},
	"done":          {reason: "stop"},
	"finished":      {reason: "stop"},
	"normal":        {reason: "stop"}, // Baidu
	"endoftext":     {reason: "stop"}, // AI21
	"end_of_text":   {reason: "stop"},

	"length":                        {reason: "length"},
	"max_tokens":                    {reason: "length"}, // Anthropic, Cohere
	"max_output_tokens":             {reason: "length"},
	"model_length":                  {reason: "length"}, // Mistral: the context window is full
	"model_context_window_exceeded": {reason: "length"}, // Anthropic

	"maximum_tokens": {reason: "length"},
	"max_length":     {reason: "length"},

	"tool_calls":    {reason: "tool_calls"},
	"tool_use":      {reason: "tool_calls"}, // Anthropic
	"function_call": {reason: "function_call"},

	"content_filter":       {reason: "content_filter"},
	"safety":               {reason: "content_filter"}, // Gemini, as the next four
	"recitation":           {reason: "content_filter"},
	"blocklist":            {reason: "content_filter"},
	"prohibited_content":   {reason: "content_filter"},
	"spii":                 {reason: "content_filter"},
	"sensitive":            {reason: "content_filter"}, // Zhipu
	"content_filtered":     {reason: "content_filter"}, // Bedrock, as the next one
	"guardrail_intervened": {reason: "content_filter"},
	"error_toxic":          {reason: "content_filter"}, // Cohere
	"image_safety":         {reason: "content_filter"}, // Gemini
	"refusal":              {reason: "refusal"},        // Anthropic

	"error":                        {failed: ServerError}, // OpenRouter, Mistral, LiteLLM
	"abort":                        {failed: ServerError}, // vLLM, SGLang
	"aborted":                      {failed: ServerError},
	"cancelled":                    {failed: ServerError},
	"canceled":                     {failed: ServerError},
	"user_cancel":                  {failed: ServerError}, // Cohere
	"timeout":                      {failed: ServerError},
	"time_limit":                   {failed: ServerError}, // watsonx
	"network_error":                {failed: ServerError}, // Zhipu
	"malformed_function_call":      {failed: ServerError}, // Gemini
	"other":                        {failed: ServerError}, // Gemini
	"insufficient_system_resource": {failed: Overloaded},  // DeepSeek
	"pause_turn":                   {failed: Incomplete},  // Anthropic: it waits to be asked again
	"compaction":                   {failed: Incomplete},  // Anthropic: as above

	"null":                      {none: true}, // DashScope, with every chunk but the last
	"none":                      {none: true},
	"not_finished":              {none: true}, // watsonx, as above
	"in_progress":               {none: true},
	"finish_reason_unspecified": {none: true}, // Gemini
}

// finishOf looks a reason to end up; ok is false when it is not listed.
func finishOf(reason string) (f finish, ok bool) {
	f, ok = finishReasons[strings.ToLower(strings.TrimSpace(reason))]
	return f, ok
}
