package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/platform/testing/bench/baseline"
)

// turnsPerConversation is how many turns a conversation gets before the next one
// is made: 40 messages.
const turnsPerConversation = 20

// result is one measurement of turns.
type result struct {
	turns    int
	refused  int     // turns that were answered 503: the machine is too busy
	rate     float64 // turns a second
	p50, p99 time.Duration
	cpu      time.Duration // of the server, a turn
	postgres time.Duration // CPU of Postgres, a turn
	wal      float64       // bytes a turn
	peak     memory        // the most of the server
}

// load has c callers, a user each, who send one message after another.
func (s *server) load(ctx context.Context, c int, length time.Duration) (result, error) {
	if _, _, err := s.drive(ctx, c, length/4); err != nil { // warm connections and caches
		return result{}, err
	}
	if err := s.settle(ctx, c); err != nil {
		return result{}, err
	}
	before, err := s.counters(ctx)
	if err != nil {
		return result{}, err
	}
	profiled, peak := s.profile(ctx, c, length), s.watchMemory()
	begun := time.Now()
	took, refused, err := s.drive(ctx, c, length)
	elapsed := time.Since(begun)
	most := peak()
	if err != nil {
		return result{}, err
	}
	after, err := s.counters(ctx)
	if err != nil {
		return result{}, err
	}
	if err := <-profiled; err != nil {
		return result{}, err
	}
	slices.Sort(took)
	n := len(took)
	return result{
		turns: n, refused: refused, rate: float64(n) / elapsed.Seconds(), p50: percentile(took, 50), p99: percentile(took, 99),
		cpu: (after.cpu - before.cpu) / time.Duration(n), postgres: (after.postgres - before.postgres) / time.Duration(n),
		wal: float64(after.wal-before.wal) / float64(n), peak: most,
	}, nil
}

// counters are what the server and Postgres have used since they started.
type counters struct {
	cpu, postgres time.Duration
	wal           int64
}

func (s *server) counters(ctx context.Context) (c counters, err error) {
	if c.cpu, err = s.cpu(); err != nil {
		return c, err
	}
	if c.postgres, err = s.world.postgresCPU(); err != nil {
		return c, err
	}
	err = s.world.admin.QueryRow(ctx, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").Scan(&c.wal)
	return c, err
}

// settle gives the database statistics of tables that are not empty any more, as
// its autovacuum does within a minute, so that no plan depends on whether it has.
// Then every connection plans anew.
func (s *server) settle(ctx context.Context, c int) error {
	if s.settled || s.database == "" {
		return nil
	}
	s.settled = true
	if _, _, err := s.drive(ctx, c, time.Second); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, s.database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "ANALYZE"); err != nil {
		return err
	}
	_, _, err = s.drive(ctx, c, time.Second/2)
	return err
}

// watchMemory samples the server's memory until the returned function is called,
// which returns the most.
func (s *server) watchMemory() (stop func() memory) {
	quit, peak := make(chan struct{}), make(chan memory)
	go func() {
		most := memory{}
		for {
			if now, err := s.memory(); err == nil && now.resident > most.resident {
				most = now
			}
			select {
			case <-quit:
				peak <- most
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() memory { close(quit); return <-peak }
}

// profile fetches a CPU profile of the server while it is under load, if -profile
// asks for one. The last round's stays.
func (s *server) profile(ctx context.Context, c int, length time.Duration) <-chan error {
	done := make(chan error, 1)
	if *profiles == "" || s.admin == "" || length < time.Second {
		done <- nil
		return done
	}
	go func() {
		done <- func() error {
			url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.admin, int(length.Seconds()))
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			name := strings.NewReplacer(" ", "-", "%", "-", "=", "-").Replace(s.name)
			file, err := os.Create(filepath.Join(*profiles, fmt.Sprintf("%s-%d.pprof", name, c)))
			if err != nil {
				return err
			}
			if _, err := io.Copy(file, resp.Body); err != nil {
				file.Close()
				return err
			}
			return file.Close()
		}()
	}()
	return done
}

// keys numbers idempotency keys.
var keys atomic.Int64

// drive has c callers send turns for a time. It returns how long each turn took.
func (s *server) drive(ctx context.Context, c int, length time.Duration) (took []time.Duration, refused int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu    sync.Mutex
		all   sync.WaitGroup
		begun = time.Now()
	)
	for i := range c {
		all.Go(func() {
			caller := s.caller(i)
			defer caller.close()
			durations, sorry, err := caller.turns(s.baseline, func() bool { return time.Since(begun) < length && ctx.Err() == nil })
			if err != nil {
				cancel(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			refused += sorry
			took = append(took, durations...)
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return nil, 0, context.Cause(ctx)
	}
	if len(took) == 0 {
		return nil, 0, errors.New("no turn was finished in time")
	}
	return took, refused, nil
}

// turns sends one turn after another as long as more says so: in conversations of
// its own, one after another, or in random ones of baseline.Group2.
func (c *caller) turns(fixed bool, more func() bool) (took []time.Duration, refused int, err error) {
	conversation := ""
	for n := 0; more(); n++ {
		if fixed {
			conversation = fmt.Sprint("c", 1+rand.IntN(baseline.Conversations))
		} else if n%turnsPerConversation == 0 {
			if conversation, err = c.createConversation(); errors.Is(err, errBusy) {
				refused, n = refused+1, -1
				continue
			} else if err != nil {
				return nil, 0, err
			}
		}
		at := time.Now()
		switch err := c.turn(conversation, fmt.Sprint("bench-", keys.Add(1))); {
		case errors.Is(err, errBusy):
			refused++
		case err != nil:
			return nil, 0, err
		default:
			took = append(took, time.Since(at))
		}
	}
	return took, refused, nil
}

// kind is a server that is compared with others.
type kind struct {
	name  string
	start func(name string) (*server, error)
}

// plan is how kinds are compared.
type plan struct {
	kinds    []kind
	callers  []int
	restarts int // how often all servers are started anew, on new databases
	rounds   int // measurements of each after each start
	length   time.Duration
}

// results are those of each start, by kind and callers, one a round.
type results []map[string][]result

func resultKey(kind string, callers int) string { return fmt.Sprint(kind, " c=", callers) }

// compare measures turns of several kinds. Within a round they take turns,
// forwards and backwards, so that other load affects all alike.
func (b *bench) compare(ctx context.Context, p plan) (results, error) {
	all := make(results, p.restarts)
	for i := range all {
		all[i] = map[string][]result{}
		if err := b.compareOnce(ctx, p, all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (b *bench) compareOnce(ctx context.Context, p plan, into map[string][]result) error {
	var servers []*server
	for _, k := range p.kinds {
		started, err := k.start(k.name)
		if err != nil {
			return fmt.Errorf("start %s: %w", k.name, err)
		}
		defer started.stop()
		started.name = k.name
		servers = append(servers, started)
	}
	for round := range p.rounds {
		for _, c := range p.callers {
			order := slices.Clone(servers)
			if round%2 == 1 { // the first runs under other conditions than the last
				slices.Reverse(order)
			}
			for _, s := range order {
				r, err := s.load(ctx, c, p.length)
				if err != nil {
					return fmt.Errorf("%s, %d callers: %w", s.name, c, err)
				}
				b.note("round %d: %-12s c=%-3d %6.0f turns/s, p50 %v, p99 %v, CPU %v, of Postgres %v, WAL %.0f, refused %d",
					round+1, s.name, c, r.rate, r.p50, r.p99, r.cpu, r.postgres, r.wal, r.refused)
				into[resultKey(s.name, c)] = append(into[resultKey(s.name, c)], r)
			}
		}
	}
	return nil
}

// of is the spread of a figure of one kind over all rounds.
func (rs results) of(kind string, callers int, figure func(result) float64) span {
	var values []float64
	for _, start := range rs {
		for _, r := range start[resultKey(kind, callers)] {
			values = append(values, figure(r))
		}
	}
	return spreadOf(values)
}

// within compares two kinds within each round: the rounds of the only start, or
// the medians of several.
func (rs results) within(a, b string, callers int, compare func(a, b result) float64) span {
	var starts []float64
	for _, start := range rs {
		var rounds []float64
		for i, r := range start[resultKey(a, callers)] {
			rounds = append(rounds, compare(r, start[resultKey(b, callers)][i]))
		}
		if len(rs) == 1 {
			return spreadOf(rounds)
		}
		starts = append(starts, median(rounds))
	}
	return spreadOf(starts)
}

// Figures of a result, and comparisons of two.
func rateOf(r result) float64     { return r.rate }
func p99Of(r result) float64      { return ms(r.p99) }
func cpuOf(r result) float64      { return us(r.cpu) }
func postgresOf(r result) float64 { return us(r.postgres) }
func walOf(r result) float64      { return r.wal }

func quotient(figure func(result) float64) func(a, b result) float64 {
	return func(a, b result) float64 { return figure(a) / figure(b) }
}

// markdown is all results of a comparison as a table.
func (rs results) markdown(p plan) string {
	var b strings.Builder
	b.WriteString("| server | callers | turns/s | p50 | p99 | server CPU/turn | Postgres CPU/turn | WAL/turn | refused |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, k := range p.kinds {
		for _, c := range p.callers {
			fmt.Fprintf(&b, "| %s | %d | %s | %.1f ms | %.1f ms | %.0f µs | %.0f µs | %.1f KB | %.0f |\n", k.name, c, rs.of(k.name, c, rateOf).format("%.0f"),
				rs.of(k.name, c, func(r result) float64 { return ms(r.p50) }).median, rs.of(k.name, c, p99Of).median,
				rs.of(k.name, c, cpuOf).median, rs.of(k.name, c, postgresOf).median, rs.of(k.name, c, walOf).median/1000,
				rs.of(k.name, c, func(r result) float64 { return float64(r.refused) }).median)
		}
	}
	return b.String()
}

// turns compares Parley with both baselines.
func (b *bench) turns(ctx context.Context) error {
	const plain, group2, parley = "plain baseline", "grouped baseline", "Parley"
	idle := memory{}
	p := plan{restarts: 1, rounds: b.rounds(), length: b.seconds(2), callers: []int{1, 16, 64}, kinds: []kind{
		{plain, func(string) (*server, error) { return b.startBaseline("plain") }},
		{group2, func(string) (*server, error) { return b.startBaseline("group2") }},
		{parley, func(name string) (*server, error) {
			s, err := b.startParley(name)
			if err != nil {
				return nil, err
			}
			time.Sleep(b.seconds(8)) // what the start has used goes back
			idle, err = s.memory()
			return s, err
		}},
	}}
	if *quick {
		p.callers = []int{1, 64}
	}
	rs, err := b.compare(ctx, p)
	if err != nil {
		return err
	}
	const high = 64
	against := func(figure, baseline string, c int, of func(result) float64, verb string, g goal) row {
		r := rs.within(parley, baseline, c, quotient(of))
		return row{figure: figure, parley: fmt.Sprintf(verb, rs.of(parley, c, of).median), baseline: fmt.Sprintf(verb, rs.of(baseline, c, of).median), value: r.median, verb: "%.2f", goal: g}
	}
	alone := func(figure string, of func(result) float64, verb string, g goal) row {
		value := rs.of(parley, high, of).median
		return row{figure: figure, parley: fmt.Sprintf(verb, value), baseline: fmt.Sprintf(verb, rs.of(plain, high, of).median), value: value, goal: g}
	}
	stretch := lowerBound(0.5)
	stretch.stretch = 0.8
	peak := memory{}
	for _, r := range rs[0][resultKey(parley, high)] {
		if r.peak.resident > peak.resident {
			peak = r.peak
		}
	}
	b.table.add(
		against("turns/s at c=64 ÷ plain baseline", plain, high, rateOf, "%.0f", lowerBound(1.2)),
		against("turns/s at c=64 ÷ grouped baseline (`turnsrv group2`)", group2, high, rateOf, "%.0f", stretch),
		against("turns/s at c=1 ÷ plain baseline", plain, 1, rateOf, "%.0f", lowerBound(0.7)),
		alone("Parley's CPU a turn at c=64", cpuOf, "%.0f µs", upperBound(160, " µs")),
		alone("Postgres' CPU a turn at c=64", postgresOf, "%.0f µs", upperBound(240, " µs")),
		alone("WAL a turn at c=64", func(r result) float64 { return r.wal / 1000 }, "%.1f KB", upperBound(3.5, " KB")),
		against("turn p99 at c=64 ÷ plain baseline's", plain, high, p99Of, "%.1f ms", upperBound(2, "")),
		row{figure: "memory (RSS), idle", parley: idle.String(), value: float64(idle.resident) / (1 << 20), goal: upperBound(40, " MiB")},
		row{figure: "memory (RSS), most at c=64", parley: peak.String(), value: float64(peak.resident) / (1 << 20), goal: upperBound(90, " MiB")},
	)
	text := "| ratio within a round |"
	for _, c := range p.callers {
		text += fmt.Sprintf(" c=%d |", c)
	}
	text += "\n|---|" + strings.Repeat("---|", len(p.callers)) + "\n"
	for _, baseline := range []string{plain, group2} {
		for _, what := range []struct {
			name string
			of   func(result) float64
		}{{"turns/s", rateOf}, {"p99", p99Of}, {"CPU/turn", cpuOf}, {"CPU/turn with Postgres", func(r result) float64 { return us(r.cpu + r.postgres) }}, {"WAL/turn", walOf}} {
			text += fmt.Sprintf("| %s, Parley ÷ %s |", what.name, baseline)
			for _, c := range p.callers {
				text += fmt.Sprintf(" %s |", rs.within(parley, baseline, c, quotient(what.of)))
			}
			text += "\n"
		}
	}
	b.table.section("## Turns\n\n%d rounds of %v; messages of %d bytes in conversations of up to %d messages.\n\n%s\n%s", p.rounds, p.length, len(content), 2*turnsPerConversation, rs.markdown(p), text)
	return nil
}
