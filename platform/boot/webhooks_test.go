package boot_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"parley/platform/testing/testenv"
	"strings"
	"sync"
	"testing"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAbCdEfGhIjK="

// hookReceiver verifies events and answers what a test says.
type hookReceiver struct {
	t        *testing.T
	verifier *standard.Webhook
	mu       sync.Mutex
	answer   func(body string) int
	got      map[string][]string // webhook-id -> bodies that were accepted
}

func newHookReceiver(t *testing.T) (*hookReceiver, []string) {
	t.Helper()
	verifier, err := standard.NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	r := &hookReceiver{t: t, verifier: verifier, answer: func(string) int { return http.StatusNoContent }, got: map[string][]string{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return r, []string{"WEBHOOK_URL=" + server.URL + "/hooks?token=not-to-be-logged", "WEBHOOK_SECRET=" + webhookSecret}
}

func (r *hookReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	if err := r.verifier.Verify(body, req.Header); err != nil {
		r.t.Errorf("%s is not verified: %v", body, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	status := r.answer(string(body))
	if status < 300 {
		id := req.Header.Get("Webhook-Id")
		r.got[id] = append(r.got[id], string(body))
	}
	w.WriteHeader(status)
}

func (r *hookReceiver) answers(f func(body string) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// accepted returns the events for which a text stands in the body.
func (r *hookReceiver) accepted(text string) (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, bodies := range r.got {
		if strings.Contains(bodies[0], text) {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestWebhooks: ends of runs and reached budgets are told, each once, without
// message text; what was told while nobody listened comes later, also after the
// instance was killed.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		receiver, settings := newHookReceiver(t)
		env = append(append(env, settings...), "AUTH_SECRET="+testSecret, "BUDGET_TOKENS_DAY=20000")
		i := start(t, env...)
		ann := bearer(t, env, "ann")
		send := func(i *instance) string {
			t.Helper()
			got := call(t, "POST", i.url+"/api/chat/messages", message("!echo a secret plan"), ann)
			if got.status != http.StatusCreated {
				t.Fatalf("send: %d %s", got.status, got.body)
			}
			return at(got.json(t), "assistantMessage", "id").(string)
		}
		reply := send(i)
		eventually(t, "the end to be told", func() bool { return len(receiver.accepted(reply)) == 1 })
		var told map[string]any
		body := receiver.bodies(receiver.accepted(reply)[0])[0]
		if err := json.Unmarshal([]byte(body), &told); err != nil {
			t.Fatal(err)
		}
		if told["type"] != "run.ended" || at(told, "data", "state") != "completed" || at(told, "data", "userId") != "ann" || at(told, "data", "messageId") != reply {
			t.Errorf("told %s", body)
		}
		if strings.Contains(body, "plan") {
			t.Errorf("text is told: %s", body)
		}

		// Nobody listens, and the instance is killed.
		receiver.answers(func(string) int { return http.StatusInternalServerError })
		late := send(i)
		eventually(t, "the end to be refused", func() bool {
			return strings.Contains(run(t, env, "webhook", "list", "--state", "pending"), "500")
		})
		i.kill()
		receiver.answers(func(string) int { return http.StatusOK })
		i = start(t, env...)
		eventually(t, "the late end to be told", func() bool { return len(receiver.accepted(late)) == 1 })

		// The budget ends: it is told once.
		refused := 0
		for range 200 {
			if got := call(t, "POST", i.url+"/api/chat/messages", message("!echo "+strings.Repeat("word ", 1500)), ann); got.status == http.StatusTooManyRequests {
				if refused++; refused == 3 {
					break
				}
			}
		}
		if refused < 3 {
			t.Fatal("the budget was never reached")
		}
		eventually(t, "the budget to be told", func() bool { return len(receiver.accepted("budget.reached")) == 1 })
		for _, id := range receiver.accepted("budget.reached") {
			if body := receiver.bodies(id)[0]; !strings.Contains(body, `"budget":"tokens_day"`) || !strings.Contains(body, `"limit":20000`) {
				t.Errorf("told %s", body)
			}
		}
		if strings.Contains(i.out.String(), "not-to-be-logged") {
			t.Error("the receiver's URL is in the log")
		}
	})
}

// TestWebhooks_Commands: events that were given up are listed and replayed under
// their ids.
func TestWebhooks_Commands(t *testing.T) {
	t.Parallel()
	receiver, settings := newHookReceiver(t)
	env := append(settings, "DATA_DIR="+dataDir(t), "AUTH_SECRET="+testSecret)
	receiver.answers(func(string) int { return http.StatusGone })
	i := start(t, env...)
	got := call(t, "POST", i.url+"/api/chat/messages", message("!echo hi"), bearer(t, env, "ann"))
	reply := at(got.json(t), "assistantMessage", "id").(string)
	dead := func() []string {
		return strings.Fields(strings.Join(strings.Split(run(t, env, "webhook", "list", "--state", "dead"), "\n")[1:], "\n"))
	}
	eventually(t, "the event to be given up", func() bool { return len(dead()) > 0 })
	id := dead()[0]
	if row := strings.Join(dead(), " "); !strings.Contains(row, "run.ended ann") || !strings.Contains(row, "dead 1 410") {
		t.Errorf("listed as %s", row)
	}
	if page := call(t, "GET", i.admin+"/debug/webhooks?state=dead", ""); !strings.Contains(page.body, id) {
		t.Errorf("the admin address lists %d %s", page.status, page.body)
	}
	if found := run(t, append(env, "ADDR="+testenv.FreeAddr(), "ADMIN_ADDR="+testenv.FreeAddr()), "doctor"); !strings.Contains(found, "1 events were given up") {
		t.Errorf("doctor says %s", found)
	}
	receiver.answers(func(string) int { return http.StatusOK })
	for _, which := range [][]string{{"--dead"}, {"--id", id}, {"--since", "1h"}} {
		before := len(receiver.bodies(id))
		if out := run(t, env, append([]string{"webhook", "replay"}, which...)...); out != "1 events will be sent again" {
			t.Errorf("replay %v: %s", which, out)
		}
		eventually(t, "the event to be told again", func() bool { return len(receiver.bodies(id)) == before+1 })
		eventually(t, "that to be recorded", func() bool {
			return strings.Contains(run(t, env, "webhook", "list", "--state", "delivered"), id)
		})
	}
	if ids := receiver.accepted(reply); len(ids) != 1 || ids[0] != id {
		t.Errorf("told as %v, want %s alone", ids, id)
	}
}

func (r *hookReceiver) bodies(id string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[id]
}
