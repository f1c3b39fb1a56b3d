package check

import (
	"io"
	"log"
	"os"
	"testing"
)

// TestMain silences the loader, which logs each link to the repository's files.
func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	os.Exit(m.Run())
}
