// Command bench measures what Parley costs, on the machine that it runs on:
//
//	go run ./platform/testing/bench
//
// It builds the real binary, starts a private Postgres, and sends turns over
// HTTP to several servers that differ in one thing each: Parley as it ships, a
// baseline that does only what no chat backend can leave out, and Parley that logs,
// counts and traces nothing, with tracing, with row-level security, and as a
// superuser. The servers take turns, round after round, so that whatever else
// the machine does strikes all alike; what is printed are medians over the
// rounds and ratios within a round, each with the interval that holds the true
// median with a probability of 95 % (the extremes, if there are under six
// rounds).
//
// A process and its database keep the luck that they were born with: how
// PostgreSQL laid out its tables, and the plans that each session chose. Of two
// alike, one may be a tenth faster for as long as it runs, which no number of
// rounds evens out. -restarts starts all of them anew, several times; the ratios
// are then those of whole starts, and so are their intervals.
// Afterwards it measures streams: CPU for each piece that is relayed, and
// memory for each reader who waits.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var (
	seconds   = flag.Float64("seconds", 2, "length of one measurement")
	rounds    = flag.Int("rounds", 3, "measurements of each kind after each start")
	restarts  = flag.Int("restarts", 1, "how often the servers are started anew, on new databases")
	followers = flag.Int("followers", 2000, "readers who wait")
	streams   = flag.Int("streams", 100, "replies that are streamed at once")
	verbose   = flag.Bool("v", false, "print every measurement")
	only      = flag.String("only", "", "measure only the turns of these servers, separated by commas")
	profiles  = flag.String("profile", "", "write CPU profiles of the servers under load into this directory")
	at        = flag.String("callers", "1,16,64", "how many callers there are at once, in one measurement after the other")
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "baseline" {
		if err := serveBaseline(); err != nil {
			fmt.Fprintln(os.Stderr, "baseline:", err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	for text := range strings.SplitSeq(*at, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "bench: -callers: %q is no count\n", text)
			os.Exit(2)
		}
		loads = append(loads, n)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	if err := turns(ctx, w, out); err != nil {
		return err
	}
	if *only != "" {
		return nil
	}
	return relays(ctx, w, out)
}

// loads are how many callers there are at once.
var loads []int

// turns compares the servers.
func turns(ctx context.Context, w *world, out io.Writer) error {
	spans, closeSink, err := sink()
	if err != nil {
		return err
	}
	defer closeSink()
	otlp := []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + spans, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.1",
	}
	kinds := []kind{}
	for _, k := range []kind{
		{"baseline", w.startBaseline},
		{"parley", func(n string) (*server, error) { return w.startParley(n, w.bin, w.role) }},
		{"no telemetry", func(n string) (*server, error) { return w.startParley(n, w.withoutTelemetry, w.role) }},
		{"tracing 10 %", func(n string) (*server, error) { return w.startParley(n, w.bin, w.role, otlp...) }},
		{"DB_RLS=true", func(n string) (*server, error) { return w.startParley(n, w.bin, w.role, "DB_RLS=true") }},
		{"superuser", func(n string) (*server, error) { return w.startParley(n, w.bin, w.super) }},
	} {
		if *only == "" || slices.Contains(strings.Split(*only, ","), k.name) {
			kinds = append(kinds, k)
		}
	}
	all := make([]results, *restarts)
	for restart := range all {
		all[restart] = results{}
		if err := all[restart].measure(ctx, kinds, out); err != nil {
			return err
		}
	}
	report(out, kinds, all)
	return nil
}

// kind is a server that is compared with others.
type kind struct {
	name  string
	start func(name string) (*server, error)
}

// results are those of one start, by server and load, one a round.
type results map[string][]result

func (rs results) measure(ctx context.Context, kinds []kind, out io.Writer) error {
	servers := []*server{}
	for _, k := range kinds {
		started, err := k.start(k.name)
		if err != nil {
			return fmt.Errorf("start %s: %w", k.name, err)
		}
		defer started.stop()
		servers = append(servers, started)
	}
	for round := range *rounds {
		for _, c := range loads {
			order := slices.Clone(servers)
			if round%2 == 1 { // the first runs under other conditions than the last
				slices.Reverse(order)
			}
			for _, s := range order {
				r, err := s.load(ctx, c, time.Duration(*seconds*float64(time.Second)))
				if err != nil {
					return fmt.Errorf("%s, %d callers: %w", s.name, c, err)
				}
				if *verbose {
					fmt.Fprintf(out, "round %d: %-13s c=%-3d %7.0f turns/s, p50 %v, p99 %v, %v CPU, %v of Postgres\n",
						round+1, s.name, c, r.rate, r.p50, r.p99, r.cpu, r.database)
				}
				key := fmt.Sprint(s.name, c)
				rs[key] = append(rs[key], r)
			}
		}
	}
	return nil
}

func report(out io.Writer, kinds []kind, restarts []results) {
	fmt.Fprintf(out, "Turns over HTTP; medians of %d x %d interleaved rounds of %gs\n\n", len(restarts), *rounds, *seconds)
	fmt.Fprintln(out, "| server | callers | turns/s | p50 | p99 | server CPU/turn | Postgres CPU/turn | refused |\n|---|---|---|---|---|---|---|---|")
	for _, k := range kinds {
		for _, c := range loads {
			var list []result
			for _, restart := range restarts {
				list = append(list, restart[fmt.Sprint(k.name, c)]...)
			}
			rate := spread(list, func(r result) float64 { return r.rate })
			fmt.Fprintf(out, "| %s | %d | %.0f [%.0f..%.0f] | %.1f ms | %.1f ms | %.0f µs | %.0f µs | %.0f |\n", k.name, c, rate.median, rate.low, rate.high,
				spread(list, func(r result) float64 { return ms(r.p50) }).median, spread(list, func(r result) float64 { return ms(r.p99) }).median,
				spread(list, func(r result) float64 { return 1000 * ms(r.cpu) }).median,
				spread(list, func(r result) float64 { return 1000 * ms(r.database) }).median,
				spread(list, func(r result) float64 { return float64(r.refused) }).median)
		}
	}
	fmt.Fprint(out, "\n| ratio within a round | c="+strings.Trim(strings.Join(strings.Fields(fmt.Sprint(loads)), " | c="), "[]")+" |\n|---|"+strings.Repeat("---|", len(loads))+"\n")
	for _, pair := range [][2]string{
		{"parley", "baseline"}, {"parley", "no telemetry"}, {"tracing 10 %", "no telemetry"}, {"DB_RLS=true", "parley"}, {"parley", "superuser"},
	} {
		if len(restarts[0][fmt.Sprint(pair[0], loads[0])]) == 0 || len(restarts[0][fmt.Sprint(pair[1], loads[0])]) == 0 {
			continue
		}
		for _, what := range []struct {
			name string
			of   func(result) float64
		}{{"turns/s", func(r result) float64 { return r.rate }}, {"CPU/turn", func(r result) float64 { return ms(r.cpu) }}, {"CPU/turn with Postgres", func(r result) float64 { return ms(r.cpu + r.database) }}} {
			fmt.Fprintf(out, "| %s, %s ÷ %s |", what.name, pair[0], pair[1])
			for _, c := range loads {
				r := ratio(restarts, fmt.Sprint(pair[0], c), fmt.Sprint(pair[1], c), what.of)
				fmt.Fprintf(out, " %.2f [%.2f..%.2f] |", r.median, r.low, r.high)
			}
			fmt.Fprintln(out)
		}
	}
	fmt.Fprintln(out)
}

// ratio compares two servers within each round: the rounds of the only start, or
// the medians of several.
func ratio(restarts []results, a, b string, of func(result) float64) span {
	var ratios []float64
	for _, restart := range restarts {
		var rounds []float64
		for i := range restart[a] {
			rounds = append(rounds, of(restart[a][i])/of(restart[b][i]))
		}
		if len(restarts) == 1 {
			return spreadOf(rounds)
		}
		ratios = append(ratios, spreadOf(rounds).median)
	}
	return spreadOf(ratios)
}

// span is a median with its interval.
type span struct{ low, median, high float64 }

func spread(list []result, of func(result) float64) span {
	values := make([]float64, len(list))
	for i, r := range list {
		values[i] = of(r)
	}
	return spreadOf(values)
}

// spreadOf takes the interval from the ordered values themselves, and supposes
// nothing of how they are distributed: that at most k of n values lie below the
// true median is as likely as at most k heads of n coins.
func spreadOf(values []float64) span {
	slices.Sort(values)
	n := len(values)
	skip, chance, sum := 0, math.Pow(0.5, float64(n)), 0.0
	for k := 0; ; k++ { // chance is that of k heads
		if sum += chance; sum > 0.025 {
			break
		}
		skip = k
		chance *= float64(n-k) / float64(k+1)
	}
	return span{values[skip], (values[(n-1)/2] + values[n/2]) / 2, values[n-1-skip]}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
