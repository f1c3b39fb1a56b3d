package incidents

import (
	"fmt"
	"strings"
)

// Forms returns a command of a runbook in the form for each place where Parley runs: a
// host with systemd, compose and Kubernetes. command is that for a host, without a
// comment. A command that is the same everywhere has one form.
func Forms(command string) string {
	name, _, _ := strings.Cut(command, " ")
	with := func(compose, kubernetes string) string {
		lines, width := [][2]string{{command, "host"}, {compose, "compose"}, {kubernetes, "Kubernetes"}}, 0
		for _, l := range lines {
			width = max(width, len(l[0]))
		}
		var b strings.Builder
		for _, l := range lines {
			fmt.Fprintf(&b, "%-*s  # %s\n", width, l[0], l[1])
		}
		return strings.TrimSuffix(b.String(), "\n")
	}
	switch name {
	case "parley":
		return with("docker compose -f deploy/compose.yaml exec parley-1 /"+command, "kubectl exec deploy/parley -- /"+command)
	case "journalctl":
		_, filter, _ := strings.Cut(command, "|")
		return with("docker compose -f deploy/compose.yaml logs --no-log-prefix --since 15m parley-1 parley-2 |"+filter,
			"kubectl logs -l app=parley --since=15m --tail=-1 |"+filter)
	case "systemctl":
		return with("docker compose -f deploy/compose.yaml ps", "kubectl get pods -l app=parley")
	}
	return command
}

// HostCommand returns the form of a step for a host.
func HostCommand(s Step) string {
	first, _, _ := strings.Cut(s.Text, "\n")
	if command, ok := strings.CutSuffix(strings.TrimSpace(first), "# host"); ok {
		return strings.TrimSpace(command)
	}
	return s.Text
}
