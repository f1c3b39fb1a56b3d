package blobs

import (
	"bytes"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// DetectBytes is how many bytes from the beginning of a file Detect looks at.
const DetectBytes = 4096

// Detect returns what content is, by its first bytes: media types without
// parameters, the most specific first, such as application/geo+json,
// application/json and text/plain. Content that is nothing known is
// application/octet-stream.
func Detect(head []byte) (kinds []string) {
	for m := mimetype.Detect(head); m != nil; m = m.Parent() {
		kind, _, _ := strings.Cut(m.String(), ";")
		kinds = append(kinds, kind)
	}
	// A document of another type may have this mark within its first kilobyte.
	if kinds[0] == "application/pdf" && !bytes.HasPrefix(head, []byte("%PDF-")) {
		return []string{"application/octet-stream"}
	}
	return kinds
}
