package chat

import (
	"strings"
	"testing"

	"parley/domain/fault"
)

func TestFeedback_Validate(t *testing.T) {
	for name, c := range map[string]struct {
		f  Feedback
		ok bool
	}{
		"up":              {Feedback{Rating: Up}, true},
		"down, reason":    {Feedback{Rating: Down, Reason: "Falsch: ß < 😀\n"}, true},
		"longest":         {Feedback{Rating: Up, Reason: strings.Repeat("ü", MaxReason)}, true},
		"too long":        {Feedback{Rating: Up, Reason: strings.Repeat("ü", MaxReason+1)}, false},
		"none":            {Feedback{Reason: "good"}, false},
		"unknown":         {Feedback{Rating: "sideways"}, false},
		"other case":      {Feedback{Rating: "UP"}, false},
		"NUL":             {Feedback{Rating: Up, Reason: "a\x00b"}, false},
		"control":         {Feedback{Rating: Up, Reason: "a\x1bb"}, false},
		"invalid Unicode": {Feedback{Rating: Up, Reason: "\xff"}, false},
	} {
		if err := c.f.Validate(); (err == nil) != c.ok || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
