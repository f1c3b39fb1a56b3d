package incidents

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompressRules_EveryDuration(t *testing.T) {
	got, err := CompressRules([]byte(`groups:
  - name: g
    interval: 5m
    rules:
      - alert: A
        expr: |
          rate(x_total{le="5m"}[1h] offset 1w) > 0.5
          and max_over_time(y[6h:5m]) > 60 and rate(z_total[1m]) > 0
          or sum(increase(requests_total[10m])) > 20
          or max(increase(chat_breaker_transitions_total[1h])) > 2
          or rate(chat_background_failures_total[5m]) > 7
          or predict_linear(m[1h], 4 * 3600) > 1
        for: 10m
        keep_firing_for: 2m
        annotations:
          summary: 'over 1h'
      - alert: B
        expr: 'b > 1'
        labels: {window: 6h}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"interval: 5s", "for: 10s", "keep_firing_for: 2s", `rate(x_total{le="5m"}[1m] offset 2h48m)`, "[6m:5s]", "> 60",
		"rate(z_total[4s])", // not one second: a rate needs several scrapes
		"sum(clamp_min(increase(requests_total[10s]) * 60, 0)) > 20", "max(increase(chat_breaker_transitions_total[1m])) > 2",
		"rate(chat_background_failures_total[12s]) > 7",
		"predict_linear(m[1m], (4 * 3600) / 60) > 1",
		"for: 11s",
		"summary: 'over 1h'",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestCompressRules_RefusesWhatItCannotRead(t *testing.T) {
	for _, file := range []string{"groups: [{rules: [{expr: 'rate('}]}]", "groups: [{interval: soon}]", ":\n:"} {
		if got, err := CompressRules([]byte(file)); err == nil {
			t.Errorf("%q becomes %q", file, got)
		}
	}
}

func TestCompressRules_BundledFiles(t *testing.T) {
	files, err := filepath.Glob("../../../dashboards/alerts/*s.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := CompressRules(content); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestCompressRoutes_SendsToOneServer(t *testing.T) {
	content, err := os.ReadFile("../../../dashboards/alerts/alertmanager.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := CompressRoutes(content, "http://127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"http://127.0.0.1:9/pager", "http://127.0.0.1:9/tickets", "http://127.0.0.1:9/deadman", "group_wait: 500ms", "group_interval: 5s"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(string(got), "example.com") {
		t.Errorf("a notification leaves the machine:\n%s", got)
	}
}
