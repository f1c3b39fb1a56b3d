package observe_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"parley/adapters/observe"
	"parley/domain/chat"
	"parley/ports"
)

type models []ports.ModelInfo

func (m models) Models() []ports.ModelInfo { return m }

func TestStates_AreAskedAtEveryScrape(t *testing.T) {
	w := setup(t)
	redis, version := true, "20260101120000"
	breakers := models{{Provider: "openai", Model: "gpt-test", State: "closed"}, {Provider: "openai", Model: "not-configured", State: "open"}}
	w.reg.MustRegister(
		w.Dependencies(func(context.Context) map[string]bool { return map[string]bool{"database": true, "redis": redis} }),
		w.Breakers(breakers),
		w.Schema(func(context.Context) (observe.Schema, error) {
			return observe.Schema{Version: version, Pending: 2}, nil
		}),
	)
	w.reg.MustRegister(w.Host(func() (uint64, uint64, error) { return 5, 9, nil }))
	names := []string{"chat_data_dir_free_bytes", "chat_data_dir_size_bytes", "chat_dependency_up", "chat_breaker_state", "chat_schema_version", "chat_schema_pending"}
	want := map[string]float64{
		"chat_dependency_up{dependency=database}":                  1,
		"chat_dependency_up{dependency=redis}":                     1,
		"chat_breaker_state{breaker=openai/gpt-test,state=closed}": 1,
		"chat_schema_version{}":                                    20260101120000,
		"chat_schema_pending{}":                                    2,
		"chat_data_dir_free_bytes{}":                               5,
		"chat_data_dir_size_bytes{}":                               9,
	}
	if diff := cmp.Diff(want, w.values(t, names...)); diff != "" {
		t.Error(diff)
	}
	redis, breakers[0].State = false, "half-open"
	delete(want, "chat_dependency_up{dependency=redis}")
	delete(want, "chat_breaker_state{breaker=openai/gpt-test,state=closed}")
	want["chat_breaker_state{breaker=openai/gpt-test,state=half-open}"] = 1
	if diff := cmp.Diff(want, w.values(t, names...)); diff != "" {
		t.Error(diff)
	}
	if problems, err := testutil.GatherAndLint(w.reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// TestStates_SlowAnswer exports the last answer while a question takes long, and
// nothing while there is none.
func TestStates_SlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := setup(t)
		var takes time.Duration
		w.reg.MustRegister(w.Queue(func(ctx context.Context) (observe.Queue, error) {
			select {
			case <-time.After(takes):
				return observe.Queue{Depth: 3, Oldest: 2 * time.Second}, nil
			case <-ctx.Done():
				return observe.Queue{}, ctx.Err()
			}
		}))
		want := map[string]float64{"chat_runs_queued{}": 3, "chat_oldest_queued_run_seconds{}": 2}
		scrape := func() map[string]float64 {
			begun := time.Now()
			got := w.values(t, "chat_runs_queued", "chat_oldest_queued_run_seconds")
			if took := time.Since(begun); took > time.Second {
				t.Errorf("a scrape took %v", took)
			}
			return got
		}
		if diff := cmp.Diff(want, scrape()); diff != "" {
			t.Error(diff)
		}
		takes = time.Hour
		time.Sleep(2 * time.Second)
		if diff := cmp.Diff(want, scrape()); diff != "" {
			t.Error("while it takes long: ", diff)
		}
		time.Sleep(20 * time.Second)
		if got := scrape(); len(got) > 0 {
			t.Error("after a while: ", got)
		}
		time.Sleep(time.Minute)
	})
}

// TestRuns_AreSeenWhileTheyAreMade counts replies in the making, and those to which
// a provider sends nothing.
func TestRuns_AreSeenWhileTheyAreMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := setup(t)
		w.reg.MustRegister(w.Runs())
		runs := func() map[string]float64 {
			return w.values(t, "chat_runs_active", "chat_oldest_run_seconds", "chat_runs_without_output")
		}
		hanging := make(chan struct{})
		model := w.Model("openai", "gpt-test", modelFunc(func(_ context.Context, p ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
			if p.RunID == "spoken" {
				emit(chat.Delta{})
			}
			<-hanging
			return ports.Answer{}, nil
		}))
		for _, id := range []string{"silent", "spoken"} {
			w.Observe(t.Context(), ports.RunStarted{Run: chat.Run{ID: id}, Waited: time.Second})
			go func() { _, _ = model.Generate(t.Context(), ports.Prompt{RunID: id}, func(chat.Delta) {}) }()
		}
		time.Sleep(5 * time.Second)
		if diff := cmp.Diff(map[string]float64{"chat_runs_active{}": 2, "chat_oldest_run_seconds{}": 6}, runs()); diff != "" {
			t.Error("at first: ", diff)
		}
		time.Sleep(10 * time.Second)
		want := map[string]float64{"chat_runs_active{}": 2, "chat_oldest_run_seconds{}": 16, "chat_runs_without_output{provider=openai}": 1}
		if diff := cmp.Diff(want, runs()); diff != "" {
			t.Error("after 15 s: ", diff)
		}
		close(hanging)
		synctest.Wait()
		for _, id := range []string{"silent", "spoken"} {
			w.Observe(t.Context(), ports.RunFinished{RunID: id, State: chat.Completed, Provider: "openai", Model: "gpt-test", Usage: chat.Usage{Output: 31}})
		}
		if got := runs(); len(got) > 0 {
			t.Error("at the end: ", got)
		}
		// 31 tokens in 15 s: the reply that had output, and no other.
		if got := w.values(t, "chat_output_tokens_per_second"); got["chat_output_tokens_per_second{model=gpt-test,provider=openai}"] != 1 {
			t.Error(got)
		}
	})
}

type modelFunc func(context.Context, ports.Prompt, func(chat.Delta)) (ports.Answer, error)

func (f modelFunc) Generate(ctx context.Context, p ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	return f(ctx, p, emit)
}
