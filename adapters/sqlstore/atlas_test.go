package sqlstore_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// TestAtlasProject reads atlas.hcl as the Atlas CLI would and looks whether its
// directories are the embedded ones.
func TestAtlasProject(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "atlas.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, problems := hclsyntax.ParseConfig(text, "atlas.hcl", hcl.InitialPos)
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	got := map[string]string{}
	for _, block := range parsed.Body.(*hclsyntax.Body).Blocks {
		if block.Type != "env" {
			continue
		}
		for _, inner := range block.Body.Blocks {
			dir, problems := inner.Body.Attributes["dir"].Expr.Value(nil)
			if problems.HasErrors() {
				t.Fatal(problems)
			}
			got[block.Labels[0]] = dir.AsString()
		}
		if block.Body.Attributes["url"] == nil {
			t.Errorf("%s has no url", block.Labels[0])
		}
	}
	want := map[string]string{
		"local":      "file://adapters/sqlstore/migrations/sqlite",
		"ci":         "file://adapters/sqlstore/migrations/postgres",
		"production": "file://adapters/sqlstore/migrations/postgres",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("directories (-want +got):\n%s", diff)
	}
	for _, dir := range got {
		if _, err := os.Stat(filepath.Join(root, dir[len("file://"):], "atlas.sum")); err != nil {
			t.Error(err)
		}
	}
}
