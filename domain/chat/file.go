package chat

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"parley/domain/fault"
)

// MaxFileName is the longest name of a file, in bytes.
const MaxFileName = 200

// FileState says whether a file can be used.
type FileState string

const (
	FileUploading FileState = "uploading" // its bytes are not complete
	FileReady     FileState = "ready"     // can be read and referred to
	FileLost      FileState = "lost"      // ready, but the blob store does not hold its bytes
	FileDeleted   FileState = "deleted"   // its bytes are about to be deleted; no caller sees it
)

// File is a file of one user. Its bytes are in the blob store. Once it is ready,
// only its state changes.
type File struct {
	ID           string
	UserID       string
	Name         string // cleaned by CleanFileName
	MediaType    string // by its content, without parameters
	Size         int64  // bytes
	Digest       string // SHA-256 of the content, hex
	State        FileState
	Blob         string    // key in the blob store
	CreatedAt    time.Time // of the upload
	ReferencedAt time.Time // when a message referred to it last; zero if none has
}

// FileNotFound is the fault of a file that the user does not have, or that is not
// complete. Foreign, unknown and malformed ids are answered alike.
func FileNotFound() *fault.Error {
	return fault.New(fault.NotFound, "File not found or access denied")
}

// CheckFileQuota returns an OverBudget fault if a file of size bytes does not fit
// beside the used bytes of the user's other files. A quota of 0 is none.
func CheckFileQuota(quota, used, size int64) error {
	if quota <= 0 || used+size <= quota {
		return nil
	}
	left := max(quota-used, 0)
	return fault.New(fault.OverBudget, "Your storage for files does not cover this file: %d of %d bytes are left", left, quota).
		With("budget", "files").With("remaining", left)
}

// CleanFileName returns the name under which a file is stored: the last element
// of a path, without control and invisible characters, of at most MaxFileName
// bytes. What is not valid UTF-8 is replaced. A name of which nothing is left
// becomes "file".
func CleanFileName(name string) string {
	name = strings.ToValidUTF8(name, "\uFFFD")
	name = strings.TrimRight(name, `/\`)
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), strings.ContainsRune(`/:*?"<>|`, r):
			return -1
		}
		return r
	}, name)
	name = strings.Trim(strings.Join(strings.Fields(name), " "), ". ")
	if name == "" {
		return "file"
	}
	return shortenFileName(name)
}

// shortenFileName cuts a name to MaxFileName bytes, before its extension.
func shortenFileName(name string) string {
	if len(name) <= MaxFileName {
		return name
	}
	extension := ""
	if dot := strings.LastIndexByte(name, '.'); dot > 0 && len(name)-dot <= 20 {
		extension = name[dot:]
	}
	end := MaxFileName - len(extension)
	for end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + extension
}

// IsText reports whether content of these kinds, as DecideFileType takes them, is
// text.
func IsText(kinds []string) bool { return slices.Contains(kinds, "text/plain") }

// plainText are the kinds of text that no program executes, by the extensions of
// their files.
var plainText = map[string]string{
	"txt": "text/plain", "log": "text/plain", "csv": "text/csv", "md": "text/markdown", "markdown": "text/markdown",
}

// DecideFileType returns the media type under which a file is stored, or a
// MediaType fault that names what is allowed. kinds are what the content is, the
// most specific first. The content decides; the name and the declared type are
// asked only which kind of plain text a text is, since nothing else says so, and
// a wrong answer does no harm. HTML, SVG and other XML are no plain text unless
// they are named so; scripts and source code are.
func DecideFileType(kinds []string, name, declared string, allowed []string) (string, error) {
	if IsText(kinds) {
		if kind := claimedText(name, declared); kind != "" && slices.Contains(allowed, kind) {
			return kind, nil
		}
	}
	for _, kind := range kinds {
		switch {
		case kind == "text/plain" && slices.ContainsFunc(kinds, isMarkup):
			// not shown as what it is
		case slices.Contains(allowed, kind):
			return kind, nil
		}
	}
	return "", fault.New(fault.MediaType, "Files of type %s are not accepted; allowed are %s", kinds[0], strings.Join(allowed, ", "))
}

// claimedText is the kind of plain text that a name, or else a declared type,
// claims; "" if neither does.
func claimedText(name, declared string) string {
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
		if kind := plainText[strings.ToLower(name[dot+1:])]; kind != "" {
			return kind
		}
	}
	declared, _, _ = strings.Cut(declared, ";")
	declared = strings.ToLower(strings.TrimSpace(declared))
	for _, kind := range plainText {
		if kind == declared {
			return kind
		}
	}
	return ""
}

func isMarkup(kind string) bool {
	return kind == "text/html" || kind == "text/xml" || strings.HasSuffix(kind, "+xml")
}
