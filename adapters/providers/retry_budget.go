package providers

import "sync"

// retryBudget bounds how many calls are made beyond the first one of each
// message, retries and fallbacks alike, so that an outage is not multiplied:
// over any time, calls <= messages x (1 + ratio) + reserve.
type retryBudget struct {
	ratio float64 // of a call, deposited by every message
	limit float64 // that can be saved up

	mu    sync.Mutex
	calls float64
}

func newRetryBudget(ratio, reserve, limit float64) *retryBudget {
	return &retryBudget{ratio: ratio, limit: max(limit, reserve), calls: reserve}
}

// deposit is called once for every message.
func (b *retryBudget) deposit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = min(b.calls+b.ratio, b.limit)
}

// withdraw takes one call; false when there is none left.
func (b *retryBudget) withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls < 1 {
		return false
	}
	b.calls--
	return true
}

// empty reports whether withdraw would fail now.
func (b *retryBudget) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls < 1
}
