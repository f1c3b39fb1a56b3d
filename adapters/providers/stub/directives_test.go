package stub_test

import (
	"testing"
	"time"

	"parley/adapters/providers/stub"
)

// TestDirectives_MergedMessages: the messages before and after a failed reply
// are merged for the provider, and the last one's directive counts.
func TestDirectives_MergedMessages(t *testing.T) {
	r := stub.Directives(stub.Call{Messages: []stub.Message{{Role: "user", Text: "!slow 8s\n\n!slow 3s"}}})
	if r.Pace != 60*time.Millisecond {
		t.Errorf("pace %v, want that of !slow 3s", r.Pace)
	}
}
