package check_test

import (
	"testing"

	"parley/dashboards/check"
)

const dir = ".." // dashboards/

func load(t *testing.T) *check.Suite {
	t.Helper()
	s, err := check.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Boards) != 6 || len(s.Queries()) < 80 || len(s.Alerts()) < 25 || len(s.Recordings()) < 30 {
		t.Fatalf("only %d dashboards, %d queries, %d alerts, %d recordings", len(s.Boards), len(s.Queries()), len(s.Alerts()), len(s.Recordings()))
	}
	return s
}

func TestDashboards_Lint(t *testing.T) {
	for _, p := range load(t).Lint() {
		t.Error(p)
	}
}

func TestDashboards_Names(t *testing.T) {
	for _, p := range load(t).Names() {
		t.Error(p)
	}
}
