package providers

import "sync"

// budget bounds how many calls are made beyond the first one of each message,
// retries and fallbacks alike, so that an outage is not multiplied: over any
// time, calls <= messages x (1 + ratio) + reserve.
type budget struct {
	ratio float64 // of a call, earned by every message
	most  float64 // that can be saved up

	mu     sync.Mutex
	tokens float64
}

func newBudget(ratio, reserve, most float64) *budget {
	return &budget{ratio: ratio, most: max(most, reserve), tokens: reserve}
}

// earn is called once for every message.
func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+b.ratio, b.most)
}

// spend takes one call; false when there is none left.
func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// empty reports whether spend would fail now.
func (b *budget) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens < 1
}
