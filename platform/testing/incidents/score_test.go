package incidents

import (
	"strings"
	"testing"
)

func TestWriteScores_ReplacesWhatRan(t *testing.T) {
	document := "before\n" + scoreBegin + "\n| Incident | x |\n|---|---|\n| one | old |\n| gone | old |\n| two | kept |\n" + scoreEnd + "\nafter\n"
	got, err := WriteScores(document, []string{"one", "two", "three"}, []Score{{Incident: "one", Alert: "ChatX", Seconds: 60, Pages: "none", Step: "a | b\nc", Found: true}})
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(got, "\n")
	if len(rows) != 9 || rows[4] != "| one | ChatX | 60 | none | `a \\| b` | yes |" || rows[5] != "| two | kept |" || rows[0] != "before" || rows[7] != "after" {
		t.Errorf("%q", rows)
	}
	healthy, err := WriteScores(got, []string{"one"}, []Score{{Incident: "one", Pages: "none"}})
	if err != nil || !strings.Contains(healthy, "\n| one | none | – | none | – | – |\n") {
		t.Errorf("%v\n%s", err, healthy)
	}
	if again, err := WriteScores(got, []string{"one", "two", "three"}, nil); err != nil || again != got {
		t.Errorf("a second time, it changes: %v\n%s", err, again)
	}
	if _, err := WriteScores("nothing", nil, nil); err == nil {
		t.Error("a document without the markers is accepted")
	}
}

func TestFirstStep_OfEveryKind(t *testing.T) {
	steps := Steps("text\n```sh\na\nb\n```\n1. x\n\n   ```sql\n   SELECT 1;\n   ```\n")
	if len(steps) != 2 || steps[0] != (Step{"sh", "a\nb", 2}) || steps[1].Language != "sql" || steps[1].Line != 8 {
		t.Errorf("%+v", steps)
	}
	if got := Section("# A\n\n## One\n1\n## Two\n2\n", "One"); strings.TrimSpace(got) != "1" {
		t.Errorf("%q", got)
	}
	if _, err := FirstStep(t.TempDir(), "ChatX"); err == nil {
		t.Error("a runbook that does not exist has a first step")
	}
}
