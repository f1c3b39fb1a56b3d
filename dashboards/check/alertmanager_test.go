package check_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/platform/testing/testenv"
)

const alertmanagerFile = "../alerts/alertmanager.yaml"

func TestAlertmanager_Routes(t *testing.T) {
	run(t, "amtool", "check-config", alertmanagerFile)
	for _, r := range load(t).Alerts() {
		want := map[string]string{"page": "pager", "ticket": "tickets", "none": "deadman"}[r.Labels["severity"]]
		args := []string{"config", "routes", "test", "--config.file=" + alertmanagerFile, "alertname=" + r.Alert}
		for name, value := range r.Labels {
			args = append(args, name+"="+value)
		}
		fields := strings.Fields(run(t, "amtool", args...)) // a warning may come first
		if got := fields[len(fields)-1]; got != want {
			t.Errorf("%s of severity %s goes to %s, not to %s", r.Alert, r.Labels["severity"], got, want)
		}
	}
}

// A running Alertmanager says what silences what; amtool cannot.
func TestAlertmanager_Inhibition(t *testing.T) {
	api := startAlertmanager(t)
	alert := func(name, severity, job string, more ...string) map[string]string {
		l := map[string]string{"alertname": name, "severity": severity, "team": "chat"}
		if job != "" {
			l["job"] = job
		}
		for i := 0; i+1 < len(more); i += 2 {
			l[more[i]] = more[i+1]
		}
		return l
	}
	post(t, api, []map[string]string{
		alert("ChatAbsent", "page", "gone"),
		alert("ChatPoolSaturated", "ticket", "gone"),
		alert("ChatWatchdog", "none", ""),
		alert("ChatDependencyDown", "page", "db", "dependency", "database"),
		alert("ChatApiErrorBudgetBurn", "page", "db", "slo", "api", "window", "1h"),
		alert("ChatUnpricedModel", "ticket", "db"),
		alert("ChatInstanceNotReady", "ticket", "db", "dependency", "database"),
		alert("ChatStatementsFailing", "ticket", "db", "error_type", "connect"),
		alert("ChatInstanceNotReady", "ticket", "one", "dependency", "database"),
		alert("ChatStatementsFailing", "ticket", "one", "error_type", "timeout"),
		alert("ChatStatementsFailing", "ticket", "slow", "error_type", "40P01"),
		alert("ChatAllProvidersUnavailable", "page", "ai"),
		alert("ChatTurnErrorBudgetBurn", "page", "ai", "slo", "turns", "window", "1h"),
		alert("ChatApiErrorBudgetBurn", "page", "slow", "slo", "api", "window", "1h"),
		alert("ChatApiErrorBudgetBurn", "ticket", "slow", "slo", "api", "window", "3d"),
		alert("ChatFirstWordsBudgetBurn", "ticket", "slow", "slo", "first-words", "window", "3d"),
		alert("ChatLimiterFailOpen", "ticket", "slow"),
		alert("ChatSpendWithoutLimiter", "page", "slow"),
		alert("ChatRedisDown", "ticket", "slow"),
		alert("ChatBackgroundFailing", "ticket", "slow", "task", "feed"),
		alert("ChatBackgroundFailing", "ticket", "other", "task", "feed"),
		alert("ChatDatabaseLocked", "page", "locked"),
		alert("ChatDependencyDown", "page", "locked", "dependency", "database"),
		alert("ChatTurnErrorBudgetBurn", "page", "locked", "slo", "turns", "window", "1h"),
		alert("ChatProviderFrozen", "page", "frozen", "provider", "openai"),
		alert("ChatProviderDegraded", "ticket", "frozen", "provider", "openai"),
		alert("ChatFirstWordsSlow", "page", "frozen"),
		alert("ChatProviderKeyRefused", "page", "key", "provider", "openai"),
		alert("ChatProviderDegraded", "ticket", "key", "provider", "anthropic"),
		alert("ChatRouteFailing", "page", "release"),
		alert("ChatApiErrorBudgetBurn", "page", "release", "slo", "api", "window", "1h"),
		alert("ChatDependencyDown", "page", "sessions", "dependency", "sessions"),
		alert("ChatApiErrorBudgetBurn", "page", "sessions", "slo", "api", "window", "1h"),
	})
	want := map[string]bool{
		"ChatAbsent gone": true, "ChatPoolSaturated gone": false, "ChatWatchdog ": true,
		"ChatDependencyDown db": true, "ChatApiErrorBudgetBurn db 1h": false, "ChatUnpricedModel db": true,
		"ChatInstanceNotReady db": false, "ChatStatementsFailing db": false,
		"ChatInstanceNotReady one": true, "ChatStatementsFailing one": false, "ChatStatementsFailing slow": true,
		"ChatAllProvidersUnavailable ai": true, "ChatTurnErrorBudgetBurn ai 1h": false,
		"ChatApiErrorBudgetBurn slow 1h": true, "ChatApiErrorBudgetBurn slow 3d": false, "ChatFirstWordsBudgetBurn slow 3d": true,
		"ChatLimiterFailOpen slow": false, "ChatRedisDown slow": true, "ChatSpendWithoutLimiter slow": true,
		"ChatBackgroundFailing slow": false, "ChatBackgroundFailing other": true,
		"ChatDatabaseLocked locked": true, "ChatDependencyDown locked": false, "ChatTurnErrorBudgetBurn locked 1h": false,
		"ChatProviderFrozen frozen": true, "ChatProviderDegraded frozen": false, "ChatFirstWordsSlow frozen": false,
		"ChatProviderKeyRefused key": true, "ChatProviderDegraded key": true,
		"ChatRouteFailing release": true, "ChatApiErrorBudgetBurn release 1h": false,
		"ChatDependencyDown sessions": true, "ChatApiErrorBudgetBurn sessions 1h": true,
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		got, wrong := told(t, api), []string{}
		for name, heard := range want {
			if state, there := got[name]; !there || state != heard {
				wrong = append(wrong, fmt.Sprintf("%s is told: %v, want %v", name, state, heard))
			}
		}
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(deadline) {
			slices.Sort(wrong)
			t.Fatal(strings.Join(wrong, "\n"))
		}
	}
}

func startAlertmanager(t *testing.T) string {
	t.Helper()
	addr := testenv.FreeAddr()
	cmd := exec.Command(testenv.Binary(t, "prometheus-alertmanager"), "--config.file="+alertmanagerFile,
		"--storage.path="+filepath.Join(t.TempDir(), "data"), "--web.listen-address="+addr, "--cluster.listen-address=")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + addr + "/-/ready")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return "http://" + addr + "/api/v2/alerts"
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	t.Fatalf("alertmanager does not answer\n%s", log.String())
	return ""
}

func post(t *testing.T, api string, alerts []map[string]string) {
	t.Helper()
	var body []map[string]any
	for _, l := range alerts {
		body = append(body, map[string]any{"labels": l})
	}
	encoded, _ := json.Marshal(body)
	resp, err := http.Post(api, "application/json", bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, answer)
	}
}

// told says of every alert whether a receiver gets it.
func told(t *testing.T, api string) map[string]bool {
	t.Helper()
	resp, err := http.Get(api)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var alerts []struct {
		Labels map[string]string
		Status struct{ State string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&alerts); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, a := range alerts {
		name := a.Labels["alertname"] + " " + a.Labels["job"]
		if w := a.Labels["window"]; w != "" {
			name += " " + w
		}
		out[name] = a.Status.State == "active"
	}
	return out
}
