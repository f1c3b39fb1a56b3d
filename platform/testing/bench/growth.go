package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/platform/testing/testenv"
)

// growth compares ten million messages with ten thousand: turns, and reads of the
// newest page.
func (b *bench) growth(ctx context.Context) error {
	const few, many = 10_000, 10_000_000
	small, err := b.startLibrary(ctx, few)
	if err != nil {
		return err
	}
	defer small.stop()
	large, err := b.startLibrary(ctx, many)
	if err != nil {
		return err
	}
	defer large.stop()
	type pair struct{ large, small float64 }
	var turns, reads []pair
	costs := map[*library][]result{}
	for round := range 1 + b.rounds() { // the first warms
		rate := func(l *library) (turns, reads float64, err error) {
			t, err := l.load(ctx, users, b.seconds(2))
			if err != nil {
				return 0, 0, err
			}
			costs[l] = append(costs[l], t)
			r, err := l.read(ctx, b.seconds(2))
			return t.rate, r.rate, err
		}
		t1, r1, err := rate(large)
		if err != nil {
			return err
		}
		t2, r2, err := rate(small)
		if err != nil {
			return err
		}
		b.note("round %d: at 10M %.0f turns/s, %.0f reads/s; at 10k %.0f, %.0f", round, t1, r1, t2, r2)
		if round > 0 {
			turns, reads = append(turns, pair{t1, t2}), append(reads, pair{r1, r2})
		}
	}
	for _, r := range []struct {
		name string
		list []pair
		goal goal
	}{{"turns/s at c=64, at 10M messages ÷ at 10k", turns, lowerBound(0.9)}, {"GET last 50 at c=16, at 10M messages ÷ at 10k", reads, lowerBound(0.5)}} {
		b.table.add(row{figure: r.name, parley: fmt.Sprintf("%.0f/s", median(each(r.list, func(p pair) float64 { return p.large }))),
			baseline: fmt.Sprintf("%.0f/s", median(each(r.list, func(p pair) float64 { return p.small }))),
			value:    median(each(r.list, func(p pair) float64 { return p.large / p.small })), verb: "%.2f", goal: r.goal})
	}
	mine, theirs, err := b.compareReads(ctx, large)
	if err != nil {
		return err
	}
	ratio := make([]float64, len(mine))
	for i := range mine {
		ratio[i] = mine[i].rate / theirs[i].rate
	}
	text := "| messages | server CPU/turn | Postgres CPU/turn | WAL/turn |\n|---|---|---|---|\n"
	for _, l := range []*library{small, large} {
		of := func(value func(result) float64) float64 { return median(each(costs[l][1:], value)) }
		text += fmt.Sprintf("| %d | %.0f µs | %.0f µs | %.1f KB |\n", l.messages, of(func(r result) float64 { return us(r.cpu) }),
			of(func(r result) float64 { return us(r.postgres) }), of(func(r result) float64 { return r.wal / 1000 }))
	}
	b.table.section("## Ten million messages\n\n"+text+"\nGET last 50 at c=16 ÷ pgbench for the same rows, at 10M messages: %s (%.0f/s, %.0f/s).", spreadOf(ratio), rateOfReads(mine), rateOfReads(theirs))
	return nil
}

// lists measures a conversation of 10,000 messages, and a user with 100,000
// conversations.
func (b *bench) lists(ctx context.Context) error {
	for _, l := range []struct {
		name, path string
		shape      shape
	}{
		{"newest page of a conversation of 10,000 messages, p99", "/api/chat/messages?limit=50&conversationId=0193f8a2-7c1e-7d3a-8b5f-000000000000", shape{1, 10_000, 1}},
		{"list of one user's 100,000 conversations, p99", "/api/chat/conversations?limit=50", shape{100_000, 2, 1}},
	} {
		if err := func() error {
			s, err := b.startParley("lists")
			if err != nil {
				return err
			}
			defer s.stop()
			if err := seed(ctx, s.database, l.shape); err != nil {
				return err
			}
			var took []time.Duration
			for _, length := range []time.Duration{b.seconds(1), b.seconds(3)} { // the first warms
				took, _, err = concurrently(ctx, 4, length, func(int) (func() error, func()) {
					c := s.caller(0)
					return func() error {
						a, err := c.get(l.path)
						if err == nil && (a.status != 200 || len(a.body) < 50*100) {
							err = fmt.Errorf("GET %s: status %d: %.300s", l.path, a.status, a.body)
						}
						return err
					}, c.close
				})
				if err != nil {
					return err
				}
			}
			p99 := ms(percentile(took, 99))
			b.table.add(row{figure: l.name + " at c=4", parley: fmt.Sprintf("%.1f ms (p50 %.1f)", p99, ms(percentile(took, 50))), value: p99, goal: upperBound(20, " ms")})
			return nil
		}(); err != nil {
			return err
		}
	}
	return nil
}

// held measures turns while a transaction keeps its snapshot, as a backup or a
// report does: nothing that it might see can be vacuumed.
func (b *bench) held(ctx context.Context) error {
	s, err := b.startParley("held")
	if err != nil {
		return err
	}
	defer s.stop()
	rate := func() (float64, error) {
		var rates []float64
		for range 3 {
			r, err := s.load(ctx, users, b.seconds(2))
			if err != nil {
				return 0, err
			}
			rates = append(rates, r.rate)
		}
		return median(rates), nil
	}
	if _, err := rate(); err != nil { // warm
		return err
	}
	before, err := rate()
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, s.database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	var n int64
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM chat_messages").Scan(&n); err != nil {
		return err
	}
	length := b.seconds(40)
	took, _, err := s.drive(ctx, users, length)
	if err != nil {
		return err
	}
	after, err := rate()
	if err != nil {
		return err
	}
	if err := tx.Rollback(ctx); err != nil {
		return err
	}
	released, err := rate()
	if err != nil {
		return err
	}
	b.table.add(row{figure: fmt.Sprintf("turns/s at c=64 after %d turns under an open REPEATABLE READ transaction ÷ before", len(took)),
		parley: fmt.Sprintf("%.0f", after), baseline: fmt.Sprintf("%.0f", before), value: after / before, verb: "%.2f", goal: lowerBound(0.9)})
	b.table.section("## An open REPEATABLE READ transaction\n\n%d turns in %v, as many as 30 minutes at %.0f turns/s make. turns/s before %.0f, at its end %.0f, after it %.0f.",
		len(took), length, float64(len(took))/1800, before, after, released)
	return nil
}

// instances compares one instance with four, on a PostgreSQL and a Redis each.
func (b *bench) instances(ctx context.Context) error {
	start := func(n int) func(string) (*server, error) {
		return func(name string) (*server, error) {
			db, err := b.database(b.role)
			if err != nil {
				return nil, err
			}
			redis, err := url.Parse(b.redis.URL())
			if err != nil {
				return nil, err
			}
			redis.Path = fmt.Sprint("/", n)
			env := []string{"DATABASE_URL=" + db, "REDIS_URL=" + redis.String(), fmt.Sprint("INSTANCES=", n)}
			first, err := b.startParley(name, env...)
			if err != nil {
				return nil, err
			}
			for range n - 1 {
				next, err := b.startParley(name, env...)
				if err != nil {
					return nil, err
				}
				first.peers = append(first.peers, next)
			}
			return first, nil
		}
	}
	var err error
	if b.redis, err = testenv.LaunchRedis(); err != nil {
		return err
	}
	defer b.redis.Stop()
	const one, four = "one instance", "four instances"
	p := plan{restarts: 1, rounds: b.rounds(), length: b.seconds(2), callers: []int{users}, kinds: []kind{{one, start(1)}, {four, start(4)}}}
	rs, err := b.compare(ctx, p)
	if err != nil {
		return err
	}
	r := rs.within(four, one, users, quotient(rateOf))
	b.table.add(row{figure: "turns/s at c=64, four instances ÷ one, on one PostgreSQL and Redis", parley: fmt.Sprintf("%.0f", rs.of(four, users, rateOf).median),
		baseline: fmt.Sprintf("%.0f", rs.of(one, users, rateOf).median), value: r.median, verb: "%.2f"})
	b.table.section("## Instances\n\nThe CPU of four is that of the first. All share the cores with PostgreSQL.\n\n%s", rs.markdown(p))
	return nil
}
