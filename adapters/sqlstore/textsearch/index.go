package textsearch

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"math/bits"
	"slices"
	"unicode/utf8"
)

const (
	// SegmentSize is how many texts a segment of the index has.
	SegmentSize = 1024
	// Buckets is into how many parts a segment is divided, so that a query reads few.
	Buckets = 1024

	bucketBits = 10
)

// Gram stands for a few characters that follow each other, by a hash. A text that
// has a word has all grams of it.
type Gram uint32

// Bucket is the part of a segment that has a gram.
func (g Gram) Bucket() int { return int(g >> (32 - bucketBits)) }

// grams calls found with the grams of a word: three letters each, or the whole of
// a shorter word; one and two characters of a script without spaces.
func (w word) grams(found func(Gram)) {
	if w.class == letter && w.runes <= 2 || w.class == symbol {
		found(gram("=" + w.text))
		return
	}
	size := 3
	if w.class == dense {
		size = 2
		for _, r := range w.text {
			found(gram("=" + string(r)))
		}
	}
	for from := 0; ; {
		to := from
		for range size {
			_, n := utf8.DecodeRuneInString(w.text[to:])
			if n == 0 {
				return
			}
			to += n
		}
		found(gram(w.text[from:to]))
		_, n := utf8.DecodeRuneInString(w.text[from:])
		from += n
	}
}

func gram(text string) Gram {
	h := fnv.New32a()
	h.Write([]byte(text))
	return Gram(h.Sum32() * 2654435761)
}

// Grams returns at most n grams that every text that matches has.
func (q Query) Grams(n int) (list []Gram) {
	terms := make([][]Gram, len(q.terms))
	for i, t := range q.terms {
		t.grams(func(g Gram) { terms[i] = append(terms[i], g) })
		if t.class == dense && t.runes > 1 {
			terms[i] = terms[i][t.runes:] // pairs say more than single characters
		}
	}
	for round := 0; len(list) < n && round < n; round++ {
		for _, of := range terms {
			if round >= len(of) || len(list) == n {
				continue
			}
			if g := of[spread(round, len(of), max(n/len(terms), 1))]; !slices.Contains(list, g) {
				list = append(list, g)
			}
		}
	}
	return list
}

// spread takes positions all over a list of length, if few of them are wanted.
func spread(round, length, wanted int) int {
	if wanted >= length || wanted < 2 {
		return round
	}
	return min(round*(length-1)/(wanted-1), length-1)
}

// Docs is a set of texts of a segment.
type Docs [SegmentSize / 64]uint64

// And keeps those that are in another set too. It reports whether any are left.
func (d *Docs) And(other Docs) bool {
	var left uint64
	for i := range d {
		d[i] &= other[i]
		left |= d[i]
	}
	return left != 0
}

// Descending calls each with the texts from the last one on.
func (d *Docs) Descending(each func(doc int)) {
	for i := len(d) - 1; i >= 0; i-- {
		for word := d[i]; word != 0; {
			top := 63 - bits.LeadingZeros64(word)
			each(i*64 + top)
			word &^= 1 << top
		}
	}
}

// Build makes the buckets of a segment of texts, by their number. A bucket is a
// list of grams, each with the texts that have it: how many, and their numbers as
// differences; or, where that is shorter, a bitmap.
func Build(texts []string) map[int][]byte {
	var all []uint64
	var of []Gram
	for doc, text := range texts {
		of = of[:0]
		words(Fold(text), func(w word) { w.grams(func(g Gram) { of = append(of, g) }) })
		slices.Sort(of)
		for _, g := range slices.Compact(of) {
			all = append(all, uint64(g)<<bucketBits|uint64(doc))
		}
	}
	slices.Sort(all)
	buckets := map[int][]byte{}
	last := map[int]Gram{}
	for i := 0; i < len(all); {
		g, end := Gram(all[i]>>bucketBits), i
		for end < len(all) && Gram(all[end]>>bucketBits) == g {
			end++
		}
		b := g.Bucket()
		out := binary.AppendUvarint(buckets[b], uint64(g-last[b]))
		last[b] = g
		if n := end - i; n > SegmentSize/8 {
			var docs Docs
			for _, v := range all[i:end] {
				doc := v % SegmentSize
				docs[doc/64] |= 1 << (doc % 64)
			}
			out = append(out, 0)
			for _, word := range docs {
				out = binary.LittleEndian.AppendUint64(out, word)
			}
		} else {
			out = binary.AppendUvarint(out, uint64(n))
			before := uint64(0)
			for _, v := range all[i:end] {
				out = binary.AppendUvarint(out, v%SegmentSize-before)
				before = v % SegmentSize
			}
		}
		buckets[b], i = out, end
	}
	return buckets
}

var errBucket = errors.New("a bucket of the search index is damaged")

// Lookup returns which texts have a gram, by its bucket.
func Lookup(bucket []byte, wanted Gram) (docs Docs, err error) {
	var g Gram
	for len(bucket) > 0 {
		delta, n := binary.Uvarint(bucket)
		if n <= 0 {
			return docs, errBucket
		}
		bucket, g = bucket[n:], g+Gram(delta)
		count, n := binary.Uvarint(bucket)
		if n <= 0 || g > wanted {
			if g > wanted {
				return docs, nil
			}
			return docs, errBucket
		}
		bucket = bucket[n:]
		if count == 0 {
			if len(bucket) < SegmentSize/8 {
				return docs, errBucket
			}
			if g == wanted {
				for i := range docs {
					docs[i] = binary.LittleEndian.Uint64(bucket[8*i:])
				}
				return docs, nil
			}
			bucket = bucket[SegmentSize/8:]
			continue
		}
		doc := uint64(0)
		for range count {
			delta, n := binary.Uvarint(bucket)
			if n <= 0 || doc+delta >= SegmentSize {
				return docs, errBucket
			}
			bucket, doc = bucket[n:], doc+delta
			if g == wanted {
				docs[doc/64] |= 1 << (doc % 64)
			}
		}
		if g == wanted {
			return docs, nil
		}
	}
	return docs, nil
}
