package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// pageSize is how many messages a read asks for.
const pageSize = 50

// perConversation is how many messages a conversation has that is read: more than
// the page.
const perConversation = 100

// readCallers is how many read at once.
const readCallers = 16

// selectPage is what a page costs at least: the same rows, by key. The columns are
// those that Parley answers with.
const selectPage = `\set c random(0, %d)
SELECT id, conversation_id, parent_id, role, content, parts, metadata, created_at FROM chat_messages
WHERE user_id = 'user-' || (:c::integer %% %d) AND conversation_id = '0193f8a2-7c1e-7d3a-8b5f-' || lpad(to_hex(:c::integer), 12, '0')
ORDER BY created_at DESC, id DESC LIMIT %d;
`

// library is a Parley whose database is seeded.
type library struct {
	*server
	messages, conversations int
	script                  string // of pgbench
}

func (b *bench) startLibrary(ctx context.Context, messages int) (*library, error) {
	s, err := b.startParley(fmt.Sprint("reads-", messages))
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := seed(ctx, s.database, shape{messages / perConversation, perConversation, users}); err != nil {
		s.stop()
		return nil, err
	}
	b.note("seeded %d messages in %.1f s", messages, time.Since(begun).Seconds())
	l := &library{server: s, messages: messages, conversations: messages / perConversation}
	l.script = filepath.Join(b.dir, fmt.Sprint("read-", messages, ".sql"))
	return l, os.WriteFile(l.script, fmt.Appendf(nil, selectPage, l.conversations-1, users, pageSize), 0o600)
}

// page reads the newest page of a conversation and checks that it is one. If the
// server is too busy, the caller waits and tries again, which counts as time.
func (c *caller) page(conversation int) error {
	path := fmt.Sprintf("/api/chat/messages?conversationId=0193f8a2-7c1e-7d3a-8b5f-%012x&limit=%d", conversation, pageSize)
	a, err := c.get(path)
	for refused := 0; err == nil && a.status == http.StatusServiceUnavailable && refused < 10; refused++ {
		time.Sleep(time.Second)
		a, err = c.get(path)
	}
	if err != nil {
		return err
	}
	if a.status != 200 || bytes.Count(a.body, []byte(`"parentId"`)) != pageSize {
		return fmt.Errorf("a page: status %d: %.300s", a.status, a.body)
	}
	return nil
}

// readResult is one measurement of reads.
type readResult struct {
	rate          float64
	p99           time.Duration
	cpu, postgres time.Duration // a read
}

// read has callers read random pages.
func (l *library) read(ctx context.Context, length time.Duration) (readResult, error) {
	before, err := l.counters(ctx)
	if err != nil {
		return readResult{}, err
	}
	profiled := l.profile(ctx, readCallers, length)
	took, elapsed, err := concurrently(ctx, readCallers, length, func(i int) (func() error, func()) {
		callers := make([]*caller, (users+readCallers-1)/readCallers) // a user each
		for n := range callers {
			callers[n] = l.caller(i + n*readCallers)
		}
		return func() error {
				n := rand.IntN(len(callers))
				user := i + n*readCallers
				return callers[n].page(user + users*rand.IntN((l.conversations-user+users-1)/users))
			}, func() {
				for _, c := range callers {
					c.close()
				}
			}
	})
	if err != nil {
		return readResult{}, err
	}
	after, err := l.counters(ctx)
	if err != nil {
		return readResult{}, err
	}
	if err := <-profiled; err != nil {
		return readResult{}, err
	}
	n := time.Duration(len(took))
	return readResult{rate: float64(n) / elapsed.Seconds(), p99: percentile(took, 99),
		cpu: (after.cpu - before.cpu) / n, postgres: (after.postgres - before.postgres) / n}, nil
}

// concurrently has n workers do one thing after another for a time, and returns
// how long each took, sorted.
func concurrently(ctx context.Context, n int, length time.Duration, worker func(i int) (do func() error, close func())) (took []time.Duration, elapsed time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu    sync.Mutex
		all   sync.WaitGroup
		begun = time.Now()
	)
	for i := range n {
		all.Go(func() {
			do, end := worker(i)
			defer end()
			var durations []time.Duration
			for time.Since(begun) < length && ctx.Err() == nil {
				at := time.Now()
				if err := do(); err != nil {
					cancel(err)
					return
				}
				durations = append(durations, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, durations...)
		})
	}
	all.Wait()
	elapsed = time.Since(begun)
	if ctx.Err() != nil {
		return nil, 0, context.Cause(ctx)
	}
	slices.Sort(took)
	return took, elapsed, nil
}

var pgbenchRate = regexp.MustCompile(`tps = ([0-9.]+)`)

// pgbench runs the library's script and returns its rate and the CPU of Postgres.
func (b *bench) pgbench(ctx context.Context, l *library, length time.Duration) (readResult, error) {
	before, err := b.postgresCPU()
	if err != nil {
		return readResult{}, err
	}
	out, err := exec.CommandContext(ctx, b.pgbenchPath, "-n", "-M", "prepared", "-c", strconv.Itoa(readCallers), "-j", "2",
		"-T", strconv.Itoa(max(1, int(length.Seconds()))), "-f", l.script, l.database).CombinedOutput()
	if err != nil {
		return readResult{}, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	after, err := b.postgresCPU()
	if err != nil {
		return readResult{}, err
	}
	found := pgbenchRate.FindSubmatch(out)
	if found == nil {
		return readResult{}, fmt.Errorf("pgbench: no rate in %s", out)
	}
	rate, err := strconv.ParseFloat(string(found[1]), 64)
	return readResult{rate: rate, postgres: time.Duration(float64(after-before) / (rate * max(1, length.Seconds())))}, err
}

// reads compares the newest page of a conversation with pgbench for the same rows.
func (b *bench) reads(ctx context.Context) error {
	messages := 1_000_000
	if *quick {
		messages = 100_000
	}
	l, err := b.startLibrary(ctx, messages)
	if err != nil {
		return err
	}
	defer l.stop()
	mine, theirs, err := b.compareReads(ctx, l)
	if err != nil {
		return err
	}
	ratio := make([]float64, len(mine))
	for i := range mine {
		ratio[i] = mine[i].rate / theirs[i].rate
	}
	b.table.add(row{figure: fmt.Sprintf("GET last 50 at c=16 ÷ pgbench for the same rows, at %s messages", count(messages)),
		parley: fmt.Sprintf("%.0f/s", rateOfReads(mine)), baseline: fmt.Sprintf("%.0f/s", rateOfReads(theirs)), value: median(ratio), verb: "%.2f", goal: lowerBound(0.5)})
	b.table.section("## Reads\n\nThe newest %d messages of a random conversation of %d, with %d callers; %s messages.\n\n"+
		"| | reads/s | p99 | server CPU/read | Postgres CPU/read |\n|---|---|---|---|---|\n"+
		"| Parley | %.0f | %.1f ms | %.0f µs | %.0f µs |\n| pgbench | %.0f | | | %.0f µs |\n\nParley ÷ pgbench within a round: %s",
		pageSize, perConversation, readCallers, count(messages),
		rateOfReads(mine), median(each(mine, func(r readResult) float64 { return ms(r.p99) })),
		median(each(mine, func(r readResult) float64 { return us(r.cpu) })), median(each(mine, func(r readResult) float64 { return us(r.postgres) })),
		rateOfReads(theirs), median(each(theirs, func(r readResult) float64 { return us(r.postgres) })), spreadOf(ratio))
	return nil
}

func (b *bench) compareReads(ctx context.Context, l *library) (mine, theirs []readResult, err error) {
	if _, err := l.read(ctx, b.seconds(1)); err != nil { // warm
		return nil, nil, err
	}
	if _, err := b.pgbench(ctx, l, time.Second); err != nil {
		return nil, nil, err
	}
	for round := range b.rounds() {
		m, err := l.read(ctx, b.seconds(2))
		if err != nil {
			return nil, nil, err
		}
		t, err := b.pgbench(ctx, l, b.seconds(2))
		if err != nil {
			return nil, nil, err
		}
		b.note("round %d: %d messages: %.0f reads/s, CPU %v, of Postgres %v; pgbench %.0f/s, %v", round+1, l.messages, m.rate, m.cpu, m.postgres, t.rate, t.postgres)
		mine, theirs = append(mine, m), append(theirs, t)
	}
	return mine, theirs, nil
}

func rateOfReads(list []readResult) float64 {
	return median(each(list, func(r readResult) float64 { return r.rate }))
}

func each[T any](list []T, of func(T) float64) []float64 {
	values := make([]float64, len(list))
	for i, v := range list {
		values[i] = of(v)
	}
	return values
}

// count is a round number as 10k or 1M.
func count(n int) string {
	if n >= 1_000_000 {
		return fmt.Sprintf("%dM", n/1_000_000)
	}
	return fmt.Sprintf("%dk", n/1000)
}
