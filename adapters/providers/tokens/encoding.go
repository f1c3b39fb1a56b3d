package tokens

import (
	"bytes"
	"compress/flate"
	_ "embed" // the vocabulary
	"hash/maphash"
	"io"
	"math"
)

// vocabulary holds the tokens of the encoding o200k_base by rank, each behind its
// length in one byte, compressed. It is a quarter of the published file, of which
// TestVocabulary_IsCurrent makes it.
//
//go:generate go test -run TestVocabulary_IsCurrent . -update
//go:embed o200k_base.flate
var vocabulary []byte

// encoding holds the tokens of an encoding one after the other, and finds them
// through an open hash table of their ranks, in a tenth of the memory of a map
// of strings.
type encoding struct {
	seed  maphash.Seed
	text  []byte   // all tokens
	start []uint32 // by rank, and one more
	slots []uint32 // rank+1 by hash; 0: empty
}

// noRank is the rank of bytes that are no token.
const noRank = math.MaxUint32

// load reads the vocabulary that is part of the program. It panics when that is
// damaged, which only a broken build can cause. The race detector would take ten times
// as long for what one goroutine does, at the first message of each process of a test.
//
//go:norace
func load() *encoding {
	data, err := io.ReadAll(flate.NewReader(bytes.NewReader(vocabulary)))
	if err != nil {
		panic("tokens: " + err.Error())
	}
	e := &encoding{seed: maphash.MakeSeed(), slots: make([]uint32, 1<<19)}
	e.text = make([]byte, 0, len(data))
	for len(data) > 0 {
		end := 1 + int(data[0])
		e.start = append(e.start, uint32(len(e.text)))
		e.text = append(e.text, data[1:end]...)
		data = data[end:]
	}
	e.start = append(e.start, uint32(len(e.text)))
	mask := uint64(len(e.slots) - 1)
	for rank := range uint32(len(e.start) - 1) {
		i := maphash.Bytes(e.seed, e.token(rank)) & mask
		for e.slots[i] != 0 { // no token is there twice
			i = (i + 1) & mask
		}
		e.slots[i] = rank + 1
	}
	return e
}

func (e *encoding) token(rank uint32) []byte { return e.text[e.start[rank]:e.start[rank+1]] }

// slot returns the index of a token in the hash table, or of the empty slot for it.
func (e *encoding) slot(token []byte) uint64 {
	mask := uint64(len(e.slots) - 1)
	i := maphash.Bytes(e.seed, token) & mask
	for e.slots[i] != 0 && !bytes.Equal(e.token(e.slots[i]-1), token) {
		i = (i + 1) & mask
	}
	return i
}

// rank returns a token's place in the order of merges, or noRank.
func (e *encoding) rank(token []byte) uint32 {
	if r := e.slots[e.slot(token)]; r != 0 {
		return r - 1
	}
	return noRank
}

// maxMergeBytes bounds the bytes of a word that are merged together, because
// merging takes quadratic time and a user may send a word of any length.
const maxMergeBytes = 128

// count returns the number of tokens of a text.
func (e *encoding) count(text string) int {
	n := 0
	var parts [maxMergeBytes + 1]uint32
	for len(text) > 0 {
		end := firstWord(text)
		for i := 0; i < end; i += maxMergeBytes {
			n += e.merge([]byte(text[i:min(i+maxMergeBytes, end)]), parts[:])
		}
		text = text[end:]
	}
	return n
}

// merge returns the number of tokens of a word. It joins the two neighbours
// whose union has the lowest rank, until no union is a token.
func (e *encoding) merge(w []byte, starts []uint32) int {
	if e.rank(w) != noRank {
		return 1
	}
	starts = starts[:len(w)+1]
	for i := range starts {
		starts[i] = uint32(i)
	}
	var ranks [maxMergeBytes]uint32
	pairs := ranks[:len(w)]
	rank := func(i int) uint32 {
		if i+2 >= len(starts) {
			return noRank
		}
		return e.rank(w[starts[i]:starts[i+2]])
	}
	for i := range pairs {
		pairs[i] = rank(i)
	}
	for {
		best, at := uint32(noRank), 0
		for i, r := range pairs[:len(starts)-1] {
			if r < best {
				best, at = r, i
			}
		}
		if best == noRank {
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
