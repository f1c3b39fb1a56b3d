// The race detector has one goroutine to look at here, and makes compression take
// minutes.

//go:build !race

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

var full = flag.Bool("full", false, "build every platform, the second time in a copy of the commit with an empty build cache")

// everyTarget are the platforms of a release.
var everyTarget = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

// TestRelease_IsReproducible makes a release twice and compares it byte by byte.
// With -full (make release-check) the second one is made of a copy of the commit
// elsewhere, with nothing in the build cache.
func TestRelease_IsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	targets := []string{runtime.GOOS + "/" + runtime.GOARCH}
	if *full {
		targets = everyTarget
	}
	first, second := t.TempDir(), t.TempDir()
	if err := run("v0.0.0-test", first, targets); err != nil {
		t.Fatal(err)
	}
	if *full {
		elsewhere := filepath.Join(t.TempDir(), "copy")
		if out, err := exec.Command("git", "worktree", "add", "--detach", elsewhere).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Cleanup(func() { exec.Command("git", "worktree", "remove", "--force", elsewhere).Run() })
		t.Setenv("GOCACHE", t.TempDir())
		t.Chdir(elsewhere)
	}
	if err := run("v0.0.0-test", second, targets); err != nil {
		t.Fatal(err)
	}
	names := list(t, first)
	if others := list(t, second); !slices.Equal(names, others) {
		t.Fatalf("%v, then %v", names, others)
	}
	for _, name := range names {
		if !bytes.Equal(load(t, first, name), load(t, second, name)) {
			t.Errorf("%s differs", name)
		}
	}
	checkSums(t, first, names)
	checkArchive(t, first, targets[0])
	checkChart(t, first)
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func load(t *testing.T, dir, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// checkSums: every other file is in SHA256SUMS and in the statement of provenance.
func checkSums(t *testing.T, dir string, names []string) {
	t.Helper()
	sums := string(load(t, dir, "SHA256SUMS"))
	var provenance statement
	if err := json.Unmarshal(load(t, dir, "provenance.intoto.json"), &provenance); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == "SHA256SUMS" || name == "provenance.intoto.json" {
			continue
		}
		sum := sha256.Sum256(load(t, dir, name))
		digest := hex.EncodeToString(sum[:])
		if !strings.Contains(sums, digest+"  "+name+"\n") {
			t.Errorf("%s is not in SHA256SUMS", name)
		}
		if !slices.ContainsFunc(provenance.Subject, func(s resource) bool { return s.Name == name && s.Digest["sha256"] == digest }) {
			t.Errorf("the provenance does not name %s", name)
		}
	}
	commit := provenance.Predicate.Definition.Dependencies[0].Digest["gitCommit"]
	if len(commit) != 40 || provenance.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("%+v", provenance)
	}
}

// unpack returns the files of an archive.
func unpack(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	compressed, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(compressed); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = content
	}
}

// checkArchive: the program runs and tells its version, what docs/deploy.md uses is
// beside it, and the bill of materials names what the program consists of.
func checkArchive(t *testing.T, dir, target string) {
	t.Helper()
	name := release{version: "v0.0.0-test"}.name(target)
	files := unpack(t, load(t, dir, name+".tar.gz"))
	for _, path := range []string{
		"docs/deploy.md", "deploy/systemd/parley.service", "deploy/haproxy.cfg", "deploy/nginx.conf", "deploy/postgres/roles.sql",
		"deploy/pgbouncer/pgbouncer.ini", "deploy/prometheus.yaml", "dashboards/alerts/slos.yaml", "dashboards/grafana/parley-overview.json",
	} {
		if len(files[name+"/"+path]) == 0 {
			t.Errorf("the archive has no %s", path)
		}
	}
	program := filepath.Join(t.TempDir(), "parley")
	if err := os.WriteFile(program, files[name+"/parley"], 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "--version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "parley v0.0.0-test ") {
		t.Errorf("--version prints %s, %v", out, err)
	}
	var made bill
	if err := json.Unmarshal(load(t, dir, name+".cdx.json"), &made); err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, c := range made.Components {
		listed[c.PURL] = true
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) < 20 || len(made.Components) != len(info.Deps)+1 || made.SpecVersion != "1.6" || made.Format != "CycloneDX" {
		t.Errorf("%d components of %d modules", len(made.Components), len(info.Deps))
	}
	if !slices.ContainsFunc(made.Components, func(c component) bool {
		return c.Name == "ariga.io/atlas" && c.PURL == "pkg:golang/ariga.io/atlas@v1.2.3"
	}) {
		t.Error("the bill of materials lacks Atlas")
	}
}

// checkChart: the chart has the release's version, and the files that it links to.
func checkChart(t *testing.T, dir string) {
	t.Helper()
	files := unpack(t, load(t, dir, "parley-chart-0.0.0-test.tgz"))
	if chart := string(files["parley/Chart.yaml"]); !strings.Contains(chart, "\nversion: 0.0.0-test\n") || !strings.Contains(chart, "\nappVersion: v0.0.0-test\n") {
		t.Errorf("Chart.yaml: %s", chart)
	}
	if len(files["parley/files/roles.sql"]) == 0 || len(files["parley/files/dashboards/parley-overview.json"]) == 0 {
		t.Error("the chart lacks the files that it links to")
	}
}

func TestSection(t *testing.T) {
	const log = "# Changelog\n\n## [Unreleased]\n\n- new\n\n## [1.2.3] - 2026-11-27\n\n- old\n\n## [1.2.2]\n\n- older\n"
	for version, want := range map[string]string{
		"1.2.3": "- old\n", "1.2.2": "- older\n", "1a2b3c4-dirty": "- new\n", "1.2.3-4-g1a2b3c4": "- new\n",
	} {
		if got, err := section(log, version); got != want || err != nil {
			t.Errorf("%s: %q, %v", version, got, err)
		}
	}
	if _, err := section(log, "2.0.0"); err == nil {
		t.Error("a version that the changelog lacks was released")
	}
}
