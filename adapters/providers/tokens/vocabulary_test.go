package tokens

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"flag"
	"os"
	"strconv"
	"testing"

	"github.com/pkoukk/tiktoken-go-loader/assets"
)

var update = flag.Bool("update", false, "write the vocabulary anew")

// TestVocabulary_IsCurrent: the tokens are those of the published file, in its
// order.
func TestVocabulary_IsCurrent(t *testing.T) {
	data, err := assets.Assets.ReadFile("o200k_base.tiktoken")
	if err != nil {
		t.Fatal(err)
	}
	var tokens [][]byte
	for line := range bytes.Lines(data) {
		word, rank, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		token, err := base64.StdEncoding.DecodeString(string(word))
		if err != nil || len(token) > 255 || string(rank) != strconv.Itoa(len(tokens)) {
			t.Fatalf("token %s of %d bytes: %v", rank, len(token), err)
		}
		tokens = append(tokens, token)
	}
	if *update {
		writeVocabulary(t, tokens)
		return
	}
	e := load()
	if len(e.start) != len(tokens)+1 {
		t.Fatalf("%d tokens, want %d: go generate ./adapters/providers/tokens", len(e.start)-1, len(tokens))
	}
	for rank, want := range tokens {
		if got := e.token(uint32(rank)); !bytes.Equal(got, want) || e.rank(want) != uint32(rank) {
			t.Fatalf("token %d is %q, want %q", rank, got, want)
		}
	}
}

func writeVocabulary(t *testing.T, tokens [][]byte) {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		if _, err := w.Write(append([]byte{byte(len(token))}, token...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("o200k_base.flate", out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
