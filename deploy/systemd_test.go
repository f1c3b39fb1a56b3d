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

// TestSystemd: systemd takes every line of the units, and calls the services exposed
// to little (2.0 of 10 at most).
func TestSystemd(t *testing.T) {
	analyze := testenv.Binary(t, "systemd-analyze")
	units, err := filepath.Glob(filepath.Join("systemd", "*"))
	if err != nil || len(units) < 3 {
		t.Fatal(units, err)
	}
	here := t.TempDir() // verify looks for the programs that units start, and for other units beside them
	for _, unit := range units {
		text := strings.ReplaceAll(read(t, unit, nil), "/usr/local/bin/parley", "/bin/true")
		if err := os.WriteFile(filepath.Join(here, filepath.Base(unit)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, unit := range units {
		if strings.HasSuffix(unit, ".service") {
			if out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=20", unit).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", unit, err, out)
			}
		}
		copied := filepath.Join(here, filepath.Base(unit))
		out, err := exec.Command(analyze, "verify", "--man=no", copied).CombinedOutput()
		if err != nil || strings.Contains(string(out), copied) {
			t.Errorf("%v\n%s", err, out)
		}
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
