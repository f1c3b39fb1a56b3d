package boot_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The deployment checklist, run by the program against itself.
func TestDoctor_ExaminesARunningAPI(t *testing.T) {
	databases(t, func(t *testing.T, env []string) {
		env = append(env, "AUTH_SECRET=a secret of thirty-two characters!", "AUTH_URL=https://app.example")
		i := start(t, env...)
		doctor := func(env ...string) (string, error) {
			var out bytes.Buffer
			cmd := exec.Command(os.Args[0], "doctor", "--url", i.url)
			cmd.Env = environment(append(env, "ADMIN_ADDR="+strings.TrimPrefix(i.admin, "http://")))
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			return out.String(), err
		}
		report, err := doctor(env...)
		if err != nil || strings.Contains(report, "FAIL") {
			t.Errorf("%v\n%s", err, report)
		}
		for _, line := range []string{
			"a request without a credential is refused", "errors are problem details with a request id", "CORS admits no unknown origin",
			"messages over 10,000 characters are refused", "a message gets a reply", "text is returned as it was sent", "the history contains it",
			"a reply can be streamed", "the audit log has an entry for it", "sealed to the last minute", "finished within an hour", "SENTRY_DSN is not set", "the conversation can be deleted", "served at",
		} {
			if !strings.Contains(report, line) {
				t.Errorf("no word of %q in\n%s", line, report)
			}
		}
		report, err = doctor(append(env, "AUTH_SECRET=another secret of thirty-two chars")...)
		if err == nil || !strings.Contains(report, "another AUTH_SECRET") {
			t.Errorf("with a wrong secret: %v\n%s", err, report)
		}
	})
}
