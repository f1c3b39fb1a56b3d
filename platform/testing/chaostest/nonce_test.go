package main

import "testing"

// Neighbouring messages of one role reach a provider merged into one.
func TestLastNonce_MergedMessages(t *testing.T) {
	for text, want := range map[string]string{
		"":                   "",
		"no nonce":           "",
		"hello u07-0000002a": "u07-0000002a",
		"hello u07-0000002a\n\nagain u07-0000002b": "u07-0000002b",
	} {
		if got := lastNonce(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
