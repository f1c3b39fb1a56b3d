package tokens

import (
	"bytes"
	"encoding/base64"
	"hash/maphash"
	"math"
	"strconv"

	"github.com/pkoukk/tiktoken-go-loader/assets"
)

// vocab holds the tokens of an encoding one after the other, and finds them
// through an open hash table of their ranks: a tenth of what a map of strings takes.
type vocab struct {
	seed  maphash.Seed
	text  []byte   // all tokens
	start []uint32 // by rank, and one more
	slots []uint32 // rank+1 by hash; 0: free
}

const none = math.MaxUint32

// load reads the vocabulary that is linked in. Only a broken build can fail.
func load() *vocab {
	data, err := assets.Assets.ReadFile("o200k_base.tiktoken")
	if err != nil {
		panic("tokens: " + err.Error())
	}
	v := &vocab{seed: maphash.MakeSeed(), slots: make([]uint32, 1<<19)}
	v.text = make([]byte, 0, len(data)/2)
	for line := range bytes.Lines(data) {
		word, rank, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(string(rank)); err != nil || n != len(v.start) {
			panic("tokens: the vocabulary is not in order")
		}
		v.start = append(v.start, uint32(len(v.text)))
		if v.text, err = base64.StdEncoding.AppendDecode(v.text, word); err != nil {
			panic("tokens: " + err.Error())
		}
	}
	v.start = append(v.start, uint32(len(v.text)))
	for rank := range uint32(len(v.start) - 1) {
		slot := v.slot(v.token(rank))
		v.slots[slot] = rank + 1
	}
	return v
}

func (v *vocab) token(rank uint32) []byte { return v.text[v.start[rank]:v.start[rank+1]] }

// slot is where a token is, or where it would go.
func (v *vocab) slot(token []byte) uint64 {
	mask := uint64(len(v.slots) - 1)
	i := maphash.Bytes(v.seed, token) & mask
	for v.slots[i] != 0 && !bytes.Equal(v.token(v.slots[i]-1), token) {
		i = (i + 1) & mask
	}
	return i
}

// rank is a token's place in the order of merges, or none.
func (v *vocab) rank(token []byte) uint32 {
	if r := v.slots[v.slot(token)]; r != 0 {
		return r - 1
	}
	return none
}

// longest is how many bytes of one word are merged together. Merging takes
// the square of that, and a user could send a word of any length.
const longest = 128

// count sums up the tokens of the words of a text.
func (v *vocab) count(text string) int {
	n := 0
	var parts [longest + 1]uint32
	for len(text) > 0 {
		end := word(text)
		for i := 0; i < end; i += longest {
			n += v.merge([]byte(text[i:min(i+longest, end)]), parts[:])
		}
		text = text[end:]
	}
	return n
}

// merge counts the tokens of a word: the two neighbours that come first in the
// vocabulary become one, until none do.
func (v *vocab) merge(w []byte, starts []uint32) int {
	if v.rank(w) != none {
		return 1
	}
	starts = starts[:len(w)+1]
	for i := range starts {
		starts[i] = uint32(i)
	}
	var ranks [longest]uint32
	pairs := ranks[:len(w)]
	rank := func(i int) uint32 {
		if i+2 >= len(starts) {
			return none
		}
		return v.rank(w[starts[i]:starts[i+2]])
	}
	for i := range pairs {
		pairs[i] = rank(i)
	}
	for {
		best, at := uint32(none), 0
		for i, r := range pairs[:len(starts)-1] {
			if r < best {
				best, at = r, i
			}
		}
		if best == none {
			return len(starts) - 1
		}
		starts = append(starts[:at+1], starts[at+2:]...)
		copy(pairs[at:], pairs[at+1:])
		pairs = pairs[:len(starts)-1]
		pairs[at] = rank(at)
		if at > 0 {
			pairs[at-1] = rank(at - 1)
		}
	}
}
