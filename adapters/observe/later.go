package observe

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// enough is how many measurements gather before they are counted.
const enough = 256

// later gathers what every turn has measured. Counted one by one, between two
// waits for the network, each finds nothing of its code and data in the
// processor's caches, and costs ten times what it does among others. Whoever
// brings the last of enough counts for all; a scrape does first, so that it
// misses nothing.
type later struct {
	mu      sync.Mutex
	waiting []measured
}

// measured is one of: a value for a histogram, one more for a counter, or
// anything else to do.
type measured struct {
	of    prometheus.Observer
	value float64
	one   prometheus.Counter
	do    func()
}

func (l *later) add(m measured) {
	l.mu.Lock()
	l.waiting = append(l.waiting, m)
	if len(l.waiting) < enough {
		l.mu.Unlock()
		return
	}
	batch := l.waiting
	l.waiting = make([]measured, 0, enough)
	l.mu.Unlock()
	count(batch)
}

func (l *later) observe(of prometheus.Observer, value float64) { l.add(measured{of: of, value: value}) }
func (l *later) inc(one prometheus.Counter)                    { l.add(measured{one: one}) }
func (l *later) do(f func())                                   { l.add(measured{do: f}) }

// Settle counts what has gathered. It is called before a scrape.
func (ob *Observer) Settle() {
	ob.later.mu.Lock()
	batch := ob.later.waiting
	ob.later.waiting = nil
	ob.later.mu.Unlock()
	count(batch)
}

func count(batch []measured) {
	for _, m := range batch {
		switch {
		case m.of != nil:
			m.of.Observe(m.value)
		case m.one != nil:
			m.one.Inc()
		default:
			m.do()
		}
	}
}
