package upstream

import (
	"testing"

	"github.com/tidwall/gjson"
)

func TestRefusal_Reason(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   Reason
	}{
		"401":                         {401, ``, KeyRefused},
		"401InvalidRequest":           {401, `{"error":{"type":"invalid_request_error","code":"invalid_api_key"}}`, KeyRefused},
		"403":                         {403, `<html>forbidden</html>`, KeyRefused},
		"403Permission":               {403, `{"type":"error","error":{"type":"permission_error","message":"no"}}`, KeyRefused},
		"403Moderation":               {403, `{"error":{"code":403,"message":"Your chosen model requires moderation and your input was flagged"}}`, BadRequest},
		"400KeyOfGemini":              {400, `[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]`, KeyRefused},
		"KeyRefusedInTheStream":       {200, `{"error":{"code":401,"message":"No auth credentials found"}}`, KeyRefused},
		"KeyRefusedByTypeInTheStream": {200, `{"error":{"type":"authentication_error","message":"no"}}`, KeyRefused},
		"NumericCodeInTheStream":      {200, `{"error":{"code":503,"message":"no"}}`, Overloaded},
		"RateLimitInTheStream":        {200, `{"error":{"code":"429","message":"no"}}`, RateLimited},
		"TextInTheStream":             {200, `{"error":"out of memory"}`, ServerError},
		"NumericCodeOfTheResponse":    {400, `{"error":{"code":503,"message":"no"}}`, BadRequest},
		"Mistral":                     {400, `{"object":"error","message":"Prompt is too long","type":"invalid_request_error","code":"3051"}`, TooLong},
		"Ollama":                      {404, `{"error":"model 'x' not found"}`, UnknownModel},
		"FastAPI":                     {422, `{"detail":[{"loc":["body","stream_options"],"msg":"extra"}]}`, BadRequest},
		"402":                         {402, ``, QuotaExhausted},
		"NoJSON":                      {500, `oops`, ServerError},
	} {
		t.Run(name, func(t *testing.T) {
			r := ParseRefusal(gjson.Parse(c.body), c.status, nil)
			if got := ReasonOf(r.Fault()); got != c.want {
				t.Errorf("reason %q, want %q (%+v)", got, c.want, r)
			}
		})
	}
	if r := ParseRefusal(gjson.Parse(`{"detail":[{"loc":["body","stream_options"],"msg":"extra"}]}`), 422, nil); r.Param != "stream_options" {
		t.Errorf("member %q", r.Param)
	}
}
