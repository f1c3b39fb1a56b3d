package boot_test

import (
	"net/http"
	"strings"
	"testing"

	"parley/platform/testing/testenv"
)

// What is stored through one instance is read through another one at once, of whatever
// a replica answers. Without the replica Parley is degraded and ready, and nothing
// fails. Its password is shown nowhere.
func TestServe_Replicas(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a server, which go test -short does not start")
	}
	primary := testenv.StartPostgres(t)
	standby := testenv.StartStandby(t, primary)
	replica := strings.Replace(standby.URL(), "parley@", "parley:canary-password@", 1)
	env := []string{"DATA_DIR=" + t.TempDir(), "AUTH_SECRET=" + testSecret, "MIGRATE_ON_START=true", "DATABASE_URL=" + primary.URL(), "DATABASE_REPLICA_URLS=" + replica}
	one, two := start(t, env...), start(t, env...)
	auth := bearer(t, env, "ann")
	exchange := func(text string) {
		t.Helper()
		if a := call(t, "POST", one.url+"/api/chat/messages", message("!echo "+text), auth); a.status != http.StatusOK && a.status != http.StatusCreated {
			t.Fatalf("send: %d %s", a.status, a.body)
		}
		if a := call(t, "GET", two.url+"/api/chat/messages?limit=10", "", auth); a.status != http.StatusOK || !strings.Contains(a.body, text) {
			t.Fatalf("history after %s: %d %s", text, a.status, a.body)
		}
	}
	metric := func(line string) func() bool {
		return func() bool { return strings.Contains(call(t, "GET", two.admin+"/metrics", "").body, "\n"+line) }
	}
	name := standby.Addr()
	eventually(t, "a read that the replica answers", func() bool {
		exchange("before")
		return !metric(`chat_replicated_reads_total{reason="",source="replica"} 0`)()
	})
	eventually(t, "the replica in metrics", metric(`chat_replica_used{replica="`+name+`"} 1`))
	eventually(t, "its pool in metrics", metric(`go_sql_max_open_connections{db_name="replica `+name+`"} 12`))
	eventually(t, "health", func() bool {
		return at(call(t, "GET", two.url+"/api/health", "").json(t), "components", "replicas", "status") == "ok"
	})

	standby.Kill9()
	eventually(t, "a replica that is not used", metric(`chat_replica_used{replica="`+name+`"} 0`))
	for range 10 {
		exchange("without it")
	}
	eventually(t, "degraded health", func() bool {
		h := call(t, "GET", two.url+"/api/health", "").json(t)
		return at(h, "status") == "degraded" && at(h, "components", "replicas", "status") == "degraded"
	})
	if a := call(t, "GET", two.admin+"/readyz", ""); a.status != http.StatusOK {
		t.Errorf("readiness: %d %s", a.status, a.body)
	}
	standby.Restart()
	eventually(t, "the replica again", metric(`chat_replica_used{replica="`+name+`"} 1`))
	exchange("with it again")

	same := strings.Replace(strings.Replace(primary.URL(), "127.0.0.1", "localhost", 1), "parley@", "parley:canary-password@", 1)
	out, code := fails(t, append(env, "DATABASE_REPLICA_URLS="+same, "ADDR="+testenv.FreeAddr(), "ADMIN_ADDR="+testenv.FreeAddr(), "DATA_DIR="+t.TempDir()), "serve")
	if code != 2 || !strings.Contains(out, "is the server of DATABASE_URL") {
		t.Errorf("exit code %d: %s", code, out)
	}
	for _, text := range []string{one.out.String(), two.out.String(), out, call(t, "GET", two.admin+"/metrics", "").body, call(t, "GET", two.url+"/api/health", "").body} {
		if strings.Contains(text, "canary-password") {
			t.Errorf("the password of the replica is in: %s", text)
		}
	}
	if !strings.Contains(two.out.String(), "replicas") {
		t.Errorf("the log does not speak of the replica:\n%s", two.out)
	}
}
