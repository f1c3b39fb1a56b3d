package observe_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"parley/ports"
)

type models []ports.ModelInfo

func (m models) Models() []ports.ModelInfo { return m }

func TestStates_AreAskedAtEveryScrape(t *testing.T) {
	w := setup(t)
	redis := true
	breakers := models{{Provider: "openai", Model: "gpt-test", State: "closed"}, {Provider: "openai", Model: "not-configured", State: "open"}}
	w.reg.MustRegister(
		w.Dependencies(func(context.Context) map[string]bool { return map[string]bool{"database": true, "redis": redis} }),
		w.Breakers(breakers),
		w.Schema("20260101120000", 2),
	)
	names := []string{"chat_dependency_up", "chat_breaker_state", "chat_schema_version", "chat_schema_pending"}
	want := map[string]float64{
		"chat_dependency_up{dependency=database}":                  1,
		"chat_dependency_up{dependency=redis}":                     1,
		"chat_breaker_state{breaker=openai/gpt-test,state=closed}": 1,
		"chat_schema_version{}":                                    20260101120000,
		"chat_schema_pending{}":                                    2,
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
