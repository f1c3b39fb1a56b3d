package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"parley/platform/config"
	"parley/platform/testing/testenv"
)

// TestSystemd: systemd takes every line of the unit, and calls it exposed to little
// (2.0 of 10 at most).
func TestSystemd(t *testing.T) {
	analyze := testenv.Binary(t, "systemd-analyze")
	unit := filepath.Join("systemd", "parley.service")
	if out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=20", unit).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	// Verify looks for the program that the unit starts.
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	here := filepath.Join(t.TempDir(), "parley.service")
	if err := os.WriteFile(here, []byte(strings.Replace(string(text), "/usr/local/bin/parley", "/bin/true", -1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", here).CombinedOutput()
	if err != nil || strings.Contains(string(out), here) {
		t.Errorf("%v\n%s", err, out)
	}
}

// systemd does not end a server that still drains.
func TestSystemd_LetsRepliesEnd(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("systemd", "parley.service"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^TimeoutStopSec=(\S+)$`).FindSubmatch(text)
	if m == nil {
		t.Fatal("no TimeoutStopSec")
	}
	stop, err := time.ParseDuration(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if least := c.Operations.DrainDelay + c.Operations.ShutdownTimeout + 10*time.Second; stop < least {
		t.Errorf("systemd waits %v, the server may take %v", stop, least)
	}
}
