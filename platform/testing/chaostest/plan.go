package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// kind is a sort of fault.
type kind string

const (
	kill        kind = "kill -9"
	failpoint   kind = "failpoint"
	zombie      kind = "frozen beyond lease"
	partition   kind = "cut off from postgres"
	postgresDie kind = "postgres killed"
	postgresIce kind = "postgres frozen"
	postgresCut kind = "postgres connections cut"
	commitLost  kind = "commit unacknowledged"
	locked      kind = "pool exhausted"
	redisDie    kind = "redis killed"
	redisIce    kind = "redis frozen"
	redisFlush  kind = "redis flushed"
	redisCut    kind = "redis connections cut"
	rolling     kind = "rolling restart"
)

// kinds lists every sort of fault: how many of a thousand it gets, and what it
// takes, roughly.
var kinds = []struct {
	kind     kind
	thousand int
}{
	{kill, 0}, // whatever is left
	{failpoint, 340},
	{zombie, 4},
	{partition, 4},
	{postgresDie, 8},
	{postgresIce, 8},
	{postgresCut, 30},
	{commitLost, 60},
	{locked, 8},
	{redisDie, 6},
	{redisIce, 6},
	{redisFlush, 8},
	{redisCut, 8},
	{rolling, 8},
}

// failpoints are where a process can be made to kill itself, with the highest
// hit at which it does. A calm instance claims once a sweep.
var failpoints = []struct {
	name string
	hits int
}{
	{"admit.before", 10}, {"admit.after", 10},
	{"checkpoint.before", 15}, {"checkpoint.after", 15},
	{"finish.before", 8}, {"finish.after", 8},
	{"heartbeat.before", 2}, {"heartbeat.after", 2},
	{"claim.before", 1}, {"claim.after", 1},
	{"resume.before", 1}, {"resume.after", 1},
	{"stop.before", 2}, {"stop.after", 2},
}

// releases are the failpoints that only a process that is told to end reaches,
// and only after the time that its replies get: one fault in so many.
var releases = []string{"release.before", "release.after"}

const releaseEvery = 20

// fault is one thing to do.
type fault struct {
	kind      kind
	victim    int // slot
	failpoint string
	delay     time.Duration // before it, counted from when the victim is ready
	length    time.Duration
}

func (f fault) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s slot %d after %v for %v", f.kind, f.failpoint, f.victim, f.delay, f.length))
}

// plan draws n faults. The same seed draws the same ones. Every kind comes at
// least once, in long runs three times; those that disturb the limiter stand
// together, so that the rest of the run shows the limit undisturbed.
func plan(rng *rand.Rand, n int) []fault {
	least := 1
	if n >= 300 {
		least = 3
	}
	var rest, redis []fault
	for _, k := range kinds[1:] {
		for range max(least, n*k.thousand/1000) {
			switch k.kind {
			case redisDie, redisIce, redisFlush:
				redis = append(redis, fault{kind: k.kind})
			default:
				rest = append(rest, fault{kind: k.kind})
			}
		}
	}
	for len(rest)+len(redis) < n {
		rest = append(rest, fault{kind: kill})
	}
	shuffle := func(list []fault) { rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] }) }
	shuffle(rest)
	shuffle(redis)
	// Into the third quarter, a few others between two of them.
	for i, f := range redis {
		at := len(rest)/2 + rng.IntN(max(1, len(rest)/8)) + i
		rest = slices.Insert(rest, min(at, len(rest)), f)
	}
	victim := rng.IntN(2)
	point := rng.IntN(len(failpoints))
	long := 0
	for i := range rest {
		f := &rest[i]
		// One instance suffers for a while before it is the other's turn:
		// an instance must live long enough to take over.
		if rng.IntN(8) == 0 {
			victim = 1 - victim
		}
		f.victim = victim
		f.delay = time.Duration(20+rng.IntN(600)) * time.Millisecond
		switch f.kind {
		case kill:
			if rng.IntN(10) == 0 {
				f.delay = -time.Duration(rng.IntN(200)) * time.Millisecond // while it starts
			}
		case failpoint:
			point++
			if point%releaseEvery == 0 {
				f.failpoint = releases[point/releaseEvery%len(releases)] + ":1"
				break
			}
			fp := failpoints[point%len(failpoints)]
			f.failpoint = fmt.Sprintf("%s:%d", fp.name, 1+rng.IntN(fp.hits))
		case zombie, partition:
			f.length = 13*time.Second + time.Duration(rng.IntN(2000))*time.Millisecond
		case postgresIce:
			f.length = time.Duration(1000+rng.IntN(2500)) * time.Millisecond
			if long++; long == 2 {
				f.length = 12 * time.Second // once for longer than the leases
			}
		case postgresDie:
			f.length = time.Duration(rng.IntN(1500)) * time.Millisecond
		case locked:
			f.length = time.Duration(1500+rng.IntN(2500)) * time.Millisecond
		case redisDie, redisIce:
			f.length = time.Duration(500+rng.IntN(2500)) * time.Millisecond
		case commitLost:
			f.length = time.Duration(1 + rng.IntN(4)) // acknowledgements
		}
	}
	return rest
}
