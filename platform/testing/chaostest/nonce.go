package main

import (
	"fmt"
	"regexp"
)

// A nonce names a user and a message of that user: u07-0000002a. It stands in
// the message and, by the provider's doing, in every reply to it, so that a
// text tells its owner.
var noncePattern = regexp.MustCompile(`u\d\d-[0-9a-f]{8}`)

func newNonce(user string, n int64) string { return fmt.Sprintf("%s-%08x", user, n) }

func nonces(text string) []string { return noncePattern.FindAllString(text, -1) }

// lastNonce returns the nonce of the message that a provider is asked about. The
// messages before and after a reply that left no text come merged into one, the
// newest last.
func lastNonce(text string) string {
	found := nonces(text)
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

func firstNonce(text string) string { return noncePattern.FindString(text) }

// userOf returns the user that a nonce belongs to.
func userOf(nonce string) string {
	if len(nonce) < 3 {
		return ""
	}
	return nonce[:3]
}
