//go:build linux

package boot

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// Pages of the executable are given back, and the program goes on as before.
func TestReleaseExecutable(t *testing.T) {
	before := residentFile(t)
	releaseExecutable()
	if after := residentFile(t); after > before-4096 {
		t.Errorf("%d kB of files are resident, %d kB before", after, before)
	}
}

// residentFile returns how much of mapped files is resident, in kB.
func residentFile(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^RssFile:\s+(\d+) kB$`).FindSubmatch(status)
	if m == nil {
		t.Fatal("no RssFile")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
