package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Snapshot is what one instance exposed at one moment.
type Snapshot struct {
	Instance string // host and port
	At       time.Time
	Err      error // why nothing was read
	families map[string]*dto.MetricFamily
}

// ParseSnapshot reads the text format of /metrics.
func ParseSnapshot(instance string, at time.Time, text io.Reader) Snapshot {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	return Snapshot{Instance: instance, At: at, Err: err, families: families}
}

// TakeSnapshots reads /metrics of all admin addresses at once.
func TakeSnapshots(ctx context.Context, urls []string) []Snapshot {
	out := make([]Snapshot, len(urls))
	var all sync.WaitGroup
	for i, url := range urls {
		all.Go(func() {
			out[i] = takeSnapshot(ctx, strings.TrimSuffix(url, "/"))
		})
	}
	all.Wait()
	return out
}

func takeSnapshot(ctx context.Context, url string) Snapshot {
	failed := func(err error) Snapshot { return Snapshot{Instance: hostOf(url), At: time.Now(), Err: err} }
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return failed(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return failed(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return failed(fmt.Errorf("status %d", resp.StatusCode))
	}
	return ParseSnapshot(hostOf(url), time.Now(), resp.Body)
}

func hostOf(url string) string {
	_, host, found := strings.Cut(url, "://")
	if !found {
		return url
	}
	return host
}

// samples calls visit with each series of a counter or gauge.
func (s Snapshot) samples(name string, visit func(labels map[string]string, value float64)) {
	for _, m := range s.families[name].GetMetric() {
		value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
		visit(labelsOf(m), value)
	}
}

// buckets calls visit with the buckets of each series of a histogram.
func (s Snapshot) buckets(name string, visit func(labels map[string]string, le, count float64)) {
	for _, m := range s.families[name].GetMetric() {
		h := m.GetHistogram()
		if h == nil {
			continue
		}
		labels, unbounded := labelsOf(m), false
		for _, b := range h.GetBucket() {
			visit(labels, b.GetUpperBound(), float64(b.GetCumulativeCount()))
			unbounded = unbounded || math.IsInf(b.GetUpperBound(), 1)
		}
		if !unbounded {
			visit(labels, math.Inf(1), float64(h.GetSampleCount()))
		}
	}
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

// gauge is the sum of a gauge's series, and whether there is one.
func (s Snapshot) gauge(name string, match ...string) (sum float64, ok bool) {
	s.samples(name, func(labels map[string]string, v float64) {
		for i := 0; i+1 < len(match); i += 2 {
			if labels[match[i]] != match[i+1] {
				return
			}
		}
		sum, ok = sum+v, true
	})
	return sum, ok
}

// span is two snapshots of one instance, of which rates are made.
type span struct{ before, now Snapshot }

// spans pairs snapshots of the same instance. An instance that restarted in between
// has no rates.
func spans(before, now []Snapshot) []span {
	var out []span
	for _, n := range now {
		i := slices.IndexFunc(before, func(b Snapshot) bool { return b.Instance == n.Instance })
		if i < 0 || n.Err != nil || before[i].Err != nil || !n.At.After(before[i].At) {
			continue
		}
		started, _ := before[i].gauge("process_start_time_seconds")
		if again, _ := n.gauge("process_start_time_seconds"); again != started {
			continue
		}
		out = append(out, span{before[i], n})
	}
	return out
}

// rates returns the increase per second of a counter, summed over all instances by
// the labels that key returns; key returns "" for series that do not count.
func rates(all []span, name string, key func(labels map[string]string) string) map[string]float64 {
	out := map[string]float64{}
	for _, s := range all {
		seconds := s.now.At.Sub(s.before.At).Seconds()
		old := map[string]float64{}
		s.before.samples(name, func(l map[string]string, v float64) { old[canonical(l)] = v })
		s.now.samples(name, func(l map[string]string, v float64) {
			if k := key(l); k != "" {
				out[k] += max(0, v-old[canonical(l)]) / seconds
			}
		})
	}
	return out
}

// canonical is the labels as one string.
func canonical(labels map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "%s=%q,", name, labels[name])
	}
	return b.String()
}

// distribution is the increase of cumulative buckets by their upper bounds.
type distribution map[float64]float64

// distributions returns the increase of a histogram by key, as rates does.
func distributions(all []span, name string, key func(labels map[string]string) string) map[string]distribution {
	out := map[string]distribution{}
	for _, s := range all {
		old := map[string]float64{}
		id := func(l map[string]string, le float64) string { return fmt.Sprint(canonical(l), le) }
		s.before.buckets(name, func(l map[string]string, le, v float64) { old[id(l, le)] = v })
		s.now.buckets(name, func(l map[string]string, le, v float64) {
			k := key(l)
			if k == "" {
				return
			}
			if out[k] == nil {
				out[k] = distribution{}
			}
			out[k][le] += max(0, v-old[id(l, le)])
		})
	}
	return out
}

// quantile interpolates within a bucket, as histogram_quantile does. It is NaN when
// nothing was observed.
func (d distribution) quantile(q float64) float64 {
	bounds := slices.Sorted(maps.Keys(d))
	if len(bounds) == 0 || d[bounds[len(bounds)-1]] == 0 {
		return math.NaN()
	}
	rank := q * d[bounds[len(bounds)-1]]
	low, below := 0.0, 0.0
	for _, le := range bounds {
		if d[le] >= rank && d[le] > below {
			if math.IsInf(le, 1) {
				return low
			}
			return low + (le-low)*(rank-below)/(d[le]-below)
		}
		low, below = le, d[le]
	}
	return low
}

// Alert is an alert that fires.
type Alert struct{ Name, Severity, Summary string }

// FiringAlerts asks a Prometheus for the alerts of severity page and ticket that fire,
// pages first.
func FiringAlerts(ctx context.Context, url string) ([]Alert, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/api/v1/alerts", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var body struct {
		Data struct {
			Alerts []struct {
				Labels, Annotations map[string]string
				State               string
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	var out []Alert
	for _, a := range body.Data.Alerts {
		if severity := a.Labels["severity"]; a.State == "firing" && (severity == "page" || severity == "ticket") {
			out = append(out, Alert{a.Labels["alertname"], severity, a.Annotations["summary"]})
		}
	}
	slices.SortStableFunc(out, func(a, b Alert) int {
		return strings.Compare(a.Severity+a.Name+a.Summary, b.Severity+b.Name+b.Summary)
	})
	return slices.Compact(out), nil
}
