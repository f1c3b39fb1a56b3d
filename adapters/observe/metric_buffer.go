package observe

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metricBufferSize is how many samples are buffered before they are recorded.
const metricBufferSize = 256

// metricBuffer collects the samples of turns and records many of them at once.
// Recorded one by one, between two waits for the network, each misses the
// processor's caches and costs ten times as much. The sample that fills the
// buffer flushes it, and so does a scrape, before it reads.
type metricBuffer struct {
	mu      sync.Mutex
	pending []sample
}

// sample is a value for a histogram, an increment of a counter, or a function
// that records something else.
type sample struct {
	of    prometheus.Observer
	value float64
	one   prometheus.Counter
	do    func()
}

func (l *metricBuffer) add(m sample) {
	l.mu.Lock()
	l.pending = append(l.pending, m)
	if len(l.pending) < metricBufferSize {
		l.mu.Unlock()
		return
	}
	batch := l.pending
	l.pending = make([]sample, 0, metricBufferSize)
	l.mu.Unlock()
	count(batch)
}

func (l *metricBuffer) observe(of prometheus.Observer, value float64) {
	l.add(sample{of: of, value: value})
}
func (l *metricBuffer) inc(one prometheus.Counter) { l.add(sample{one: one}) }
func (l *metricBuffer) do(f func())                { l.add(sample{do: f}) }

// Flush records the buffered samples. It is called before a scrape.
func (ob *Observer) Flush() {
	ob.metricBuffer.mu.Lock()
	batch := ob.metricBuffer.pending
	ob.metricBuffer.pending = nil
	ob.metricBuffer.mu.Unlock()
	count(batch)
}

func count(batch []sample) {
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
