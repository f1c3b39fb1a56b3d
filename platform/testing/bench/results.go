package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// results is the table below what it was measured with.
func (b *bench) results(ctx context.Context, begun time.Time) (string, error) {
	commit := "unknown"
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=10").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	var postgres string
	if err := b.admin.QueryRow(ctx, "SHOW server_version").Scan(&postgres); err != nil {
		return "", err
	}
	return fmt.Sprintf(`# Results of the benchmark

%s, commit %s, in %.0f s. Written by `+"`make bench`"+` (docs/performance.md says what each figure is).

Machine: %s, %d cores, %s of memory, %s, PostgreSQL %s, %s. Load of others at the end: %s. The load generator and PostgreSQL share the machine.
All features are on: authentication, limits, the audit chain, idempotency, budgets, recovery, traces of every tenth request.

%s`, time.Now().UTC().Format("2006-01-02 15:04 MST"), commit, time.Since(begun).Seconds(),
		procField("/proc/cpuinfo", "model name"), runtime.NumCPU(), procField("/proc/meminfo", "MemTotal"), kernel(), postgres, runtime.Version(), loadAverage(), b.table.String()), nil
}

func writeResults(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// The document that shows the table, between two lines.
const (
	document     = "docs/performance.md"
	resultsBegin = "<!-- results: begin -->\n"
	resultsEnd   = "<!-- results: end -->"
)

// writeDocument puts the table into the document.
func writeDocument(rows string) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), resultsBegin)
	_, after, ended := strings.Cut(rest, resultsEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the table", document)
	}
	return os.WriteFile(document, []byte(before+resultsBegin+rows+resultsEnd+after), 0o644)
}

// procField is the value of the first line of a file that begins with a name.
func procField(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func kernel() string {
	text, err := os.ReadFile("/proc/version")
	if err != nil {
		return runtime.GOOS
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
