package httpapi_test

import (
	"strings"
	"testing"
)

// Numbers in metadata come back as they were written, wherever messages do.
func TestMetadata_NumbersAsWritten(t *testing.T) { onBoth(t, metadataNumbers) }

func metadataNumbers(t *testing.T, b *bench) {
	const (
		metadata = `{"big":9007199254740993,"list":[18446744073709551615,-9223372036854775809,{"deep":123456789012345678901234567890}],"price":1.10,"tiny":0.1234567890123456789,"zero":0,"zeros":0.00}`
		numbers  = `"big":9007199254740993`
	)
	// jsonb has an order of its own, so members are looked for one by one.
	holds := func(where, text string) {
		t.Helper()
		for _, want := range []string{
			numbers, `18446744073709551615`, `-9223372036854775809`, `"deep":123456789012345678901234567890`,
			`"price":1.10`, `"tiny":0.1234567890123456789`, `"zero":0`, `"zeros":0.00`,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %s in %s", where, want, text)
			}
		}
	}
	body := `{"content":"x","id":"m1","metadata":` + metadata + `}`
	sent := b.do("ann", "POST", "/api/chat/messages", body).must(201)
	holds("send", sent.raw)
	again := b.do("ann", "POST", "/api/chat/messages", body).must(201)
	if again.header.Get("Idempotency-Replayed") != "true" {
		t.Error("the repeat is no replay")
	}
	holds("replay", again.raw)
	holds("history", b.do("ann", "GET", "/api/chat/messages", "").must(200).raw)
	holds("branch", b.do("ann", "GET", "/api/chat/messages?leaf=current", "").must(200).raw)
	holds("export", b.do("ann", "GET", "/api/chat/export", "").must(200).raw)
	holds("follow", b.do("ann", "GET", "/api/chat/messages/"+sent.text("assistantMessage", "id")+"/stream", "").must(200).raw)
	holds("edit", b.do("ann", "PATCH", "/api/chat/messages/m1", `{"content":"y","metadata":`+metadata+`}`).must(201).raw)
	holds("stream", b.do("bob", "POST", "/api/chat/stream", `{"content":"x","metadata":`+metadata+`}`).must(200).raw)
	b.do("cat", "POST", "/api/chat/ui", `{"id":"chat","messages":[{"id":"u1","role":"user","metadata":`+metadata+`,"parts":[{"type":"text","text":"x"}]}]}`).must(200)
	holds("AI SDK", b.do("cat", "GET", "/api/chat/messages?conversationId=chat", "").must(200).raw)

	// What differs between two numbers that are equal as floats is another request.
	b.do("ann", "POST", "/api/chat/messages", strings.Replace(body, "9007199254740993", "9007199254740992", 1)).
		refused(422, "IDEMPOTENCY_MISMATCH", "")
	// Postgres spells exponents out; the value is the same.
	for _, number := range []string{"1e5", "-0", "1E-7", "1.5e300", "0e400", strings.Repeat("9", 308), "0." + strings.Repeat("1", 398)} {
		b.do("ann", "POST", "/api/chat/messages", `{"content":"x","metadata":{"n":`+number+`}}`).must(201)
	}
	// What no store can hold is refused, and no failure of ours.
	for _, number := range []string{"1e309", "-1e-401", "1e999999999999999999999", "1e131072", "1e-16384", strings.Repeat("9", 401), "0." + strings.Repeat("1", 20_000)} {
		const says = "Numbers must be in the range of a double and have at most 400 characters"
		b.do("ann", "POST", "/api/chat/messages", `{"content":"x","metadata":{"n":[`+number+`]}}`).refused(400, "INVALID_INPUT", says)
		b.do("cat", "POST", "/api/chat/ui", `{"id":"chat","messages":[{"id":"u2","role":"user","metadata":{"n":`+number+`},"parts":[{"type":"text","text":"x"}]}]}`).
			refused(400, "INVALID_INPUT", says)
	}
}
