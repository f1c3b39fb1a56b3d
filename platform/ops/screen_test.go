package ops

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

func snapshot(t *testing.T, instance, file string, at time.Time) Snapshot {
	t.Helper()
	content, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	s := ParseSnapshot(instance, at, bytes.NewReader(content))
	if s.Err != nil {
		t.Fatal(s.Err)
	}
	return s
}

func TestScreen(t *testing.T) {
	at := time.Date(2026, 11, 27, 14, 0, 2, 0, time.UTC)
	before := []Snapshot{snapshot(t, "parley-1:9464", "one.before", at.Add(-2*time.Second)), snapshot(t, "parley-2:9464", "two.before", at.Add(-2*time.Second))}
	now := []Snapshot{snapshot(t, "parley-1:9464", "one.now", at), snapshot(t, "parley-2:9464", "two.now", at)}
	gone := Snapshot{Instance: "parley-3:9464", At: at, Err: errors.New("connection refused")}
	restarted := snapshot(t, "parley-2:9464", "two.before", at.Add(-2*time.Second))
	*restarted.families["process_start_time_seconds"].Metric[0].Gauge.Value++
	for name, v := range map[string]View{
		"two instances": {Before: before, Now: now},
		"with alerts": {Before: before, Now: append(now[:1:1], gone), WithAlerts: true, Alerts: []Alert{
			{"ChatDependencyDown", "page", "No instance reaches the database"}, {"ChatRedisDown", "ticket", "An instance does not reach redis"}}},
		"no rates yet":      {Now: now, WithAlerts: true},
		"unknown alerts":    {Now: []Snapshot{gone}, WithAlerts: true, AlertsErr: errors.New("connection refused")},
		"after its restart": {Before: []Snapshot{restarted}, Now: now[1:]},
	} {
		t.Run(name, func(t *testing.T) {
			got, path := Screen(v), "testdata/"+strings.ReplaceAll(name, " ", "-")+".golden"
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		})
	}
}

func TestDistribution_Quantile(t *testing.T) {
	d := distribution{0.1: 10, 1: 20, math.Inf(1): 20}
	for q, want := range map[float64]float64{0.25: 0.05, 0.5: 0.1, 0.75: 0.55, 1: 1} {
		if got := d.quantile(q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := (distribution{0.1: 0, math.Inf(1): 4}).quantile(0.5); got != 0.1 {
		t.Errorf("beyond the last bound: %v, want that bound", got)
	}
	for _, d := range []distribution{nil, {1: 0, math.Inf(1): 0}} {
		if got := d.quantile(0.5); !math.IsNaN(got) {
			t.Errorf("of nothing: %v", got)
		}
	}
}

// Top reads instances and Prometheus over HTTP; where its output is no terminal, it
// prints one screen without control sequences.
func TestTop_PrintsOneScreen(t *testing.T) {
	served := "one.before"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/alerts" {
			w.Write([]byte(`{"status":"success","data":{"alerts":[
				{"state":"firing","labels":{"alertname":"B","severity":"ticket"},"annotations":{"summary":"a ticket"}},
				{"state":"firing","labels":{"alertname":"A","severity":"page"},"annotations":{"summary":"a page"}},
				{"state":"pending","labels":{"alertname":"C","severity":"page"}},
				{"state":"firing","labels":{"alertname":"ChatWatchdog","severity":"none"}}]}}`))
			return
		}
		content, err := os.ReadFile("testdata/" + served)
		if err != nil {
			t.Error(err)
		}
		served = "one.now"
		w.Write(content)
	}))
	defer server.Close()
	var out bytes.Buffer
	if err := (Top{Instances: []string{server.URL + "/"}, Prometheus: server.URL, Interval: 20 * time.Millisecond}).Run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	screen := out.String()
	if strings.Contains(screen, "\x1b") || strings.Count(screen, "Parley ") != 1 || strings.Contains(screen, "UNREACHABLE") {
		t.Errorf("%q", screen)
	}
	if a, b := strings.Index(screen, "page    A"), strings.Index(screen, "ticket  B"); a < 0 || b < a || strings.Contains(screen, "Watchdog") || strings.Contains(screen, " C ") {
		t.Errorf("the alerts: %s", screen)
	}
}
