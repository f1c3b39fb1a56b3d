package incidents

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/adapters/sqlstore"
	"parley/dashboards/check"
	"parley/platform/ops"
	"parley/platform/testing/testenv"
)

var update = flag.Bool("update", false, "write the forms of the commands in docs/runbooks anew, from the first line of each")

const runbooks = "../../../docs/runbooks"

// eachStep calls visit with every query and command of every runbook.
func eachStep(t *testing.T, visit func(t *testing.T, s Step)) {
	t.Helper()
	files, err := filepath.Glob(runbooks + "/*.md")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d runbooks, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".md"), func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range Steps(string(content)) {
				visit(t, s)
			}
		})
	}
}

// ours begins a command that differs between a host, compose and Kubernetes.
var ours = regexp.MustCompile(`^(parley|journalctl|systemctl) `)

// notThere are programs that neither the image nor every host has.
var notThere = regexp.MustCompile(`(?m)^(psql|redis-cli|docker|kubectl|curl[^\n]*ADMIN)\b`)

// TestRunbooks_CommandsHaveEveryForm: a reader finds the command for where Parley
// runs. Write the form for a host as the only line of a block and run this test with
// -update.
func TestRunbooks_CommandsHaveEveryForm(t *testing.T) {
	const how = "write the command for a host as the only line of its block, with parley admin or journalctl -u parley, and run: go test ./platform/testing/incidents -run TestRunbooks_CommandsHaveEveryForm -update"
	if *update {
		files, _ := filepath.Glob(runbooks + "/Chat*.md")
		for _, path := range files {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(withForms(string(content))), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	eachStep(t, func(t *testing.T, s Step) {
		// Other runbooks than those of alerts are procedures of several commands.
		if s.Language != "sh" || !strings.Contains(t.Name(), "/Chat") {
			return
		}
		command := HostCommand(s)
		if ours.MatchString(command) && s.Text != Forms(command) {
			t.Errorf("line %d: the forms are\n%s\nwant\n%s\n%s", s.Line, s.Text, Forms(command), how)
		}
		if notThere.MatchString(command) {
			t.Errorf("line %d: not every reader has the program of %q; %s", s.Line, command, how)
		}
	})
}

// withForms replaces the commands of a runbook by all their forms.
func withForms(markdown string) string {
	lines := strings.Split(markdown, "\n")
	steps := Steps(markdown)
	for i := len(steps) - 1; i >= 0; i-- {
		s := steps[i]
		if command := HostCommand(s); s.Language == "sh" && ours.MatchString(command) && !strings.Contains(command, "\n") {
			after := s.Line + 1 + strings.Count(s.Text, "\n")
			lines = append(lines[:s.Line:s.Line], append([]string{Forms(command)}, lines[after:]...)...)
		}
	}
	return strings.Join(lines, "\n")
}

func TestWithForms_ReplacesTheBlock(t *testing.T) {
	got := withForms("a\n```sh\nparley admin redis\n```\nb\n```sh\ncurl x\n```\n")
	want := "a\n```sh\n" + Forms("parley admin redis") + "\n```\nb\n```sh\ncurl x\n```\n"
	if got != want || withForms(got) != got {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestRunbooks_CommandsParse(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	eachStep(t, func(t *testing.T, s Step) {
		switch s.Language {
		case "sh":
			cmd := exec.Command(bash, "-n")
			cmd.Stdin = strings.NewReader(s.Text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("line %d: %s", s.Line, out)
			}
		case "promql", "sql", "json", "text":
		default:
			t.Errorf("line %d: a block is %q; it must be sh, promql, sql, json or text", s.Line, s.Language)
		}
	})
}

// TestRunbooks_PromQL: every query parses, and its metrics exist.
func TestRunbooks_PromQL(t *testing.T) {
	suite, err := check.Load("../../../dashboards")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range suite.Catalogue {
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			known[m.Name+suffix] = true
		}
	}
	for _, r := range suite.Recordings() {
		known[r.Record] = true
	}
	eachStep(t, func(t *testing.T, s Step) {
		if s.Language != "promql" {
			return
		}
		names, err := metrics(s.Text)
		if err != nil {
			t.Errorf("line %d: %v", s.Line, err)
		}
		for _, name := range names {
			if !known[name] {
				t.Errorf("line %d: there is no metric %s", s.Line, name)
			}
		}
	})
}

// TestRunbooks_NamedQueriesExist: parley admin sql knows every name.
func TestRunbooks_NamedQueriesExist(t *testing.T) {
	call := regexp.MustCompile(`parley admin sql ([a-z]+)`)
	files, _ := filepath.Glob(runbooks + "/*.md")
	used := 0
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllSubmatch(content, -1) {
			used++
			if _, err := ops.FindQuery(string(m[1])); err != nil {
				t.Errorf("%s: there is no query %s", filepath.Base(path), m[1])
			}
		}
	}
	if used == 0 {
		t.Error("no runbook uses parley admin sql")
	}
}

// TestRunbooks_SQL: PostgreSQL prepares every statement on the schema of the
// migrations.
func TestRunbooks_SQL(t *testing.T) {
	url := testenv.Postgres(t)
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: url, Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	eachStep(t, func(t *testing.T, s Step) {
		if s.Language != "sql" {
			return
		}
		statement := strings.TrimSuffix(strings.TrimSpace(s.Text), ";")
		if _, err := conn.Prepare(t.Context(), "", statement); err != nil {
			t.Errorf("line %d: %v\n%s", s.Line, err, statement)
		}
	})
}

// TestForms_OfEveryKind: what follows a pipe runs where the reader is, in every form.
func TestForms_OfEveryKind(t *testing.T) {
	for command, want := range map[string][]string{
		"parley admin get '/debug/pprof/heap?debug=1' | head -40": {"exec parley-1 /parley admin get '/debug/pprof/heap?debug=1' | head -40  ", "kubectl exec deploy/parley -- /parley admin get '/debug/pprof/heap?debug=1' | head -40  "},
		"journalctl -u parley --since -15m -o cat | grep x":       {"parley-1 parley-2 | grep x  ", "--tail=-1 | grep x  "},
		"systemctl status parley --no-pager":                      {"compose.yaml ps", "kubectl get pods"},
	} {
		got := Forms(command)
		for _, part := range append(want, command, "# host", "# compose", "# Kubernetes") {
			if !strings.Contains(got, part) {
				t.Errorf("no %q in\n%s", part, got)
			}
		}
		if back := HostCommand(Step{Language: "sh", Text: got}); back != command {
			t.Errorf("the host's form is %q, want %q", back, command)
		}
	}
	if got := Forms("curl x"); got != "curl x" || bytes.Contains([]byte(got), []byte("#")) {
		t.Errorf("%q", got)
	}
}
