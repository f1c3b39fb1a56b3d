package boot_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/adapters/sqlstore"
)

// command runs a command of the program that may fail.
func command(t *testing.T, env []string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = environment(env)
	raw, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(raw), cmd.ProcessState.ExitCode()
}

// statements changes the database behind the program's back, without triggers.
func statements(t *testing.T, env []string, list ...string) {
	t.Helper()
	url := ""
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if name == "DATABASE_URL" || name == "DATA_DIR" && url == "" {
			url = value
		}
	}
	if !strings.HasPrefix(url, "postgres") {
		url = filepath.Join(url, "parley.db")
	}
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: url, Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if store.Dialect() == "postgres" {
		list = append([]string{"ALTER TABLE audit_logs DISABLE TRIGGER USER", "ALTER TABLE audit_chain DISABLE TRIGGER USER"}, list...)
	} else {
		list = append([]string{"DROP TRIGGER audit_logs_delete", "DROP TRIGGER audit_chain_delete"}, list...)
	}
	for _, s := range list {
		if _, err := store.DB().Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// An operator's day: the log is sealed while the program serves and verifies
// beside it, a user is erased, an attacker tampers with it, and cuts off its end.
func TestAudit_VerifyAndErase(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		heads := filepath.Join(t.TempDir(), "heads.jsonl")
		env = append(env, "AUDIT_HEADS="+heads)
		p := start(t, env...)
		auth := bearer(t, env, "alice-canary")
		for _, user := range []string{"alice-canary", "bob"} {
			for range 3 {
				if a := call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), bearer(t, env, user)); a.status != http.StatusCreated {
					t.Fatalf("send: %d %s", a.status, a.body)
				}
			}
		}
		verify := func(want int, args ...string) string {
			t.Helper()
			out, code := command(t, env, append([]string{"audit", "verify"}, args...)...)
			if code != want {
				t.Fatalf("parley audit verify: %d, want %d\n%s", code, want, out)
			}
			if strings.Contains(out, "canary") {
				t.Errorf("the report names a user: %s", out)
			}
			return out
		}
		eventually(t, "a head", func() bool { raw, _ := os.ReadFile(heads); return len(raw) > 0 })
		verify(0) // while it serves

		if out := run(t, env, "user", "erase", "--user", "alice-canary"); out != "erased" {
			t.Errorf("erase: %q", out)
		}
		if a := call(t, "GET", p.url+"/api/chat/messages", "", bearer(t, env, "alice-canary")); a.status != http.StatusOK || strings.Contains(a.body, "echo") {
			t.Errorf("after the erasure: %d %s", a.status, a.body)
		}
		eventually(t, "the session from before to end", func() bool {
			return call(t, "GET", p.url+"/api/chat/messages", "", auth).status == http.StatusUnauthorized
		})
		if out, code := command(t, env, "user", "erase", "--user", "nobody"); code != 1 || !strings.Contains(out, "Nothing of this user is stored") {
			t.Errorf("erase an unknown user: %d %s", code, out)
		}
		if code := p.terminate(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		out := verify(0)
		if !strings.Contains(out, " 0 entries waiting to be sealed, 0 findings") {
			t.Errorf("an orderly end leaves something: %s", out)
		}
		info, err := os.Stat(heads)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("heads: %v, %v", info, err)
		}

		copied := filepath.Join(t.TempDir(), "copy.jsonl")
		raw, err := os.ReadFile(heads)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, append(raw, `{"v":1,"seq":`...), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := verify(0, "--heads", copied); !strings.Contains(out, "1 lines of the heads cannot be read") {
			t.Errorf("half a head: %s", out)
		}
		if out, code := command(t, append(env, "AUTH_SECRET=other"), "audit", "verify"); code != 1 || !strings.Contains(out, "AUDIT_KEY") {
			t.Errorf("with a wrong secret: %d %s", code, out)
		}

		statements(t, env, "DELETE FROM audit_chain WHERE seq = (SELECT max(seq) FROM audit_chain)")
		if out := verify(1); !strings.Contains(out, "truncated seq=") {
			t.Errorf("cut: %s", out)
		}
	})
}

func TestAudit_TamperedEntry(t *testing.T) {
	t.Parallel()
	env := []string{"DATA_DIR=" + dataDir(t)}
	p := start(t, env...)
	if a := call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), bearer(t, env, "alice")); a.status != http.StatusCreated {
		t.Fatalf("send: %d %s", a.status, a.body)
	}
	p.terminate()
	out, code := command(t, env, "audit", "verify")
	if code != 0 || !strings.Contains(out, "no heads to compare with") {
		t.Errorf("without heads: %d %s", code, out)
	}
	statements(t, env, "DELETE FROM audit_logs")
	if out, code = command(t, env, "audit", "verify"); code != 1 || !strings.Contains(out, "deleted seq=1 entry=") {
		t.Errorf("an entry was deleted: %d %s", code, out)
	}
}

// Heads go to an object store as objects that are written once.
func TestAudit_HeadsAsObjects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	objects := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		raw, err := io.ReadAll(r.Body)
		_, taken := objects[r.URL.Path]
		user, password, _ := r.BasicAuth()
		switch {
		case err != nil || r.Method != http.MethodPut || r.Header.Get("If-None-Match") != "*" || r.URL.RawQuery != "sig=1" || user+password != "up":
			http.Error(w, "unexpected", http.StatusBadRequest)
		case taken:
			http.Error(w, "there", http.StatusPreconditionFailed)
		default:
			objects[r.URL.Path] = string(raw)
		}
	}))
	defer server.Close()
	env := []string{"DATA_DIR=" + dataDir(t), "AUDIT_HEADS=" + strings.Replace(server.URL, "://", "://u:p@", 1) + "/bucket/heads?sig=1"}
	p := start(t, env...)
	if a := call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), bearer(t, env, "alice")); a.status != http.StatusCreated {
		t.Fatalf("send: %d %s", a.status, a.body)
	}
	p.terminate()
	p = start(t, env...) // exports the same head again, and is told that it is there
	p.terminate()
	if strings.Contains(p.out.String(), "background work failed") {
		t.Error("an object that is there already is a failure")
	}
	mu.Lock()
	defer mu.Unlock()
	last := ""
	for path := range objects {
		last = max(last, path)
	}
	if !strings.HasPrefix(last, "/bucket/heads/0000000000000000000") || !strings.HasSuffix(last, ".json") {
		t.Errorf("objects %v", objects)
	}
	file := filepath.Join(t.TempDir(), "heads")
	all := ""
	for _, object := range objects {
		all += object
	}
	if err := os.WriteFile(file, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := command(t, env, "audit", "verify", "--heads", file)
	if code != 0 || !strings.Contains(out, fmt.Sprintf("%d heads compared", len(objects))) {
		t.Errorf("verify: %d %s", code, out)
	}
}
