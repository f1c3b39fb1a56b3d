package dashboards_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/dashboards"
)

// What is in the repository is what would be generated, no more and no less.
func TestFiles_AreGenerated(t *testing.T) {
	want := dashboards.Files()
	for name, content := range want {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(string(content), string(got)); diff != "" {
			t.Errorf("%s is stale, run make generate (-want +got):\n%s", name, diff)
		}
	}
	for _, pattern := range []string{"grafana/*", "alerts/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			if _, ok := want[name]; !ok && name != "alerts/alertmanager.yaml" {
				t.Errorf("nothing generates %s", name)
			}
		}
	}
}
