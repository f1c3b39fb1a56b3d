//go:build e2e

package incidents

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/platform/testing/testworld"
)

// incident is something that goes wrong, and what the person on call must see of it.
type incident struct {
	name string
	// prepare, if set, makes what the incident needs, which is no part of it.
	prepare func(w *world)
	// inject causes it and returns what heals it.
	inject func(w *world) (heal func())
	// noticed: requests of users fail or are slow.
	noticed bool
	// history is how much healthy history its alert compares with, in the time of the
	// rules; 0: none, or an hour if users notice it.
	history time.Duration
	// first are the alerts one of which must be the first notification. None: nothing is
	// wrong, and an hour must pass without a notification.
	first []string
	// pages are the alerts that may page; others must not.
	pages []string
	// runbook is the alert whose runbook is followed; "": the first one.
	runbook string
	// cause are strings that the first step of the runbook must all print; "{two}"
	// stands for the second instance.
	cause []string
	// env is added to the environment of that step.
	env func(w *world) []string
}

// Bounds of one incident in real time. They are generous: a slow machine takes longer,
// and a test must not depend on it.
const (
	detectWithin  = 3 * time.Minute
	resolveWithin = 2 * time.Minute
	settleWithin  = 5 * time.Minute
)

// TestIncidents injects each incident into one world, one after the other. RUN selects
// those whose names it matches.
func TestIncidents(t *testing.T) {
	selected := regexp.MustCompile(os.Getenv("RUN"))
	w := newWorld(t)
	ran := 0
	for _, in := range incidents {
		if !selected.MatchString(in.name) {
			continue
		}
		ran++
		if in.prepare != nil {
			in.prepare(w)
			w.forget()
		}
		w.await(in)
		t.Run(in.name, func(t *testing.T) {
			w.t = t
			defer func() { w.t = w.T.(*testing.T) }()
			judge := w.judge
			if len(in.first) == 0 {
				judge = w.judgeHealthy
			}
			score, problems := judge(in, detectWithin)
			for _, p := range problems {
				t.Error(p)
			}
			if len(problems) == 0 {
				save(t, score)
			}
		})
		w.settle()
	}
	if ran == 0 {
		t.Fatalf("there is no incident %q", os.Getenv("RUN"))
	}
}

// healthyHistory is how much healthy history an incident needs that users notice. With
// less, a few failures would be a large share of it, and the rules on service levels
// would come before those on causes.
const healthyHistory = time.Hour

// needs returns how long Prometheus must have recorded before an incident.
func (in incident) needs() time.Duration {
	if in.noticed {
		return max(in.history, healthyHistory) / Factor
	}
	return in.history / Factor
}

// slowMachine are tickets that a busy machine raises by itself, rightly: reads take more
// than 25 ms there. They are no part of an incident, except of one that expects them.
var slowMachine = []string{"ChatReadsSlow", "ChatReadsBudgetBurn"}

// ofMachine reports whether an alert says no more than that the machine is busy.
func (in incident) ofMachine(alert string) bool {
	return slices.Contains(slowMachine, alert) && !slices.Contains(in.first, alert)
}

// await waits until nothing fires and Prometheus has the history that an incident needs.
func (w *world) await(in incident) {
	var last []string
	deadline := time.Now().Add(settleWithin)
	for quiet := time.Now(); time.Since(quiet) < 4*time.Second || time.Since(w.begun) < in.needs(); time.Sleep(100 * time.Millisecond) {
		if last = slices.DeleteFunc(w.firing(), in.ofMachine); len(last) > 0 {
			quiet = time.Now()
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("before %s still firing: %v", in.name, last)
		}
	}
}

// settle forgets an incident that has left errors or alerts behind: the windows of days
// would keep its tickets open. Others leave a healthy history.
func (w *world) settle() {
	errors, err := w.prometheus.Instant(w.t.Context(), `max({__name__=~"job:.+:ratio_rate1h"}) > 0.001`, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	if w.scraped { // and is gone, which ChatAbsent would tell for a day
		time.Sleep(4 * time.Second)
	}
	if w.scraped || w.restarted || len(errors) > 0 || len(w.firing()) > 0 {
		w.forget()
	}
}

// judge injects an incident, checks what it raises and what the runbook shows, heals
// it, and returns what is wrong with that.
func (w *world) judge(in incident, detectWithin time.Duration) (score Score, problems []string) {
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	begun := time.Now()
	heal := sync.OnceFunc(in.inject(w))
	defer heal()
	var first notification
	for first.alert == "" {
		got := slices.DeleteFunc(w.received.since(begun), func(n notification) bool { return in.ofMachine(n.alert) })
		if len(got) > 0 {
			first = got[0]
		} else if time.Since(begun) > detectWithin {
			report("no alert within %v; firing: %v", detectWithin, w.firing())
			return score, problems
		}
		time.Sleep(50 * time.Millisecond)
	}
	took := first.at.Sub(begun)
	if !slices.Contains(in.first, first.alert) {
		report("the first alert is %s, want %s", first.alert, strings.Join(in.first, " or "))
	}
	runbook := strings.TrimSuffix(path.Base(first.runbook), ".md")
	if in.runbook != "" {
		runbook = in.runbook
	}
	score = Score{Incident: in.name, Alert: first.alert, Seconds: int(took.Seconds() * Factor)}
	step, output, err := w.follow(runbook, in)
	if err != nil {
		report("%v", err)
	}
	score.Step, score.Found = step.Text, err == nil
	time.Sleep(5 * time.Second) // five minutes more, for a page that nobody needs
	healed := time.Now()
	heal()
	for ; slices.Contains(w.firing(), first.alert); time.Sleep(100 * time.Millisecond) {
		if strings.Contains(first.alert, "Budget") { // whose windows are longer than the run
			break
		}
		if time.Since(healed) > resolveWithin {
			report("%s has not resolved %v after the incident", first.alert, resolveWithin)
			break
		}
	}
	var pages, all []string
	for _, n := range w.received.since(begun) {
		if w.scraped && n.alert == "ChatAbsent" && n.at.After(healed) {
			continue // an instance of this incident alone is gone, which heal has stopped
		}
		if !slices.Contains(all, n.alert) {
			all = append(all, n.alert)
		}
		if n.receiver == "pager" && !slices.Contains(pages, n.alert) {
			pages = append(pages, n.alert)
			if !slices.Contains(in.pages, n.alert) {
				report("%s pages; only %v may", n.alert, in.pages)
			}
		}
	}
	if slices.Contains(in.pages, first.alert) && !slices.Contains(pages, first.alert) {
		report("%s does not page", first.alert)
	}
	w.t.Logf("%s: %s after %.1f s (%d s uncompressed); all alerts: %v; pages: %v\n%s\n%s", in.name, first.alert, took.Seconds(), score.Seconds, all, pages, step.Text, output)
	if pages == nil {
		pages = []string{"none"}
	}
	score.Pages = strings.Join(pages, ", ")
	return score, problems
}

// judgeHealthy lets an hour pass in which something happens that is no incident, and
// returns the alerts that come nevertheless.
func (w *world) judgeHealthy(in incident, _ time.Duration) (score Score, problems []string) {
	begun := time.Now()
	in.inject(w)()
	time.Sleep(time.Until(begun.Add(time.Hour / Factor)))
	for _, n := range w.received.since(begun) {
		if !in.ofMachine(n.alert) {
			problems = append(problems, fmt.Sprintf("%s comes to %s, and nothing is wrong", n.alert, n.receiver))
		}
	}
	return Score{Incident: in.name, Pages: "none"}, problems
}

// follow runs the first step of a runbook until it shows the cause. What it reads may
// be a moment behind the alert.
func (w *world) follow(runbook string, in incident) (step Step, output string, err error) {
	if step, err = FirstStep(w.monitoring, runbook); err != nil {
		return step, "", err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		var env []string
		if in.env != nil {
			env = in.env(w)
		}
		output = w.run(step, env...)
		if !slices.ContainsFunc(in.cause, func(s string) bool { return !strings.Contains(output, strings.ReplaceAll(s, "{two}", w.Two.Admin)) }) {
			return step, output, nil
		}
		if time.Now().After(deadline) {
			return step, output, fmt.Errorf("the first step of the runbook of %s does not show %q:\n%s\n%s", runbook, in.cause, step.Text, output)
		}
	}
}

// save writes the score of an incident that went as expected into docs/observability.md.
func save(t *testing.T, score Score) {
	file := filepath.Join(testworld.Root(t), "docs/observability.md")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, in := range incidents {
		order = append(order, in.name)
	}
	document, err := WriteScores(string(content), order, []Score{score})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(document), 0o644); err != nil {
		t.Fatal(err)
	}
}
