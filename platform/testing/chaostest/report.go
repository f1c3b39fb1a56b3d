package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// broken returns how many violations are known.
func (h *history) broken() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.violations)
}

// slack is how far above a fresh instance's an idle one's gauges may be: pools
// keep their connections, each with a goroutine or two.
var slack = gauges{goroutines: 40, fds: 30}

// atRest waits up to 10 s for every instance to hold no more than a fresh one.
func atRest(w *world, h *history, base []gauges) (took time.Duration) {
	begun := time.Now()
	for i, s := range w.slots {
		for {
			now, err := s.measure()
			if err == nil && now.within(base[i]) {
				break
			}
			if time.Since(begun) > 10*time.Second {
				s.dump(filepath.Join(w.dir, s.letter+".goroutines"))
				h.violate("I5", "instance %s holds %v; a fresh one %v (%v)", s.letter, now, base[i], err)
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return time.Since(begun)
}

func (g gauges) within(base gauges) bool {
	return g.goroutines <= base.goroutines+slack.goroutines && g.fds <= base.fds+slack.fds && g.inUse == 0
}

// searchLogs looks for what must never be there: text of messages, and panics.
func searchLogs(w *world, h *history) error {
	for _, s := range w.slots {
		f, err := os.Open(s.log.Name())
		if err != nil {
			return err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			line := lines.Text()
			switch {
			case len(nonces(line)) > 0:
				h.violate("leak", "the log of %s holds text of a message: %s", s.letter, clip(line))
			case strings.HasPrefix(line, "panic:"), strings.HasPrefix(line, "fatal error:"), strings.Contains(line, "DATA RACE"):
				h.violate("process", "the log of %s: %s", s.letter, line)
			}
		}
		if err := lines.Err(); err != nil {
			return err
		}
	}
	return nil
}

// summary is what a run showed, for people and for machines.
type summary struct {
	Seed             uint64            `json:"seed"`
	Faults           map[string]int    `json:"faults"`
	Spent            map[string]string `json:"spent"`
	Failpoints       map[string]int    `json:"failpoints"`
	Missed           map[string]int    `json:"failpointsNotReached"`
	Kills            int               `json:"kills"`
	CommitsHidden    int               `json:"commitsUnacknowledged"`
	Acks             int64             `json:"acks"`
	Lost             int               `json:"lost"`
	Duplicated       int               `json:"duplicated"`
	NonTerminal      int               `json:"nonTerminal"`
	Runs             map[string]int    `json:"runs"`
	Orphans          int               `json:"orphans"`
	SecondAttempts   int               `json:"furtherAttempts"`
	SlowestRecovery  string            `json:"slowestRecovery"`
	SlowestDrain     string            `json:"slowestDrain"`
	SlowestRefusals  map[string]string `json:"slowestRefusals"`
	Retries          int64             `json:"retries"`
	Reconnects       int64             `json:"reconnects"`
	BytesChecked     int64             `json:"bytesChecked"`
	Statuses         map[int]int64     `json:"statuses"`
	ProviderCalls    int               `json:"providerCalls"`
	Stops            int               `json:"stopsThatReachedTheProvider"`
	SlowestStop      string            `json:"slowestStop"`
	LongestHeld      string            `json:"longestHeld"`
	LimitUndisturbed int               `json:"limitWindowsUndisturbed"`
	LimitAlone       int               `json:"limitDecidedAlone"`
	Files            int               `json:"files"`
	LimitWindows     int               `json:"limitWindowsChecked"`
	AuditChain       string            `json:"auditChain"`
	BackToBaseline   string            `json:"backToBaseline"`
	Took             string            `json:"took"`
	Violations       []string          `json:"violations"`
}

func summarise(o options, c *chaos, h *history, s snapshot, v verdict, rest, took time.Duration) summary {
	short := func(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }
	sum := summary{
		Seed: o.seed, Faults: map[string]int{}, Spent: map[string]string{}, Failpoints: c.points, Missed: c.missed, Kills: c.kills, CommitsHidden: c.swallowed,
		Lost: v.lost, Duplicated: v.duplicated, NonTerminal: v.nonTerminal, Runs: v.states, Orphans: v.orphans,
		SecondAttempts: v.attempts, SlowestRecovery: short(v.slowest), SlowestRefusals: map[string]string{},
		Stops: v.stops, SlowestStop: short(v.slowestStop), LongestHeld: short(v.longestHeld), LimitWindows: v.windows, LimitUndisturbed: v.undisturbed, LimitAlone: v.alone, Files: v.files, BackToBaseline: short(rest), Took: took.Round(time.Second).String(), Violations: []string{},
	}
	for k, n := range c.done {
		sum.Faults[string(k)], sum.Spent[string(k)] = n, c.spent[k].Round(time.Second).String()
	}
	sum.Acks, sum.Reconnects, sum.Retries, sum.BytesChecked, sum.Statuses = h.counters()
	for _, n := range s.Calls {
		sum.ProviderCalls += n
	}
	if len(c.drains) > 0 {
		sum.SlowestDrain = short(slices.Max(c.drains))
	}
	delete(h.refusals, zombie) // who is frozen cannot refuse
	for k, d := range h.refusals {
		sum.SlowestRefusals[cmp.Or(string(k), "calm")] = short(d)
	}
	for _, one := range v.violations {
		sum.Violations = append(sum.Violations, one.String())
	}
	return sum
}

// report prints a summary, and the history of the runs that broken promises
// are about.
func report(w io.Writer, sum summary, v verdict, s snapshot) {
	faults := 0
	for _, k := range kinds {
		if n := sum.Faults[string(k.kind)]; n > 0 {
			fmt.Fprintf(w, "  %5d  %-26s %7s\n", n, k.kind, sum.Spent[string(k.kind)])
			faults += n
		}
	}
	fmt.Fprintf(w, "  failpoints reached: %s\n", list(sum.Failpoints))
	if len(sum.Missed) > 0 {
		fmt.Fprintf(w, "  failpoints not reached: %s\n", list(sum.Missed))
	}
	fmt.Fprintf(w, "  runs: %s; further attempts %d; provider calls %d; commits unacknowledged %d\n",
		list(sum.Runs), sum.SecondAttempts, sum.ProviderCalls, sum.CommitsHidden)
	fmt.Fprintf(w, "  slowest refusals: %s\n  slowest drain %s; longest held by a living instance %s; %d stops at the provider within %s; back to baseline in %s; limit checked in %d minutes, %d undisturbed; %d requests passed by one instance alone; %d files kept\n",
		list(sum.SlowestRefusals), sum.SlowestDrain, sum.LongestHeld, sum.Stops, sum.SlowestStop, sum.BackToBaseline, sum.LimitWindows, sum.LimitUndisturbed, sum.LimitAlone, sum.Files)
	fmt.Fprintf(w, "  audit chain: %s\n", sum.AuditChain)
	fmt.Fprintf(w, "seed %d: %d faults, %d kills, %d acks, lost %d, duplicated %d, non-terminal %d, %d orphans, slowest recovery %s, "+
		"%d reconnects, %d retries, %d bytes checked, %d violations, took %s\n",
		sum.Seed, faults, sum.Kills, sum.Acks, sum.Lost, sum.Duplicated, sum.NonTerminal, sum.Orphans, sum.SlowestRecovery,
		sum.Reconnects, sum.Retries, sum.BytesChecked, len(v.violations), sum.Took)
	const most = 40
	for i, one := range sorted(v.violations) {
		if i == most {
			fmt.Fprintf(w, "and %d more\n", len(v.violations)-most)
			break
		}
		fmt.Fprintln(w, "BROKEN", one)
	}
	shown := map[string]bool{}
	for _, one := range v.violations {
		for _, id := range runID.FindAllString(one.evidence, -1) {
			if !shown[id] && len(shown) < 5 {
				shown[id] = true
				requestEnd(w, id, s)
			}
		}
	}
}

var runID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// tell prints what the database noted about a run.
func requestEnd(w io.Writer, run string, s snapshot) {
	for _, st := range s.Steps {
		if st.RunID == run {
			fmt.Fprintf(w, "  %s run %s attempt %d %s owner %q, %d bytes recorded before\n",
				st.At.Local().Format("15:04:05.000"), run, st.Attempt, st.State, st.Owner, len(st.Recorded))
		}
	}
}

// list prints a map in order.
func list[V any](m map[string]V) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s %v", name, m[name]))
	}
	return strings.Join(out, ", ")
}
