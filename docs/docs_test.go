package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	goTest   = regexp.MustCompile("go test ([^`\n]+)")
	argument = regexp.MustCompile(`'[^']*'|\S+`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
)

// TestDocs holds every command "go test" in the documentation to the tests that
// there are: a pattern that matches none would pass, and show nothing.
func TestDocs(t *testing.T) {
	commands := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && file != root || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, ".md") {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, found := range goTest.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(found[1], "NAME") { // it tells how a command is made
				continue
			}
			commands++
			checkCommand(t, file, found[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if commands < 20 {
		t.Errorf("only %d commands were found", commands)
	}
}

func checkCommand(t *testing.T, file, command string) {
	t.Helper()
	var patterns, packages []string
	args := argument.FindAllString(command, -1)
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case (arg == "-run" || arg == "-bench") && i+1 < len(args):
			i++
			pattern := strings.ReplaceAll(strings.Trim(args[i], "'"), `\|`, "|") // as tables have it
			pattern, _, _ = strings.Cut(pattern, "/")
			if pattern != "xxx" && pattern != "^$" && pattern != "." {
				patterns = append(patterns, pattern)
			}
		case strings.HasPrefix(arg, "./"):
			packages = append(packages, arg)
		}
	}
	if len(packages) == 0 {
		t.Errorf("%s: go test %s: of which package?", file, command)
	}
	names := map[string][]string{}
	for _, p := range packages {
		dir, below := strings.CutSuffix(p, "/...")
		sources, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
		if err != nil || len(sources) == 0 && !below {
			t.Errorf("%s: go test %s: there are no tests in %s", file, command, p)
		}
		for _, source := range sources {
			text, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range testFunc.FindAllStringSubmatch(string(text), -1) {
				names[p] = append(names[p], f[1])
			}
		}
	}
	for _, pattern := range patterns {
		re, err := regexp.Compile(pattern)
		if err != nil {
			t.Errorf("%s: go test %s: %v", file, command, err)
			continue
		}
		for _, p := range packages {
			if !strings.HasSuffix(p, "/...") && !re.MatchString(strings.Join(names[p], "\n")) {
				t.Errorf("%s: go test %s: no test of %s matches %s", file, command, p, pattern)
			}
		}
	}
}
