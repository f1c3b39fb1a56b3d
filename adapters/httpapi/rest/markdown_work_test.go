//go:build !race

package rest

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// One goroutine renders many MB here: the race detector would find nothing, and take
// 15 times as long. make test runs these tests without it.

// TestContentHTML_WorkIsLinear: no text takes more work than its length allows.
func TestContentHTML_WorkIsLinear(t *testing.T) {
	var slowest time.Duration
	for _, size := range []int{1000, 10_000, maxMarkdownBytes} {
		if testing.Short() && size > 10_000 {
			continue
		}
		for _, s := range hardTexts(size) {
			begun := time.Now()
			if err := measure(s).linear(len(s)); err != nil {
				t.Errorf("%.24q: %v", s, err)
			}
			if took := time.Since(begun); took > slowest {
				slowest = took
				t.Logf("%.24q: %v for %d bytes", s, took, len(s))
			}
		}
	}
}

// FuzzContentHTML looks for texts that take more work, memory or output than
// their length allows.
func FuzzContentHTML(f *testing.F) {
	for i, a := range hardUnits {
		f.Add("", a, hardUnits[(i+1)%len(hardUnits)])
	}
	f.Fuzz(func(t *testing.T, head, unit, tail string) {
		if len(unit) == 0 || len(head)+len(unit)+len(tail) > 500 {
			return
		}
		for _, size := range []int{1000, 8000} {
			s := head + strings.Repeat(unit, size/len(unit)) + tail + strings.Repeat(tail, size/(len(tail)+1))
			r := measure(s)
			if r.err != nil && !errors.Is(r.err, errTooComplex) {
				t.Fatal(r.err)
			}
			if err := r.linear(len(s)); err != nil {
				t.Fatalf("%.40q: %v", s, err)
			}
		}
	})
}
