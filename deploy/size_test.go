package deploy_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxProgram is how large the program may be, in bytes.
const maxProgram = 60_000_000

// TestSize: the program is small, and the linker could leave out methods: no
// function looks one up by a name that is computed (docs/adr/0070).
func TestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("links the program")
	}
	program := filepath.Join(t.TempDir(), "parley")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace,disable_grpc_modules", "-ldflags", "-s -w -dumpdep", "-o", program, "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reached := 0
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20) // names of generic functions are long
	for lines.Scan() {
		reached++
		if from, _, found := strings.Cut(lines.Text(), " <ReflectMethod>"); found {
			t.Errorf("%s looks methods up by computed names", from)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if reached < 10_000 {
		t.Errorf("the linker listed only %d references", reached)
	}
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxProgram {
		t.Errorf("the program has %d bytes, more than %d", info.Size(), maxProgram)
	}
	t.Logf("%d bytes", info.Size())
}
