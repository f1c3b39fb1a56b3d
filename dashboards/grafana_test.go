package dashboards

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// TestGrafana_DecodesEveryDashboard decodes the files that are shipped into
// Grafana's own types, and validates them against Grafana's schema.
func TestGrafana_DecodesEveryDashboard(t *testing.T) {
	plugins.RegisterDefaultPlugins() // the options of each kind of panel and of query
	files, err := filepath.Glob("grafana/*.json")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d dashboards: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var lenient, strict dashboard.Dashboard //nolint:staticcheck // the boards are of this version
			if err := json.Unmarshal(raw, &lenient); err != nil {
				t.Fatalf("decode: %v", err)
			}
			if err := strict.UnmarshalJSONStrict(raw); err != nil {
				for line := range strings.Lines(err.Error()) {
					if !strings.Contains(line, "required field is missing from input") { // Grafana has a default for it
						t.Errorf("decode strictly: %s", line)
					}
				}
			}
			if err := lenient.Validate(); err != nil {
				t.Errorf("validate: %v", err)
			}
			if lenient.Uid == nil || lenient.Title == nil || len(lenient.Panels) < 5 {
				t.Errorf("decoded to %d panels", len(lenient.Panels))
			}
		})
	}
}
