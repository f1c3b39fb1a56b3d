// Package webhook holds the events that the operator's own systems are told of
// by webhook, how they are signed, and the rules of their delivery. All of it is
// pure: it has no clock and no input or output.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Type says what an event is about.
type Type string

// The types of events.
const (
	RunEnded      Type = "run.ended"
	BudgetReached Type = "budget.reached"
)

// Event is something that a receiver is told. It never holds message text.
type Event struct {
	ID     string // the webhook-id of every attempt; made of the type, the user and what happened
	UserID string
	Type   Type
	Body   string // JSON, sent as it is, so that a signature stays valid
	At     time.Time
	// KeepUntil is how long the event is remembered at least, so that it is not
	// told again. Zero: no longer than others.
	KeepUntil time.Time
}

// New returns the event that key names among those of a user and type. The same
// event always has the same id.
func New(kind Type, user, key string, at time.Time, data any) Event {
	digest := sha256.Sum256([]byte(string(kind) + "\x00" + user + "\x00" + key))
	body, err := json.Marshal(struct {
		Type      Type   `json:"type"`
		Timestamp string `json:"timestamp"`
		Data      any    `json:"data"`
	}{kind, Time(at), data})
	if err != nil {
		panic(fmt.Sprintf("webhook: %s: %v", kind, err)) // data is a struct of ours
	}
	return Event{ID: "evt_" + hex.EncodeToString(digest[:16]), UserID: user, Type: kind, Body: string(body), At: at}
}

// Time writes a time as the API does: ISO 8601, UTC, with milliseconds.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Key is a secret that deliveries are signed with.
type Key []byte

// keyPrefix begins the text of a secret; the rest is Base64.
const keyPrefix = "whsec_"

// ParseKey reads a secret in the form of Standard Webhooks: whsec_ and Base64 of
// 24 to 64 bytes.
func ParseKey(secret string) (Key, error) {
	text, ok := strings.CutPrefix(secret, keyPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("must be %s and 24 to 64 bytes in Base64", keyPrefix)
	}
	return key, nil
}

// Sign returns the value of the header webhook-signature: one signature for each
// key, separated by spaces, so that a receiver may have either during a rotation.
func Sign(keys []Key, id string, at time.Time, body string) string {
	signatures := make([]string, len(keys))
	for i, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "." + body))
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}
