//go:build e2e

package incidents

import (
	"slices"
	"testing"
	"time"
)

// TestMutations breaks one thing after the other and expects that the harness fails.
func TestMutations(t *testing.T) {
	w := newWorld(t)
	for _, m := range mutations {
		w.await(incident{name: m.name, noticed: m.incident == "postgres-killed"})
		t.Run(m.name, func(t *testing.T) {
			w.t = t
			defer func() { w.t = w.T.(*testing.T) }()
			w.configure(func(path, content string) string {
				if path != m.file {
					return content
				}
				mutated, _ := m.apply(content)
				return mutated
			})
			time.Sleep(3 * time.Second) // rules are evaluated every second
			if firing := w.firing(); len(firing) > 0 {
				t.Logf("red: without an incident, %v fire", firing)
				return
			}
			i := slices.IndexFunc(incidents, func(in incident) bool { return in.name == m.incident })
			if i < 0 {
				t.Fatalf("there is no incident %s", m.incident)
			}
			// An alert that does not come is not waited for as long as otherwise.
			_, problems := w.judge(incidents[i], 30*time.Second)
			if len(problems) == 0 {
				t.Error("the harness does not notice")
			}
			for _, p := range problems {
				t.Log("red: " + p)
			}
		})
		w.configure(unchanged)
		w.settle()
	}
}
