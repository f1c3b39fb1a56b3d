package httpapi_test

import "testing"

// A chat that is deleted while its reply is made costs what the reply has used by
// then: neither all that was held for it nor nothing.
func TestDelete_CostsWhatTheReplyHasUsed(t *testing.T) { onBoth(t, deleteCosts) }

func deleteCosts(t *testing.T, b *bench) {
	s := b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c1", "m1", "!slow 20s")))
	for {
		e, ok := s.next()
		if !ok {
			t.Fatal("the reply ended")
		}
		if e.kind() == "text-delta" {
			break
		}
	}
	held, _ := b.do("ann", "GET", "/api/chat/usage", "").must(200).get("day", "heldTokens").(float64)
	b.do("ann", "DELETE", "/api/chat/conversations/c1", "").must(200)
	usage := b.do("ann", "GET", "/api/chat/usage", "").must(200)
	used, _ := usage.get("day", "tokens").(float64)
	if used <= 0 || used > held/10 || usage.get("day", "heldTokens") != 0.0 || usage.get("day", "replies") != 1.0 {
		t.Errorf("%v tokens used of %v held: %s", used, held, usage.raw)
	}
}
