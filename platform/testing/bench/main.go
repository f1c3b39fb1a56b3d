// Command bench measures what Parley costs, on the machine that it runs on:
//
//	go run ./platform/testing/bench
//
// It builds the real binary, starts a private Postgres, and compares Parley, with
// all features on, with baselines: programs that do only the unavoidable part of the
// same work. Within a round they take turns, so that whatever else the machine
// does strikes all alike; ratios are medians of rounds, each with the interval
// that holds the true median with a probability of 95 % (the extremes, if there
// are under six rounds).
//
// How PostgreSQL laid out its tables, and the plans that each session chose, stay
// for as long as a process and its database run, which no number of rounds evens
// out. What is compared to a few percent is therefore started anew several times;
// its ratios are those of whole starts, and so are their intervals.
//
// It prints a table of figures and their goals, and writes it to bench/RESULTS.md
// and docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"parley/platform/testing/bench/baseline"
	"parley/platform/testing/testenv"
)

var (
	quick    = flag.Bool("quick", false, "measure the most important figures in two minutes; bench/RESULTS.md is not written")
	long     = flag.Bool("long", false, "measure what takes half an hour, and write bench/RESULTS-LONG.md")
	only     = flag.String("only", "", "measure only these sections, separated by commas; no file is written")
	scale    = flag.Float64("seconds", 1, "factor of the length of every measurement")
	repeats  = flag.Int("rounds", 0, "rounds of what is compared; 0: five, with -quick three")
	verbose  = flag.Bool("v", false, "print every measurement to standard error")
	settings = flag.String("env", "", "further settings of every Parley, as A=1,B=2")
	profiles = flag.String("profile", "", "write CPU profiles of the servers under load into this directory")
)

// bench is one run.
type bench struct {
	*world
	table       table
	pgbenchPath string
}

// section measures some rows of the table.
type section struct {
	name        string
	quick, long bool // whether it is part of -quick; whether it is only part of -long
	measure     func(b *bench, ctx context.Context) error
}

// sections are in the order of the table.
var sections = []section{
	{name: "turns", quick: true, measure: (*bench).turns},
	{name: "statements", quick: true, measure: (*bench).statements},
	{name: "trips", quick: true, measure: (*bench).trips},
	{name: "reads", quick: true, measure: (*bench).reads},
	{name: "first-token", measure: (*bench).firstToken},
	{name: "words", quick: true, measure: (*bench).words},
	{name: "followers", quick: true, measure: (*bench).idle},
	{name: "sqlite", measure: (*bench).sqlite},
	{name: "overload", measure: (*bench).overload},
	{name: "growth", long: true, measure: (*bench).growth},
	{name: "lists", measure: (*bench).lists},
	{name: "held", measure: (*bench).held},
	{name: "instances", measure: (*bench).instances},
	{name: "telemetry", measure: (*bench).telemetry},
	{name: "row-security", measure: (*bench).rowSecurity},
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "baseline" {
		fmt.Fprintln(os.Stderr, "baseline:", baseline.Serve(os.Args[2]))
		os.Exit(1)
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	begun := time.Now()
	chosen, err := choose()
	if err != nil {
		return err
	}
	pgbench, err := testenv.Program("pgbench")
	if err != nil {
		return err
	}
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	b := &bench{world: w, pgbenchPath: pgbench}
	var failed error
	for _, s := range chosen {
		at := time.Now()
		if err := s.measure(b, ctx); err != nil { // what others measure is worth having
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
			b.table.section("## Not measured: %s\n\n%v", s.name, err)
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", s.name, err)
		}
		if ctx.Err() != nil {
			return failed
		}
		b.note("%s took %.0f s", s.name, time.Since(at).Seconds())
	}
	text, err := b.results(ctx, begun)
	if err != nil {
		return errors.Join(failed, err)
	}
	fmt.Print(text)
	switch {
	case *quick, *only != "":
	case *long:
		err = writeResults("bench/RESULTS-LONG.md", text)
	default:
		err = errors.Join(writeDocument(b.table.markdown()), writeResults("bench/RESULTS.md", text))
	}
	return errors.Join(failed, err)
}

// choose returns the sections that the flags ask for.
func choose() (chosen []section, err error) {
	names := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	for _, name := range names {
		if !slices.ContainsFunc(sections, func(s section) bool { return s.name == name }) {
			return nil, fmt.Errorf("-only: there is no section %q", name)
		}
	}
	for _, s := range sections {
		switch {
		case len(names) > 0:
			if !slices.Contains(names, s.name) {
				continue
			}
		case s.long != *long, *quick && !s.quick:
			continue
		}
		chosen = append(chosen, s)
	}
	return chosen, nil
}

// rounds is how often what is compared is measured.
func (b *bench) rounds() int {
	switch {
	case *repeats > 0:
		return *repeats
	case *quick:
		return 3
	}
	return 5
}

// seconds is a length of a measurement; half of it with -quick.
func (b *bench) seconds(n float64) time.Duration {
	if *quick {
		n /= 2
	}
	return time.Duration(n * *scale * float64(time.Second))
}

// note prints a measurement as it is made.
func (b *bench) note(format string, args ...any) {
	if *verbose {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}
