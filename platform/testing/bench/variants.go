package main

import (
	"context"
	"fmt"
)

// telemetry measures what logs, metrics and the traces of every tenth request
// cost: against a build without any of them.
func (b *bench) telemetry(ctx context.Context) error {
	const with, without = "with telemetry", "without"
	rs, p, err := b.compareVariants(ctx, kind{with, func(name string) (*server, error) { return b.startParley(name) }},
		kind{without, func(name string) (*server, error) { return b.startBinary(b.withoutTelemetry, name) }})
	if err != nil {
		return err
	}
	cost := rs.within(with, without, variantCallers, func(x, y result) float64 { return cpuOf(x) - cpuOf(y) })
	rate := rs.within(with, without, variantCallers, quotient(rateOf))
	b.table.add(row{figure: "telemetry's CPU a turn at c=16", parley: fmt.Sprintf("%.0f µs", rs.of(with, variantCallers, cpuOf).median),
		baseline: fmt.Sprintf("%.0f µs", rs.of(without, variantCallers, cpuOf).median), value: cost.median, verb: "%.0f µs more", goal: upperBound(20, " µs")})
	b.table.section("## Telemetry\n\nLogs, metrics and traces of every tenth request, against a build without them (`-tags muted`), both started anew %d times.\n\n%s\n"+
		"CPU a turn, with − without: %s µs\n\nturns/s, with ÷ without: %s", p.restarts, rs.markdown(p), cost.format("%.0f"), rate)
	return nil
}

// rowSecurity measures DB_RLS=true.
func (b *bench) rowSecurity(ctx context.Context) error {
	const on, off = "DB_RLS=true", "DB_RLS=false"
	rs, p, err := b.compareVariants(ctx, kind{on, func(name string) (*server, error) { return b.startParley(name, "DB_RLS=true") }},
		kind{off, func(name string) (*server, error) { return b.startParley(name) }})
	if err != nil {
		return err
	}
	rate := rs.within(on, off, variantCallers, quotient(rateOf))
	both := rs.within(on, off, variantCallers, quotient(func(r result) float64 { return us(r.cpu + r.postgres) }))
	b.table.add(row{figure: "turns/s with row-level security ÷ without, at c=16", parley: fmt.Sprintf("%.0f", rs.of(on, variantCallers, rateOf).median),
		baseline: fmt.Sprintf("%.0f", rs.of(off, variantCallers, rateOf).median), value: rate.median, verb: "%.2f", goal: lowerBound(0.9)})
	b.table.section("## Row-level security\n\nBoth started anew %d times.\n\n%s\nturns/s, on ÷ off: %s\n\nCPU a turn with Postgres, on ÷ off: %s", p.restarts, rs.markdown(p), rate, both)
	return nil
}

// variantCallers is how many callers two variants of Parley are compared with.
const variantCallers = 16

func (b *bench) compareVariants(ctx context.Context, kinds ...kind) (results, plan, error) {
	p := plan{kinds: kinds, callers: []int{variantCallers}, restarts: b.rounds(), rounds: 2, length: b.seconds(1.5)}
	rs, err := b.compare(ctx, p)
	return rs, p, err
}
