package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// span is a median with its interval.
type span struct{ low, median, high float64 }

func (s span) String() string { return s.format("%.2f") }

func (s span) format(verb string) string {
	return fmt.Sprintf(verb+" ["+verb+".."+verb+"]", s.median, s.low, s.high)
}

// spreadOf takes the interval from the ordered values themselves, and supposes
// nothing of how they are distributed: that at most k of n values lie below the
// true median is as likely as at most k heads of n coins. Without values all is 0.
func spreadOf(values []float64) span {
	if len(values) == 0 {
		return span{}
	}
	values = slices.Sorted(slices.Values(values))
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

func median(values []float64) float64 { return spreadOf(values).median }

// percentile is the value of sorted durations below which so many of a hundred lie.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)*p/100]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
