//go:build e2e

package rolling_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"parley/platform/testing/testenv"
	"parley/platform/testing/testworld"
)

// systemctl stands in for systemd: restart ends the service and starts the program
// that /opt/parley/parley is, with the settings of the service.
const systemctl = `#!/bin/bash
set -eu
[ "$*" = "restart parley" ]
if [ -f @HOST@/pid ]; then
	kill -TERM "$(cat @HOST@/pid)"
	while kill -0 "$(cat @HOST@/pid)" 2>/dev/null; do sleep 0.1; done
fi
set -a; . @HOST@/etc/parley/parley.env; set +a
setsid @HOST@/opt/parley/parley serve >>@HOST@/log 2>&1 </dev/null &
echo $! >@HOST@/pid
`

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// The commands of docs/runbooks/rollback.md are run as they are written, one block
// after another, on a host that is a directory: paths begin there. A release is
// rolled back to an earlier one and a backup is restored, and what a user has
// written before is there afterwards.
func TestRollbackRunbook(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(testworld.Root(t), "docs/runbooks/rollback.md"))
	if err != nil {
		t.Fatal(err)
	}
	host := t.TempDir()
	releases := map[string]string{"newest": filepath.Join(testworld.Root(t), "bin", "parley"), "previous": build(t, olderReleases[len(olderReleases)-1])}
	if path := os.Getenv("PARLEY"); path != "" {
		releases["newest"] = path
	}
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(host, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, program := range releases {
		dir := filepath.Join(host, "opt/parley/releases", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(program, filepath.Join(dir, "parley")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(host, "opt/parley/releases/newest/parley"), filepath.Join(host, "opt/parley/parley")); err != nil {
		t.Fatal(err)
	}
	database := testenv.StartPostgres(t)
	write("etc/parley/parley.env", fmt.Sprintf("DATABASE_URL=%s\nAUTH_SECRET=%s\nADDR=%s\nADMIN_ADDR=%s\nDATA_DIR=%s\nDEMO_DELAY=1ms\n",
		database.URL(), "a-secret-of-the-rollback-0123456789", testenv.FreeAddr(), testenv.FreeAddr(), t.TempDir()), 0o600)
	write("bin/systemctl", strings.ReplaceAll(systemctl, "@HOST@", host), 0o755)
	write("bin/parley", "#!/bin/sh\nexec "+host+"/opt/parley/parley \"$@\"\n", 0o755)
	write("var/backups/.keep", "", 0o600)
	t.Cleanup(func() {
		if pid, err := os.ReadFile(filepath.Join(host, "pid")); err == nil {
			exec.Command("kill", "-KILL", strings.TrimSpace(string(pid))).Run()
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(host, "log"))
			t.Logf("output of the service:\n%s", log)
		}
	})
	// Paths of the host, in front of everything else on the way to a program.
	onHost := strings.NewReplacer("/etc/parley", host+"/etc/parley", "/opt/parley", host+"/opt/parley", "/var/backups", host+"/var/backups").Replace
	path := host + "/bin:" + filepath.Dir(testenv.Binary(t, "psql")) + ":" + os.Getenv("PATH")
	shell := func(script string) string {
		t.Helper()
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
		cmd.Env = []string{"PATH=" + path, "HOME=" + host}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v in:\n%s\n%s", err, script, out)
		}
		return string(out)
	}
	settings := "set -a; . " + host + "/etc/parley/parley.env; set +a\n"
	ready := `curl --fail --silent --retry 60 --retry-delay 1 --retry-all-errors "http://$ADMIN_ADDR/readyz"` + "\n"
	send := `curl --silent -o /dev/null -w '%{http_code}' "http://$ADDR/api/chat/messages" -H "Authorization: Bearer $(parley token --user ann)" -H 'Content-Type: application/json' -d '{"content":"What I wrote before"}'`
	read := `curl --fail --silent "http://$ADDR/api/chat/messages" -H "Authorization: Bearer $(parley token --user ann)"`

	shell(settings + "parley migrate up && systemctl restart parley\n" + ready)
	if out := shell(settings + send); out != "201" {
		t.Fatalf("send before: %s", out)
	}
	blocks := shellBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 6 {
		t.Fatalf("only %d blocks of commands were found", len(blocks))
	}
	for i, block := range blocks {
		out := shell(settings + onHost(block[1]))
		t.Logf("block %d:\n%s", i+1, strings.ReplaceAll(out, host, ""))
		switch i {
		case 1:
			testworld.Until(t, "chat is disabled", 30*time.Second, func() bool { return shell(settings+send) == "503" })
		case 3:
			if out := shell(settings + "parley version"); !strings.Contains(out, olderReleases[len(olderReleases)-1]) {
				t.Errorf("after the rollback %s runs", out)
			}
		case 4:
			if !strings.Contains(out, "ahead") {
				t.Errorf("migrate status of the older release: %s", out)
			}
		}
	}
	if out := shell(settings + read); !strings.Contains(out, "What I wrote before") {
		t.Errorf("history afterwards: %s", out)
	}
	if out := shell(settings + "echo $DATABASE_URL; " + send); !strings.Contains(out, "parley_restored") || !strings.HasSuffix(out, "201") {
		t.Errorf("afterwards: %s", out)
	}
}
