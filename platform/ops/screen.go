package ops

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// View is all that a screen shows.
type View struct {
	Before, Now []Snapshot // of the same instances
	Alerts      []Alert
	AlertsErr   error
	WithAlerts  bool // a Prometheus was asked
}

// maxModels bounds the rows of models: the busiest are shown.
const maxModels = 15

// failedOutcomes are those that count against the service level of turns.
var failedOutcomes = []string{"provider_error", "provider_auth", "timeout", "breaker_open", "internal_error"}

// Screen renders a view as lines of plain text.
func Screen(v View) string {
	s := screen{View: v, all: spans(v.Before, v.Now)}
	s.head()
	s.alerts()
	s.turns()
	s.models()
	s.limits()
	s.instances()
	return trailing.ReplaceAllString(s.String(), "\n")
}

// trailing is the padding of the last column of a table.
var trailing = regexp.MustCompile(` +\n`)

// screen is a view in the course of being rendered.
type screen struct {
	strings.Builder
	View
	all []span
}

func (s *screen) head() {
	down, at, over := 0, time.Time{}, time.Duration(0)
	for _, one := range s.Now {
		if one.Err != nil {
			down++
		}
		if one.At.After(at) {
			at = one.At
		}
	}
	for _, pair := range s.all {
		over = max(over, pair.now.At.Sub(pair.before.At))
	}
	fmt.Fprintf(s, "Parley  %s  %d instance(s)", at.UTC().Format("2006-01-02 15:04:05 UTC"), len(s.Now))
	if down > 0 {
		fmt.Fprintf(s, ", %d UNREACHABLE", down)
	}
	if over > 0 {
		fmt.Fprintf(s, "  rates over %.1f s", over.Seconds())
	}
	s.WriteString("\n\n")
}

func (s *screen) alerts() {
	switch {
	case !s.WithAlerts:
		return
	case s.AlertsErr != nil:
		fmt.Fprintf(s, "ALERTS  unknown: %v\n\n", s.AlertsErr)
		return
	case len(s.Alerts) == 0:
		s.WriteString("ALERTS  none\n\n")
		return
	}
	table := newTable(s)
	fmt.Fprintln(table, "ALERTS\t\t")
	for _, a := range s.Alerts {
		fmt.Fprintf(table, "%s\t%s\t%s\n", a.Severity, a.Name, strings.Join(strings.Fields(a.Summary), " "))
	}
	table.Flush()
	s.WriteString("\n")
}

func (s *screen) turns() {
	turns := rates(s.all, "chat_turns_total", func(l map[string]string) string { return l["outcome"] })
	total, failed := 0.0, 0.0
	for outcome, v := range turns {
		total += v
		if slices.Contains(failedOutcomes, outcome) {
			failed += v
		}
	}
	fmt.Fprintf(s, "TURNS   %s  failed %s", s.perSecond(total), percent(failed, total))
	for _, outcome := range byValue(turns) {
		if outcome != "ok" && turns[outcome] > 0 {
			fmt.Fprintf(s, "  %s %s", outcome, s.perSecond(turns[outcome]))
		}
	}
	requests := rates(s.all, "chat_api_requests_total", func(l map[string]string) string { return l["result"] })
	fmt.Fprintf(s, "\nAPI     %s  failed %s\n\n", s.perSecond(requests["ok"]+requests["error"]), percent(requests["error"], requests["ok"]+requests["error"]))
}

func (s *screen) models() {
	byModel := func(l map[string]string) string {
		if l["provider"] == "none" || l["provider"] == "" {
			return ""
		}
		return l["provider"] + "/" + l["model"]
	}
	turns := rates(s.all, "chat_turns_total", byModel)
	failed := rates(s.all, "chat_turns_total", func(l map[string]string) string {
		if !slices.Contains(failedOutcomes, l["outcome"]) {
			return ""
		}
		return byModel(l)
	})
	firstWord := distributions(s.all, "chat_turn_time_to_first_event_seconds", byModel)
	tokens := rates(s.all, "chat_tokens_total", func(l map[string]string) string {
		if l["kind"] != "output" {
			return ""
		}
		return byModel(l)
	})
	breakers := breakerStates(s.Now)
	names := map[string]bool{}
	for name := range turns {
		names[name] = true
	}
	for name := range breakers {
		names[name] = true
	}
	order := slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(turns[b], turns[a]), strings.Compare(a, b))
	})
	table := newTable(s)
	fmt.Fprintln(table, "MODEL\tTURNS\tFAILED\tFIRST WORD p50\tp95\tTOKENS\tBREAKER")
	for _, name := range order[:min(len(order), maxModels)] {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, s.perSecond(turns[name]), percent(failed[name], turns[name]),
			seconds(firstWord[name].quantile(0.5)), seconds(firstWord[name].quantile(0.95)), s.perSecond(tokens[name]), breakers[name])
	}
	table.Flush()
	s.WriteString("\n")
}

// breakerStates returns the state of each breaker; instances that differ are counted.
func breakerStates(now []Snapshot) map[string]string {
	counts := map[string]map[string]int{}
	for _, one := range now {
		one.samples("chat_breaker_state", func(l map[string]string, v float64) {
			if v == 1 {
				if counts[l["breaker"]] == nil {
					counts[l["breaker"]] = map[string]int{}
				}
				counts[l["breaker"]][l["state"]]++
			}
		})
	}
	out := map[string]string{}
	for breaker, states := range counts {
		var parts []string
		for _, state := range slices.Sorted(maps.Keys(states)) {
			if len(states) == 1 {
				parts = append(parts, state)
			} else {
				parts = append(parts, fmt.Sprintf("%s (%d)", state, states[state]))
			}
		}
		out[breaker] = strings.Join(parts, ", ")
	}
	return out
}

func (s *screen) limits() {
	decisions := rates(s.all, "chat_ratelimit_decisions_total", func(l map[string]string) string { return l["decision"] })
	fmt.Fprintf(s, "LIMITS  %s  denied %s  without Redis %s\n", s.perSecond(decisions["allow"]+decisions["deny"]+decisions["fallback_allow"]+decisions["fallback_deny"]),
		s.perSecond(decisions["deny"]+decisions["fallback_deny"]), s.perSecond(decisions["fallback_allow"]+decisions["fallback_deny"]))
	refusals := rates(s.all, "chat_refusals_total", func(l map[string]string) string { return l["kind"] })
	s.WriteString("REFUSED")
	none := true
	for _, kind := range byValue(refusals) {
		if refusals[kind] > 0 {
			fmt.Fprintf(s, " %s %s ", kind, s.perSecond(refusals[kind]))
			none = false
		}
	}
	if none {
		s.WriteString(" none")
	}
	fmt.Fprintf(s, "\nRUNS    active %s  oldest %s  without output %s  queued %s  oldest %s\n", whole(total(s.Now, "chat_runs_active")), seconds(highest(s.Now, "chat_oldest_run_seconds")),
		whole(total(s.Now, "chat_runs_without_output")), whole(highest(s.Now, "chat_runs_queued")), seconds(highest(s.Now, "chat_oldest_queued_run_seconds")))
	fmt.Fprintf(s, "LOCKS   sessions that wait %s  longest %s\n\n", whole(highest(s.Now, "chat_database_lock_waits")), seconds(highest(s.Now, "chat_database_oldest_lock_wait_seconds")))
}

// highest is the greatest value of a gauge that is the same on every instance; NaN if
// none exposes it.
func highest(now []Snapshot, name string) float64 {
	out := math.NaN()
	for _, one := range now {
		if v, ok := one.gauge(name); ok && (math.IsNaN(out) || v > out) {
			out = v
		}
	}
	return out
}

// total is the sum of a gauge over the instances; NaN if none exposes it.
func total(now []Snapshot, name string) float64 {
	sum, found := 0.0, false
	for _, one := range now {
		v, ok := one.gauge(name)
		sum, found = sum+v, found || ok
	}
	if !found {
		return math.NaN()
	}
	return sum
}

func (s *screen) instances() {
	table := newTable(s)
	fmt.Fprintln(table, "INSTANCE\tVERSION\tUP\tRUNS\tOLDEST\tSTREAMS\tPOOL\tWAITS\tMEMORY\tGOROUTINES\tDOWN")
	for _, one := range s.Now {
		if one.Err != nil {
			fmt.Fprintf(table, "%s\tUNREACHABLE: %v\n", one.Instance, one.Err)
			continue
		}
		gauge := func(name string) float64 {
			v, ok := one.gauge(name)
			if !ok {
				return math.NaN()
			}
			return v
		}
		version := "-"
		one.samples("chat_build_info", func(l map[string]string, _ float64) { version = l["version"] })
		var down []string
		one.samples("chat_dependency_up", func(l map[string]string, v float64) {
			if v == 0 {
				down = append(down, l["dependency"])
			}
		})
		slices.Sort(down)
		if down == nil {
			down = []string{"-"}
		}
		own := slices.DeleteFunc(slices.Clone(s.all), func(x span) bool { return x.now.Instance != one.Instance })
		waits := rates(own, "go_sql_wait_count_total", func(map[string]string) string { return "all" })["all"]
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s/%s\t%s\t%s\t%s\t%s\n", one.Instance, version,
			age(float64(one.At.Unix())-gauge("process_start_time_seconds")),
			whole(gauge("chat_runs_active")), seconds(gauge("chat_oldest_run_seconds")), whole(gauge("chat_streams_active")),
			whole(gauge("go_sql_in_use_connections")), whole(gauge("go_sql_max_open_connections")), s.perSecond(waits),
			mebibytes(gauge("process_resident_memory_bytes")), whole(gauge("go_goroutines")), strings.Join(down, ","))
	}
	table.Flush()
}

func newTable(b io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(b, 0, 0, 2, ' ', 0) }

// byValue returns the keys, the greatest value first.
func byValue(m map[string]float64) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), strings.Compare(a, b)) })
}

// perSecond formats a rate, which is unknown without two snapshots.
func (s *screen) perSecond(v float64) string {
	if len(s.all) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f/s", v)
}

func percent(part, of float64) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*part/of)
}

func seconds(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.2f s", v)
}

func whole(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.0f", v)
}

func mebibytes(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.0f MiB", v/(1<<20))
}

func age(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return time.Duration(v * float64(time.Second)).Truncate(time.Second).String()
}
