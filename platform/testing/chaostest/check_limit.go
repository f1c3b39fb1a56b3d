package main

import (
	"slices"
	"time"
)

// checkLimits: in no rolling minute did the shared limiter let more requests
// pass than the limit says; each loss of its state that the minute touches may
// cost one more burst. What instances let pass that had to decide alone comes
// on top, but is not more than another burst. A request is counted in a minute
// only if it was surely decided in it.
func checkLimits(v *verdict, h *history, s snapshot, limits map[string]int) {
	byUser := map[string][]limiterDecision{}
	for _, g := range h.decisions {
		byUser[g.user] = append(byUser[g.user], g)
		if g.alone {
			v.alone++
		}
	}
	for user, limit := range limits {
		passed := byUser[user]
		slices.SortFunc(passed, func(a, b limiterDecision) int { return a.sent.Compare(b.sent) })
		for i, first := range passed {
			window := span{first.sent, first.sent.Add(time.Minute)}
			together, alone := 0, 0
			for _, g := range passed[i:] {
				switch {
				case !g.back.Before(window.To):
				case g.alone:
					alone++
				default:
					together++
				}
			}
			bursts := 1 + count(s.Lost, func(l span) bool {
				return !l.From.After(window.To) && !window.From.After(l.To)
			})
			v.windows++
			if bursts == 1 && alone == 0 {
				v.undisturbed++
			}
			more := 0
			if alone > 0 {
				more = 1
			}
			if together > limit*bursts || together+alone > limit*(bursts+more) {
				v.add("I6", "%s was let pass %d times in the minute from %s, and %d times by one instance alone; the limit is %d, bursts %d",
					user, together, window.From.Format("15:04:05.000"), alone, limit, bursts)
				break
			}
		}
	}
}
