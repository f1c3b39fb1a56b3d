//go:build e2e

package incidents

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/platform/testing/testworld"
)

// incident is something that goes wrong, and what the person on call must see of it.
type incident struct {
	name string
	// inject causes it and returns what heals it.
	inject func(w *world) (heal func())
	// first are the alerts one of which must be the first notification.
	first []string
	// pages are the alerts that may page; others must not.
	pages []string
	// runbook is the alert whose runbook is followed; "": the first one.
	runbook string
	// cause are strings that the first step of the runbook must all print.
	cause []string
	// env is added to the environment of that step.
	env func(w *world) []string
}

// Bounds of one incident in real time. They are generous: a slow machine takes longer,
// and a test must not depend on it.
const (
	detectWithin  = 3 * time.Minute
	resolveWithin = 4 * time.Minute
)

// TestIncidents injects each incident into one world, one after the other. RUN selects
// one by its name.
func TestIncidents(t *testing.T) {
	w := newWorld(t, nil)
	w.settle("the start")
	parent := t
	var scores []Score
	for _, in := range incidents {
		if only := os.Getenv("RUN"); only != "" && only != in.name {
			continue
		}
		t.Run(in.name, func(t *testing.T) {
			w.t = t
			defer func() { w.t = parent }()
			scores = append(scores, w.judge(t, in))
		})
		w.settle(in.name)
	}
	if len(scores) == 0 {
		t.Fatalf("there is no incident %q", os.Getenv("RUN"))
	}
	if !t.Failed() {
		save(t, scores)
	}
}

// settle waits until nothing fires, in a world without a past.
func (w *world) settle(after string) {
	w.forget()
	quiet := 0
	testworld.Until(w.t, "nothing fires after "+after, resolveWithin, func() bool {
		if firing := w.firing(); len(firing) > 0 {
			quiet = 0
			if time.Now().UnixMilli()%5000 < 60 {
				w.t.Logf("after %s still firing: %v", after, firing)
			}
			return false
		}
		quiet++
		return quiet > 80 // four seconds
	})
}

// judge injects an incident, checks what it raises and what the runbook shows, and
// heals it.
func (w *world) judge(t *testing.T, in incident) Score {
	begun := time.Now()
	heal := in.inject(w)
	healed := false
	defer func() {
		if !healed {
			heal()
		}
	}()
	var first notification
	for first.alert == "" {
		if got := w.received.since(begun); len(got) > 0 {
			first = got[0]
		} else if time.Since(begun) > detectWithin {
			t.Fatalf("no alert within %v; pending or firing: %v", detectWithin, w.firing())
		} else {
			time.Sleep(50 * time.Millisecond)
		}
	}
	took := first.at.Sub(begun)
	if !slices.Contains(in.first, first.alert) {
		t.Errorf("the first alert is %s, want %s", first.alert, strings.Join(in.first, " or "))
	}
	runbook := first.alert
	if in.runbook != "" {
		runbook = in.runbook
	}
	step, err := FirstStep(filepath.Join(w.root, "docs/runbooks"), runbook)
	if err != nil {
		t.Fatal(err)
	}
	found, output := false, ""
	for deadline := time.Now().Add(20 * time.Second); !found && time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		var env []string
		if in.env != nil {
			env = in.env(w)
		}
		output = w.run(step, env...)
		found = !slices.ContainsFunc(in.cause, func(s string) bool { return !strings.Contains(output, s) })
	}
	if !found {
		t.Errorf("the first step of the runbook of %s does not show %q:\n%s\n%s", runbook, in.cause, step.Text, output)
	}
	time.Sleep(5 * time.Second) // five minutes more, for a page that nobody needs
	heal()
	healed = true
	testworld.Until(t, "resolved: "+first.alert, resolveWithin, func() bool {
		return !slices.Contains(w.firing(), first.alert) || strings.Contains(first.alert, "Budget") && time.Since(begun) > took+30*time.Second
	})
	var pages, all []string
	for _, n := range w.received.since(begun) {
		if !slices.Contains(all, n.alert) {
			all = append(all, n.alert)
		}
		if n.receiver != "pager" || slices.Contains(pages, n.alert) {
			continue
		}
		pages = append(pages, n.alert)
		if !slices.Contains(in.pages, n.alert) {
			t.Errorf("%s pages; only %v may", n.alert, in.pages)
		}
	}
	t.Logf("%s after %.1f s (%.0f s uncompressed); all alerts: %v; pages: %v\n%s\n%s", first.alert, took.Seconds(), took.Seconds()*Factor, all, pages, step.Text, output)
	if pages == nil {
		pages = []string{"none"}
	}
	return Score{Incident: in.name, Alert: first.alert, Seconds: int(took.Seconds() * Factor), Pages: strings.Join(pages, ", "), Step: step.Text, Found: found}
}

// save writes the scores into docs/observability.md.
func save(t *testing.T, scores []Score) {
	path := filepath.Join(testworld.Root(t), "docs/observability.md")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, in := range incidents {
		order = append(order, in.name)
	}
	document, err := WriteScores(string(content), order, scores)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(document), 0o644); err != nil {
		t.Fatal(err)
	}
}
