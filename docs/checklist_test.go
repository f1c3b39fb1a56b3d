package docs_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	inCode    = regexp.MustCompile("`([^`]+)`")
	makeRule  = regexp.MustCompile(`(?m)^([a-z0-9-]+):`)
	fieldName = regexp.MustCompile("(?m)^\t([A-Z][A-Za-z]*) +[A-Za-z]+ +`cmd:\"\"")
)

// TestChecklist: docs/checklist.md answers every line of the checklist, in its
// order, each with a command that exists. TestDocs looks at those of go test.
func TestChecklist(t *testing.T) {
	var want, got []string
	for _, line := range lines(t, "docs/testdata/checklist.txt") {
		if line != "" && !strings.HasPrefix(line, "# ") {
			want = append(want, line)
		}
	}
	makefile, boot := readFile(t, "Makefile"), readFile(t, "platform/boot/boot.go")
	targets := submatches(makeRule, makefile)
	commands := submatches(fieldName, boot)
	for i, name := range commands {
		commands[i] = strings.ToLower(name)
	}
	if len(want) < 100 || len(targets) < 20 || len(commands) < 10 {
		t.Fatalf("%d lines, %d targets, %d commands", len(want), len(targets), len(commands))
	}
	for _, line := range lines(t, "docs/checklist.md") {
		switch {
		case strings.HasPrefix(line, "## "):
			got = append(got, line)
		case strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| line |"):
			cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "| "), `\|`, "&"), " | ")
			if len(cells) != 3 {
				t.Errorf("%d cells: %s", len(cells), line)
				continue
			}
			got = append(got, cells[0])
			shown := 0
			for _, command := range submatches(inCode, cells[2]) {
				words := strings.Fields(command)
				if len(words) == 1 { // a check of doctor
					continue
				}
				shown++
				known := words[0] == "curl" || words[0] == "go" && words[1] == "test" ||
					words[0] == "make" && slices.Contains(targets, words[1]) || words[0] == "parley" && slices.Contains(commands, words[1])
				if !known {
					t.Errorf("there is no command %s", command)
				}
			}
			if shown == 0 || !strings.ContainsFunc(cells[1], unicode.IsLetter) {
				t.Errorf("no command shows: %s", line)
			}
		}
	}
	if !slices.Equal(want, got) {
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("the line is not answered: %s", line)
			}
		}
		t.Errorf("%d lines are answered, of %d, or in another order", len(got), len(want))
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func submatches(re *regexp.Regexp, text string) (list []string) {
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	return list
}
