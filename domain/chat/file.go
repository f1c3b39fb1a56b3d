package chat

import (
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
