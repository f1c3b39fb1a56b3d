package portstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/domain/fault"
	"parley/ports"
)

// Blobs holds every blob store to the same contract. open returns a new, empty
// store that lives as long as the test.
func Blobs(t *testing.T, open func(t testing.TB) ports.Blobs) {
	for name, test := range map[string]func(*blobBench){
		"PutOpen":         (*blobBench).putOpen,
		"PutReplaces":     (*blobBench).putReplaces,
		"PutBound":        (*blobBench).putBound,
		"PutBrokenReader": (*blobBench).putBroken,
		"PutCancelled":    (*blobBench).putCancelled,
		"Ranges":          (*blobBench).ranges,
		"Unknown":         (*blobBench).unknown,
		"List":            (*blobBench).list,
	} {
		t.Run(name, func(t *testing.T) { test(&blobBench{t, open(t)}) })
	}
}

type blobBench struct {
	*testing.T
	ports.Blobs
}

const aBlob = "0a/00112233445566778899aabbccddeeff"

func (b *blobBench) put(key, content string) {
	b.Helper()
	size, err := b.Put(b.Context(), key, "text/plain", strings.NewReader(content), 1<<20)
	if err != nil || size != int64(len(content)) {
		b.Fatalf("put %d bytes: %d, %v", len(content), size, err)
	}
}

func (b *blobBench) read(key string, offset, length int64) string {
	b.Helper()
	r, err := b.Open(b.Context(), key, offset, length)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		b.Fatal(err)
	}
	return string(content)
}

// keys lists all keys below a prefix.
func (b *blobBench) keys(prefix string) (keys []string) {
	b.Helper()
	for found, err := range b.List(b.Context(), prefix) {
		if err != nil {
			b.Fatal(err)
		}
		if found.ModifiedAt.IsZero() {
			b.Errorf("%s: not dated", found.Key)
		}
		keys = append(keys, found.Key)
	}
	return keys
}

func (b *blobBench) putOpen() {
	long := strings.Repeat("0123456789abcdef", 1<<14) // of several buffers
	for key, content := range map[string]string{aBlob: "hello", aBlob + "1": long, aBlob + "2": "x"} {
		b.put(key, content)
		if got := b.read(key, 0, -1); got != content {
			b.Errorf("%s: %d bytes, want %d", key, len(got), len(content))
		}
		if s, err := b.Stat(b.Context(), key); err != nil || s.Key != key || s.Size != int64(len(content)) {
			b.Errorf("stat: %+v, %v", s, err)
		}
	}
}

func (b *blobBench) putReplaces() {
	b.put(aBlob, "first, which is longer")
	b.put(aBlob, "second")
	if got := b.read(aBlob, 0, -1); got != "second" {
		b.Errorf("%q", got)
	}
}

func (b *blobBench) putBound() {
	for _, size := range []int{11, 70_000, 300_000} {
		_, err := b.Put(b.Context(), aBlob, "", bytes.NewReader(make([]byte, size)), 10)
		if !fault.Is(err, fault.TooLarge) {
			b.Errorf("%d bytes: %v", size, err)
		}
	}
	b.empty()
	if n, err := b.Put(b.Context(), aBlob, "", bytes.NewReader(make([]byte, 10)), 10); err != nil || n != 10 {
		b.Errorf("a blob of the longest length: %d, %v", n, err)
	}
}

// empty fails the test if anything is stored.
func (b *blobBench) empty() {
	b.Helper()
	if keys := b.keys(""); len(keys) > 0 {
		b.Errorf("left behind: %v", keys)
	}
}

func (b *blobBench) putBroken() {
	broken := errors.New("the client has gone")
	for _, size := range []int{0, 3, 200_000} {
		_, err := b.Put(b.Context(), aBlob, "", io.MultiReader(bytes.NewReader(make([]byte, size)), brokenReader{broken}), 1<<20)
		if !errors.Is(err, broken) {
			b.Errorf("after %d bytes: %v", size, err)
		}
	}
	b.empty()
}

type brokenReader struct{ error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.error }

func (b *blobBench) putCancelled() {
	ctx, cancel := context.WithCancel(b.Context())
	content := io.MultiReader(strings.NewReader("half of it"), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	}))
	if _, err := b.Put(ctx, aBlob, "", content, 1<<20); !fault.Is(err, fault.Canceled) {
		b.Errorf("put: %v", err)
	}
	b.empty()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (b *blobBench) ranges() {
	b.put(aBlob, "0123456789")
	for _, c := range []struct {
		offset, length int64
		want           string
	}{{0, -1, "0123456789"}, {0, 3, "012"}, {3, 4, "3456"}, {7, -1, "789"}, {9, 1, "9"}, {8, 100, "89"}} {
		if got := b.read(aBlob, c.offset, c.length); got != c.want {
			b.Errorf("from %d, %d bytes: %q, want %q", c.offset, c.length, got, c.want)
		}
	}
}

func (b *blobBench) unknown() {
	if _, err := b.Open(b.Context(), aBlob, 0, -1); !fault.Is(err, fault.NotFound) {
		b.Errorf("open: %v", err)
	}
	if _, err := b.Stat(b.Context(), aBlob); !fault.Is(err, fault.NotFound) {
		b.Errorf("stat: %v", err)
	}
	if err := b.Delete(b.Context(), aBlob); err != nil {
		b.Errorf("delete: %v", err)
	}
	b.put(aBlob, "x")
	for range 2 {
		if err := b.Delete(b.Context(), aBlob); err != nil {
			b.Errorf("delete: %v", err)
		}
	}
	b.empty()
}

func (b *blobBench) list() {
	b.empty()
	if keys := b.keys("0a/"); keys != nil {
		b.Errorf("nothing, and %v", keys)
	}
	for _, key := range []string{"ff/1", "0a/2", "0a/10", "0b/1", "a0/1"} {
		b.put(key, key)
	}
	for prefix, want := range map[string][]string{
		"": {"0a/10", "0a/2", "0b/1", "a0/1", "ff/1"}, "0a/": {"0a/10", "0a/2"}, "0a/1": {"0a/10"}, "0c/": nil,
	} {
		if d := cmp.Diff(want, b.keys(prefix)); d != "" {
			b.Errorf("%q: %s", prefix, d)
		}
	}
	for range b.List(b.Context(), "") {
		break // need not be read to its end
	}
}
