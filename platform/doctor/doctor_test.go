package doctor_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"parley/platform/doctor"
)

// TestChecks_Documented compares the checks with the table of docs/doctor.md.
func TestChecks_Documented(t *testing.T) {
	text, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, c := range doctor.Checks {
		fmt.Fprintf(&want, "| `%s` | %s |\n", c.ID, c.What)
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("the table of docs/doctor.md must be:\n%s", want.String())
	}
}

func TestMisspelt(t *testing.T) {
	settings := []string{"DATABASE_URL", "OPENAI_API_KEY", "ADDR", "REDIS_URL"}
	for name, want := range map[string]string{
		"DATABSE_URL": "DATABASE_URL", "OPENAI_API_KYE": "OPENAI_API_KEY", "database_url": "DATABASE_URL", "REDIS_URI": "REDIS_URL",
		"DATABASE_URL": "", "PATH": "", "HOME": "", "ADR": "", "OPENAI_BASE_URL": "", "LD_LIBRARY_PATH": "",
	} {
		if got := doctor.Misspelt([]string{name + "=x"}, settings)[name]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
