// Package tokens counts tokens by OpenAI's o200k_base encoding, with a vocabulary
// that is part of the program. Other providers' counts differ by about ten per
// cent, which is accurate enough for a context window and for estimating the
// usage of a truncated reply.
package tokens

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// Count implements ports.Tokens. The first call loads the vocabulary, which
// takes about 50 ms and 5 MB. Recent counts are cached by the hash of the text.
// It may be called concurrently.
func Count(text string) int {
	if len(text) < cacheMinBytes {
		return loaded().count(text)
	}
	return cache.count(text)
}

var loaded = sync.OnceValue(load)

// cacheMinBytes is the length from which a look into the cache is cheaper than counting.
const cacheMinBytes = 64

// countCache caches counts, because the history of a conversation is counted
// again with every message. A slot holds the upper bits of a text's hash and
// its count in one atomic word, so that no lock is needed. Two texts with the
// same hash share a count, once in 10^12.
type countCache struct {
	seed  maphash.Seed
	slots [1 << 13]atomic.Uint64
}

const countBits = 24

var cache = countCache{seed: maphash.MakeSeed()}

func (c *countCache) count(text string) int {
	h := maphash.String(c.seed, text)
	slot := &c.slots[h%uint64(len(c.slots))]
	if v := slot.Load(); v != 0 && v>>countBits == h>>countBits {
		return int(v & (1<<countBits - 1))
	}
	n := loaded().count(text)
	if n < 1<<countBits {
		slot.Store(h>>countBits<<countBits | uint64(n))
	}
	return n
}
