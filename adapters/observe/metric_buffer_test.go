package observe_test

import (
	"context"
	"sync"
	"testing"

	"parley/domain/access"
	"parley/ports"
)

// Samples are recorded at the latest at a scrape, and exactly
// once, however many measure and look at the same time.
func TestLater_CountsOnce(t *testing.T) {
	w := setup(t)
	const callers, each = 8, 1000
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for i := range each {
				w.Observe(context.Background(), ports.LimitDecided{Scope: "send", Decision: access.Decision{Allowed: true}})
				if i%100 == 0 {
					w.Flush()
				}
			}
		})
	}
	all.Wait()
	got := w.values(t, "chat_ratelimit_decisions_total")
	if n := got["chat_ratelimit_decisions_total{decision=allow,scope=send}"]; n != callers*each {
		t.Errorf("%v of %d are counted", n, callers*each)
	}
}

// The buffer is bounded without scrapes.
func TestLater_CountsWithoutAnyoneLooking(t *testing.T) {
	w := setup(t)
	for range 1000 {
		w.Observe(context.Background(), ports.LimitDecided{Scope: "send", Decision: access.Decision{Allowed: true}})
	}
	families, err := w.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := 0.0
	for _, f := range families {
		if f.GetName() != "chat_ratelimit_decisions_total" {
			continue
		}
		for _, m := range f.Metric {
			counted += m.GetCounter().GetValue()
		}
	}
	if counted < 1000-256 || counted > 1000 {
		t.Errorf("%v of 1000 are counted", counted)
	}
}
