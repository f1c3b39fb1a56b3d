package redis

import (
	"runtime"
	"strings"
	"testing"

	"parley/domain/chat"
	"parley/ports"
)

// A reply that is fetched in many pieces is not copied for each of them.
func TestApplyChunk_CopiesWhatIsNew(t *testing.T) {
	const pieces = 1000
	piece := strings.Repeat("x", 1<<10)
	var grown strings.Builder
	var p ports.Progress
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range pieces {
		var err error
		if p, err = applyChunk(p, &grown, []any{"0000000001r", int64(p.Output.Len()), piece}); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if p.Output != chat.Output(strings.Repeat(piece, pieces)) {
		t.Error("not all of it")
	}
	if copied := after.TotalAlloc - before.TotalAlloc; copied > 20<<20 { // each time all of it: 500 MiB
		t.Errorf("%d MiB for %d KiB", copied>>20, pieces)
	}
}

// What was known stays as it was when another attempt begins anew.
func TestApplyChunk_AnotherAttempt(t *testing.T) {
	var grown strings.Builder
	first, err := applyChunk(ports.Progress{}, &grown, []any{"0000000001r", int64(0), "one two"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		known ports.Progress
		from  int64
		piece string
		want  chat.Output
	}{
		{first, 3, " three", "one three"},
		{first, 0, "again", "again"},
		{ports.Progress{}, 0, "from nothing", "from nothing"}, // the snapshot was dropped
		{first, 7, " more", "one two more"},
	} {
		if got, err := applyChunk(c.known, &grown, []any{"0000000002r", c.from, c.piece}); err != nil || got.Output != c.want {
			t.Errorf("%q, %v, want %q", got.Output, err, c.want)
		}
	}
	if first.Output != "one two" {
		t.Errorf("%q", first.Output)
	}
}
