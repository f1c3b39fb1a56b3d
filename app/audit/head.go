package audit

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"parley/domain/audit"
)

// headLine is the exported form of a head: one line of JSON.
type headLine struct {
	Version   int       `json:"v"`
	Seq       int64     `json:"seq"`
	Hash      string    `json:"hash"`
	Time      time.Time `json:"time"`
	Signature []byte    `json:"signature"`
}

// FormatHead returns the head as one line of JSON, without the line end.
func FormatHead(h audit.Head) []byte {
	line, err := json.Marshal(headLine{Version: 1, Seq: h.Seq, Hash: hex.EncodeToString(h.Hash[:]), Time: h.Time, Signature: h.Signature})
	if err != nil {
		panic(err) // cannot fail: numbers, text and a time
	}
	return line
}

// ReadHeads reads exported heads. Lines that are no heads are counted: a loss of
// power may have cut one.
func ReadHeads(r io.Reader) (heads []audit.Head, unreadable int, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		h, err := parseHead(lines.Bytes())
		if err != nil {
			unreadable++
			continue
		}
		heads = append(heads, h)
	}
	if err := lines.Err(); err != nil {
		return nil, 0, fmt.Errorf("read heads: %w", err)
	}
	return heads, unreadable, nil
}

func parseHead(line []byte) (audit.Head, error) {
	var l headLine
	if err := json.Unmarshal(line, &l); err != nil {
		return audit.Head{}, err
	}
	h := audit.Head{Seq: l.Seq, Time: l.Time.UTC(), Signature: l.Signature}
	hash, err := hex.DecodeString(l.Hash)
	if err != nil || len(hash) != len(h.Hash) || l.Version != 1 {
		return audit.Head{}, errors.New("not a head")
	}
	copy(h.Hash[:], hash)
	return h, nil
}
