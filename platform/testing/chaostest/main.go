// Command chaostest checks Parley's guarantees about replies while its processes and servers fail. It starts
// two instances that share a private Postgres and a private Redis, through
// proxies that can fall silent or swallow the acknowledgement of a commit; a
// scripted provider; and twenty users who send, stream, follow, stop, edit,
// regenerate and continue without a pause. Then it injects faults that it draws
// from a seed, waits until everything has come to rest, and compares what the
// users saw with what is stored.
//
//	go run ./platform/testing/chaostest -n 200 -seed 7 -out summary.json
//
// It exits with 1, the seed and the evidence when an invariant is violated.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

type options struct {
	n        int
	seed     uint64
	out      string
	race     bool
	keepOn   bool
	showPlan bool
	only     string
	keepLogs bool
	env      []string
}

func main() {
	var o options
	flag.IntVar(&o.n, "n", 200, "how many faults")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()%1_000_000), "seed of the faults and the load")
	flag.StringVar(&o.out, "out", "", "write the summary to this file as JSON")
	flag.BoolVar(&o.race, "race", false, "build the instances with the race detector")
	flag.BoolVar(&o.keepOn, "keep-on", false, "continue after the first violated invariant")
	flag.StringVar(&o.only, "only", "", "inject faults of this kind only, as the summary names it")
	flag.BoolVar(&o.keepLogs, "logs", false, "keep the instances' logs even if no invariant was violated")
	flag.BoolVar(&o.showPlan, "plan", false, "print the faults and exit")
	flag.Func("env", "set NAME=VALUE for the instances, e.g. DB_GROUP=false; can be repeated", func(v string) error {
		o.env = append(o.env, v)
		return nil
	})
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
	}
	if !ok || err != nil {
		fmt.Fprintf(os.Stderr, "crash: reproduce with -n %d -seed %d\n", o.n, o.seed)
		os.Exit(1)
	}
}

// calm is how long the load goes on after the last fault.
const calm = 8 * time.Second

func run(ctx context.Context, o options) (ok bool, err error) {
	faults := plan(rand.New(rand.NewPCG(o.seed, 0)), o.n)
	if o.only != "" {
		faults = slices.DeleteFunc(faults, func(f fault) bool { return string(f.kind) != o.only })
	}
	if o.showPlan {
		for i, f := range faults {
			fmt.Println(i+1, f)
		}
		return true, nil
	}
	begun := time.Now()
	fmt.Printf("crash: %d faults from seed %d\n", len(faults), o.seed)
	h := newHistory()
	w, err := newWorld(ctx, h, o.race, o.env)
	if err != nil {
		return false, err
	}
	defer w.close()
	time.Sleep(time.Second)
	var base []gauges
	for _, s := range w.slots {
		g, err := s.measure()
		if err != nil {
			return false, err
		}
		base = append(base, g)
	}
	l, limited, limits, err := createUsers(ctx, w, h, o.seed)
	if err != nil {
		return false, err
	}

	begin, enough := context.WithCancel(ctx)
	end, giveUp := context.WithCancel(ctx)
	defer giveUp()
	defer enough()
	var wg sync.WaitGroup
	wg.Go(func() { l.run(begin, end) })
	for i, u := range limited {
		rng := l.rng()
		wg.Go(func() { u.sendOverLimit(begin, end, rng, limits[u.user], time.Duration(250+150*i)*time.Millisecond) })
	}

	c := newChaos(h, w)
	if err := c.all(ctx, faults, o.keepOn); err != nil {
		h.violate("recovery", "%v", err)
	}
	h.meanwhile("")
	sleep(ctx, calm)
	enough()
	late := time.AfterFunc(time.Minute, giveUp)
	wg.Wait()
	late.Stop()
	if open, err := w.awaitRest(ctx, 2*tolerance); err != nil || open > 0 {
		h.violate("I2", "%d runs had not ended %v after the load (%v)", open, 2*tolerance, err)
	}
	for _, u := range append(l.users, limited...) {
		u.http.CloseIdleConnections()
	}
	w.provider.rest()
	rest := atRest(w, h, base)

	chain := w.verifyAudit(ctx, h)

	s, err := stored(ctx, w.postgres.URL())
	if err != nil {
		return false, err
	}
	if h.files.blobs, err = blobsIn(filepath.Join(w.dir, "data", "files")); err != nil {
		return false, err
	}
	s.Calls, s.Left = w.provider.callCounts(), w.provider.disconnects()
	for _, foreign := range c.record(&s) {
		h.violate("process", "%s", foreign)
	}
	if err := searchLogs(w, h); err != nil {
		return false, err
	}
	v := check(h, s, limits)
	sum := summarise(o, c, h, s, v, rest, time.Since(begun))
	sum.AuditChain = chain
	report(os.Stdout, sum, v, s)
	if o.out != "" {
		b, err := json.MarshalIndent(sum, "", "  ")
		if err != nil {
			return false, err
		}
		if err := os.WriteFile(o.out, append(b, '\n'), 0o644); err != nil {
			return false, err
		}
	}
	if len(v.violations) > 0 || o.keepLogs {
		fmt.Printf("logs are in %s\n", w.dir)
		return len(v.violations) == 0, nil
	}
	return true, os.RemoveAll(w.dir)
}

// all injects the faults, and says now and then how it goes.
func (c *chaos) all(ctx context.Context, faults []fault, keepOn bool) error {
	last := time.Now()
	for i, f := range faults {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := c.do(f); err != nil {
			return fmt.Errorf("fault %d (%s): %w", i+1, f, err)
		}
		broken := c.h.broken()
		if time.Since(last) > 15*time.Second {
			acks, reconnects, _, _, _ := c.h.counters()
			fmt.Printf("crash: %d of %d faults, %d acknowledged, %d reconnects, %d broken\n", i+1, len(faults), acks, reconnects, broken)
			last = time.Now()
		}
		if broken > 0 && !keepOn {
			fmt.Printf("crash: an invariant was violated around fault %d (%s); no more faults\n", i+1, f)
			return nil
		}
	}
	return nil
}

// createUsers creates the users, their tokens and their threads, and two users whose
// limit is low enough to be reached.
func createUsers(ctx context.Context, w *world, h *history, seed uint64) (l *load, limited []*user, limits map[string]int, err error) {
	l = &load{h: h, slots: w.slots, seed: seed}
	add := func(name, tier string) (*user, error) {
		token, err := w.token(ctx, name, tier)
		if err != nil {
			return nil, err
		}
		return &user{client: newClient(name, token, h, w.slots), l: l}, nil
	}
	for i := range 20 {
		u, err := add(fmt.Sprintf("u%02d", i), "authenticated")
		if err != nil {
			return nil, nil, nil, err
		}
		l.users = append(l.users, u)
	}
	limits = map[string]int{"u98": 60, "u99": 20}
	for name, tier := range map[string]string{"u98": "api_key", "u99": "anonymous"} {
		u, err := add(name, tier)
		if err != nil {
			return nil, nil, nil, err
		}
		u.client.limited = true
		limited = append(limited, u)
	}
	return l, limited, limits, l.createConversations(ctx)
}
