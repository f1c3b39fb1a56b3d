package boot_test

import (
	"strings"
	"testing"
)

// The commands of runbooks work beside an instance, with its settings.
func TestAdmin_AsksARunningInstance(t *testing.T) {
	t.Parallel()
	dir := "DATA_DIR=" + dataDir(t)
	p := start(t, dir)
	admin := strings.TrimPrefix(p.admin, "http://")
	env := []string{dir, "ADDR=127.0.0.1:0", "ADMIN_ADDR=" + admin}
	if out := run(t, env, "admin", "get", "/readyz"); out != "ready" {
		t.Errorf("/readyz: %q", out)
	}
	if out := run(t, env, "admin", "get", "debug/models"); !strings.Contains(out, `"demo"`) {
		t.Errorf("/debug/models: %s", out)
	}
	if out, code := fails(t, env, "admin", "get", "/nothing"); code != 1 || !strings.Contains(out, "status 404") {
		t.Errorf("/nothing: exit code %d: %s", code, out)
	}
	for _, args := range [][]string{{"top", "--once", "--interval", "200ms"}, {"top", "--once", "--interval", "200ms", admin, "http://127.0.0.1:1"}} {
		out := run(t, env, args...)
		for _, want := range []string{"Parley  ", "TURNS   0.0/s", "demo", "closed", admin} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: no %q in\n%s", args, want, out)
			}
		}
		if strings.Contains(out, "UNREACHABLE") != (len(args) > 4) {
			t.Errorf("%v: which instances are reached?\n%s", args, out)
		}
	}
	for _, args := range [][]string{{"top", "--interval", "1ms"}, {"top", "http://"}} {
		if out, code := fails(t, env, args...); code != 2 {
			t.Errorf("%v: exit code %d: %s", args, code, out)
		}
	}
}
