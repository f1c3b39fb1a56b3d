// Package tokens counts tokens as OpenAI's o200k_base encoding does, with a
// vocabulary that is part of the program. Other providers' counts differ by some
// ten per cent, which is near enough for a context window and for the estimate
// of a reply that was cut short.
package tokens

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// Count is a ports.Tokens. The first call reads the vocabulary, which takes
// some 50 ms and 5 MB. Texts that were counted lately are remembered by their hash.
func Count(text string) int {
	if len(text) < memorable {
		return vocabulary().count(text)
	}
	return memory.count(text)
}

var vocabulary = sync.OnceValue(load)

// memorable is from which length on remembering is cheaper than counting.
const memorable = 64

// memo remembers counts: the history of a conversation is counted again with
// every message. Each slot holds the upper bits of a text's hash and its count
// in one word, so that neither locks nor torn values exist. Two texts of the
// same hash get one count, once in 10^12.
type memo struct {
	seed  maphash.Seed
	slots [1 << 13]atomic.Uint64
}

const countBits = 24

var memory = memo{seed: maphash.MakeSeed()}

func (m *memo) count(text string) int {
	h := maphash.String(m.seed, text)
	slot := &m.slots[h%uint64(len(m.slots))]
	if v := slot.Load(); v != 0 && v>>countBits == h>>countBits {
		return int(v & (1<<countBits - 1))
	}
	n := vocabulary().count(text)
	if n < 1<<countBits {
		slot.Store(h>>countBits<<countBits | uint64(n))
	}
	return n
}
