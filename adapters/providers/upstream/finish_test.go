package upstream

import (
	"os"
	"strings"
	"testing"
)

// docs/providers.md lists every finish reason of the table.
func TestFinishReasons_AreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/providers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## How replies end")
	table, _, _ = strings.Cut(table, "\n## ")
	for reason, f := range finishReasons {
		want := "goes on"
		switch {
		case f.reason != "":
			want = "complete"
		case f.failed != "":
			want = "failed: `" + string(f.failed) + "`"
		}
		found := false
		for line := range strings.Lines(table) {
			found = found || strings.Contains(line, "`"+reason+"`") && strings.Contains(line, want)
		}
		if !found {
			t.Errorf("%s (%s) is not in the table of docs/providers.md", reason, want)
		}
		if reason != strings.ToLower(reason) {
			t.Errorf("%s is not in lower case", reason)
		}
	}
}
