package main

import (
	"slices"
	"strings"
	"time"
)

// outages returns the intervals in which no instance was up. An instance whose
// end is not known is up until now.
func outages(up []span, now time.Time) []span {
	up = slices.Clone(up)
	for i := range up {
		if up[i].To.IsZero() {
			up[i].To = now
		}
	}
	slices.SortFunc(up, func(a, b span) int { return a.From.Compare(b.From) })
	var out []span
	var until time.Time // an instance was up until then
	for _, s := range up {
		if !until.IsZero() && s.From.After(until) {
			out = append(out, span{until, s.From})
		}
		until = later(until, s.To)
	}
	return out
}

// cutLast splits "finish.before:3" at its last colon.
func cutLast(failpoint string) (point, hit string, ok bool) {
	i := strings.LastIndexByte(failpoint, ':')
	if i < 0 {
		return failpoint, "", false
	}
	return failpoint[:i], failpoint[i+1:], true
}

// pointName is the operation that a failpoint stands before or after.
func pointName(failpoint string) string {
	name, _, _ := strings.Cut(failpoint, ".")
	return name
}
