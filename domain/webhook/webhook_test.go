package webhook_test

import (
	"encoding/base64"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"parley/domain/webhook"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAbCdEfGhIjK="

// TestSign_VerifiedByTheLibrary verifies a delivery as a receiver does, with the
// library of Standard Webhooks, before, during and after a rotation.
func TestSign_VerifiedByTheLibrary(t *testing.T) {
	next := "whsec_" + base64.StdEncoding.EncodeToString([]byte("another secret of thirty-two byte"))
	key := func(secret string) webhook.Key {
		t.Helper()
		k, err := webhook.ParseKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	e := webhook.New(webhook.RunEnded, "ann", "run", time.Now(), map[string]any{"runId": "run", "text": "ä <b>"})
	for name, c := range map[string]struct {
		signs    []webhook.Key
		verifies string
		want     bool
	}{
		"One":            {[]webhook.Key{key(secret)}, secret, true},
		"RotationOld":    {[]webhook.Key{key(next), key(secret)}, secret, true},
		"RotationNew":    {[]webhook.Key{key(next), key(secret)}, next, true},
		"AfterRotation":  {[]webhook.Key{key(next)}, secret, false},
		"BeforeRotation": {[]webhook.Key{key(secret)}, next, false},
	} {
		t.Run(name, func(t *testing.T) {
			receiver, err := standard.NewWebhook(c.verifies)
			if err != nil {
				t.Fatal(err)
			}
			at := time.Now()
			header := http.Header{}
			header.Set("webhook-id", e.ID)
			header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
			header.Set("webhook-signature", webhook.Sign(c.signs, e.ID, at, e.Body))
			if err := receiver.Verify([]byte(e.Body), header); (err == nil) != c.want {
				t.Errorf("verified: %v, want %v", err, c.want)
			}
			if receiver.Verify([]byte(e.Body+" "), header) == nil {
				t.Error("another body was accepted")
			}
		})
	}
}

func TestParseKey(t *testing.T) {
	for text, ok := range map[string]bool{
		secret: true, "": false, "whsec_": false, "whsec_abc": false, strings.TrimPrefix(secret, "whsec_"): false,
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)): false,
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 24)): true,
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 64)): true,
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)): false,
	} {
		if _, err := webhook.ParseKey(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The id of an event is that of what happened: the same for the same, and
// another for every other user, type and key.
func TestNew_ID(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 5e6, time.UTC)
	e := webhook.New(webhook.RunEnded, "ann", "r", now, struct {
		A int `json:"a"`
	}{1})
	if want := `{"type":"run.ended","timestamp":"2026-11-27T12:00:00.005Z","data":{"a":1}}`; e.Body != want {
		t.Errorf("body %s, want %s", e.Body, want)
	}
	if again := webhook.New(webhook.RunEnded, "ann", "r", now.Add(time.Hour), nil); again.ID != e.ID {
		t.Errorf("%s and %s", again.ID, e.ID)
	}
	seen := map[string]bool{e.ID: true}
	for _, other := range []webhook.Event{
		webhook.New(webhook.RunEnded, "bob", "r", now, nil), webhook.New(webhook.RunEnded, "ann", "s", now, nil),
		webhook.New(webhook.BudgetReached, "ann", "r", now, nil), webhook.New(webhook.RunEnded, "ann\x00r", "", now, nil),
	} {
		if seen[other.ID] {
			t.Errorf("%+v has the id of another event", other)
		}
		seen[other.ID] = true
	}
}

func TestDelivery_Next(t *testing.T) {
	const retention = 7 * 24 * time.Hour
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	status := func(code int, after time.Duration) webhook.Answer { return webhook.Classify(code, after) }
	for name, c := range map[string]struct {
		tries  int
		keep   time.Time
		answer webhook.Answer
		random float64
		state  webhook.State
		in     time.Duration
	}{
		"Accepted":        {1, time.Time{}, status(204, 0), 0, webhook.Delivered, retention},
		"AcceptedLate":    {webhook.MaxTries, time.Time{}, status(200, 0), 0, webhook.Delivered, retention},
		"KeptForPeriod":   {1, now.Add(30 * 24 * time.Hour), status(200, 0), 0, webhook.Delivered, 30 * 24 * time.Hour},
		"First":           {1, time.Time{}, status(500, 0), 0.5, webhook.Pending, 5 * time.Second},
		"Jitter":          {1, time.Time{}, status(500, 0), 0, webhook.Pending, 3750 * time.Millisecond},
		"Second":          {2, time.Time{}, status(404, 0), 0.5, webhook.Pending, 15 * time.Second},
		"Longest":         {11, time.Time{}, status(503, 0), 0.5, webhook.Pending, 6 * time.Hour},
		"Last":            {webhook.MaxTries, time.Time{}, status(500, 0), 0, webhook.Dead, retention},
		"RetryAfter":      {1, time.Time{}, status(429, time.Hour), 0, webhook.Pending, time.Hour},
		"RetryAfterShort": {3, time.Time{}, status(503, time.Second), 0.5, webhook.Pending, 45 * time.Second},
		"RetryAfterYears": {1, time.Time{}, status(503, 1000*time.Hour), 0, webhook.Pending, 24 * time.Hour},
		"Gone":            {1, time.Time{}, status(410, 0), 0, webhook.Dead, retention},
		"Redirect":        {1, time.Time{}, status(302, 0), 0.5, webhook.Pending, 5 * time.Second},
		"NoAnswer":        {1, time.Time{}, webhook.Answer{Failure: webhook.FailureTimeout}, 0.5, webhook.Pending, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			d := webhook.Delivery{Event: webhook.Event{KeepUntil: c.keep}, Tries: c.tries}
			if state, in := d.Next(c.answer, now, retention, c.random); state != c.state || in != c.in {
				t.Errorf("%s in %v, want %s in %v", state, in, c.state, c.in)
			}
		})
	}
	total := time.Duration(0)
	for tries := 1; tries < webhook.MaxTries; tries++ {
		_, in := webhook.Delivery{Tries: tries}.Next(status(500, 0), now, retention, 0.5)
		total += in
	}
	if math.Abs(total.Hours()-30) > 6 {
		t.Errorf("tried for %v; the documents say some 30 hours", total)
	}
}
