//go:build e2e

package boot_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"parley/platform/testing/testenv"
)

// TestWebhooks_NodeExample runs the receiver of docs/webhooks.md, during a
// rotation of the secret: it accepts what Parley sends and nothing else.
func TestWebhooks_NodeExample(t *testing.T) {
	testenv.Binary(t, "npm") // which brings node
	text, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```js\n(.*?)```").FindSubmatch(text)
	if example == nil {
		t.Fatal("docs/webhooks.md has no example")
	}
	file := filepath.Join(t.TempDir(), "receiver.mjs")
	if err := os.WriteFile(file, example[1], 0o644); err != nil {
		t.Fatal(err)
	}
	addr := testenv.FreeAddr()
	_, port, _ := strings.Cut(addr, ":")
	cmd := exec.Command("node", file)
	printed := &output{}
	cmd.Stdout, cmd.Stderr = printed, printed
	cmd.Env = append(os.Environ(), "PORT="+port, "WEBHOOK_SECRET="+webhookSecret)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	forge := func() (status int) {
		resp, err := http.Post("http://"+addr, "application/json", strings.NewReader(`{"type":"run.ended","data":{}}`))
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	eventually(t, "the receiver to refuse what is not signed", func() bool { return forge() == http.StatusUnauthorized })

	const next = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	env := []string{"DATA_DIR=" + dataDir(t), "AUTH_SECRET=" + testSecret, "WEBHOOK_URL=http://" + addr + "/hooks", "WEBHOOK_SECRET=" + next + "," + webhookSecret}
	p := start(t, env...)
	if got := call(t, "POST", p.url+"/api/chat/messages", message("!echo hi"), bearer(t, env, "ann")); got.status != http.StatusCreated {
		t.Fatalf("send: %d %s", got.status, got.body)
	}
	eventually(t, "the event to be printed", func() bool { return printed.String() == "run.ended ann\n" })
	eventually(t, "the delivery to be recorded", func() bool {
		return strings.Contains(run(t, env, "webhook", "list", "--state", "delivered"), "204")
	})
}
