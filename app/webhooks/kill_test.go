package webhooks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"parley/adapters/sqlstore"
	receiver "parley/adapters/webhooks"
	"parley/app/webhooks"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/webhook"
	"parley/platform/testing/testdb"
	"parley/ports"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAbCdEfGhIjK="

// The stages at which a sender kills itself.
const (
	claimed  = "claimed"  // before it sends
	answered = "answered" // the receiver has been asked, the outbox does not know
	settled  = "settled"  // the outbox knows
)

// sender is set in the environment of a process that sends: JSON of senderOrder.
const sender = "PARLEY_TEST_SENDER"

type senderOrder struct {
	Store, Receiver string
	Stage           string
	Hit             int64 // it kills itself when it passes the stage for the n-th time
}

func TestMain(m *testing.M) {
	if order := os.Getenv(sender); order != "" {
		if err := send(order); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// send delivers events, as an instance does, until it kills itself or is killed.
func send(text string) error {
	var order senderOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return err
	}
	store, err := sqlstore.Open(context.Background(), sqlstore.Options{URL: order.Store, Timeout: 30 * time.Second, AcquireTimeout: 30 * time.Second})
	if err != nil {
		return err
	}
	key, err := webhook.ParseKey(secret)
	if err != nil {
		return err
	}
	to, err := receiver.New(receiver.Options{URL: order.Receiver, Keys: []webhook.Key{key}, Timeout: 500 * time.Millisecond})
	if err != nil {
		return err
	}
	outbox := &killing{Store: store, stage: order.Stage}
	outbox.left.Store(order.Hit)
	webhooks.New(webhooks.Deps{Outbox: outbox, Receiver: to, Observer: ports.NopObserver{}, Now: time.Now},
		webhooks.Options{Concurrency: 3, Interval: 20 * time.Millisecond, Lease: 3 * time.Second}).Serve(context.Background())
	return errors.New("ended by itself")
}

// killing kills the process at a stage. Events that were not accepted are due
// again much sooner than usual.
type killing struct {
	*sqlstore.Store
	stage string
	left  atomic.Int64
}

func (k *killing) pass(stage string) {
	if stage == k.stage && k.left.Add(-1) == 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour) // until the signal arrives
	}
}

func (k *killing) ClaimEvents(ctx context.Context, lease time.Duration, n int) ([]webhook.Delivery, error) {
	list, err := k.Store.ClaimEvents(ctx, lease, n)
	if len(list) > 0 {
		k.pass(claimed)
	}
	return list, err
}

func (k *killing) SettleEvent(ctx context.Context, d webhook.Delivery, in time.Duration) error {
	k.pass(answered)
	if d.State == webhook.Pending {
		in = min(in/100, 200*time.Millisecond)
	}
	err := k.Store.SettleEvent(ctx, d, in)
	k.pass(settled)
	return err
}

// unreliable is a receiver that verifies what it accepts, and fails, hangs and
// cuts connections in between.
type unreliable struct {
	t        *testing.T
	verifier *standard.Webhook
	n        atomic.Int64
	mu       sync.Mutex
	tries    map[string]int    // by webhook-id, requests
	bodies   map[string]string // of every request
	accepted map[string]int
}

func (u *unreliable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	id := r.Header.Get("Webhook-Id")
	if err := u.verifier.Verify(body, r.Header); err != nil {
		u.t.Errorf("%s is not verified: %v", id, err)
	}
	u.mu.Lock()
	if first, known := u.bodies[id]; known && first != string(body) {
		u.t.Errorf("%s came with two bodies:\n%s\n%s", id, first, body)
	}
	u.bodies[id] = string(body)
	u.tries[id]++
	tries := u.tries[id]
	u.mu.Unlock()
	n := u.n.Add(1)
	if tries > 4 { // or too many would be given up
		n = 0
	}
	switch n % 8 {
	case 1:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case 2: // hangs
		<-r.Context().Done()
		return
	case 3: // loses it
		panic(http.ErrAbortHandler)
	case 4:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	u.mu.Lock()
	u.accepted[id]++
	u.mu.Unlock()
	if n%8 == 5 { // accepted, but the sender does not learn of it
		panic(http.ErrAbortHandler)
	}
}

// TestKills kills senders at every stage while runs end and the receiver fails,
// hangs and cuts connections. Every end of a run is accepted, under one id.
func TestKills(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes that it kills")
	}
	for name, open := range map[string]func(testing.TB) string{
		"SQLite":   func(t testing.TB) string { return testdb.SQLite(t) },
		"Postgres": testdb.Postgres,
	} {
		t.Run(name, func(t *testing.T) { testKills(t, open(t)) })
	}
}

func testKills(t *testing.T, url string) {
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: url, Webhooks: true, Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	verifier, err := standard.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	u := &unreliable{t: t, verifier: verifier, tries: map[string]int{}, bodies: map[string]string{}, accepted: map[string]int{}}
	hooks := httptest.NewServer(u)
	defer hooks.Close()

	// Runs end while senders send and are killed.
	const runs = 150
	var ended atomic.Int64
	go func() {
		for i := range runs {
			if err := makeAndEnd(t.Context(), store, i); err != nil {
				t.Errorf("run %d: %v", i, err)
				return
			}
			ended.Add(1)
			time.Sleep(5 * time.Millisecond)
		}
	}()

	kills := map[string]int{}
	deadline := time.Now().Add(3 * time.Minute)
	for round := 0; ; round++ {
		stages := []string{claimed, answered, settled}
		var senders sync.WaitGroup
		var mu sync.Mutex
		ctx, stop := context.WithCancel(t.Context())
		for i := range 2 { // two instances at once
			stage := stages[(round+i)%3]
			senders.Go(func() {
				cmd := exec.CommandContext(ctx, os.Args[0])
				order, _ := json.Marshal(senderOrder{Store: url, Receiver: hooks.URL, Stage: stage, Hit: int64(1 + (round*7+i*3)%9)})
				cmd.Env = append(os.Environ(), sender+"="+string(order))
				out, err := cmd.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Errorf("a sender ended with %v: %s", err, out)
				}
				if ctx.Err() == nil {
					mu.Lock()
					kills[stage]++
					mu.Unlock()
				}
			})
		}
		done := make(chan struct{})
		go func() { senders.Wait(); close(done) }()
		finished := false
		for waiting := true; waiting; {
			select {
			case <-done:
				waiting = false
			case <-time.After(50 * time.Millisecond):
				q, err := store.EventQueue(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if finished = ended.Load() == runs && q.Pending == 0; finished || t.Failed() || time.Now().After(deadline) {
					stop()
				}
			}
		}
		stop()
		if finished {
			break
		}
		if t.Failed() || time.Now().After(deadline) {
			t.Fatalf("not delivered within 3 minutes; %d of %d runs have ended", ended.Load(), runs)
		}
	}

	for _, stage := range []string{claimed, answered, settled} {
		if kills[stage] < 3 {
			t.Errorf("only %d senders were killed at the stage %s", kills[stage], stage)
		}
	}
	events, err := store.Events(t.Context(), ports.EventFilter{})
	if err != nil || len(events) != runs {
		t.Fatalf("%d events of %d runs, %v", len(events), runs, err)
	}
	for _, e := range events {
		if e.State != webhook.Delivered {
			t.Errorf("%s is %s", e.ID, e.State)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	byRun, repeats := map[string]string{}, 0
	for id, body := range u.bodies {
		var told struct {
			Data struct {
				RunID string `json:"runId"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(body), &told); err != nil {
			t.Fatal(err)
		}
		if other, known := byRun[told.Data.RunID]; known {
			t.Errorf("the end of %s came as %s and as %s", told.Data.RunID, id, other)
		}
		byRun[told.Data.RunID] = id
		if u.accepted[id] > 1 {
			repeats++
		}
	}
	for i := range runs {
		if id := byRun["run-"+strconv.Itoa(i)]; u.accepted[id] == 0 {
			t.Errorf("the end of run-%d was lost", i)
		}
	}
	t.Logf("%d runs, %d requests, %d accepted more than once, killed %v", runs, u.n.Load(), repeats, kills)
}

// makeAndEnd makes and ends one run.
func makeAndEnd(ctx context.Context, store *sqlstore.Store, i int) error {
	now, id := time.Now(), "run-"+strconv.Itoa(i)
	user := "user-" + strconv.Itoa(i%5)
	out, err := store.Admit(ctx, chat.AdmitRequest{
		Run:     chat.Run{ID: id, UserID: user, Kind: chat.Reply, AuditID: id},
		Message: &chat.Message{ID: "msg-" + strconv.Itoa(i), Content: "hi", CreatedAt: now},
		Audit:   audit.Entry{Action: audit.ActionMessageSent, Resource: audit.ResourceMessage},
		Owner:   "here", Lease: time.Minute, MaxQueue: 1000, Context: 1, Now: now,
	}, chat.Admit)
	if err != nil {
		return err
	}
	_, err = store.Finish(ctx, chat.Outcome{UserID: user, RunID: out.Run.ID, Attempt: 1, State: chat.Completed,
		Output: chat.TextOutput("ho"), At: time.Now()}, chat.Finish)
	return err
}
