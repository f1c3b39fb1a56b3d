package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
)

var semantic = regexp.MustCompile(`^\d+\.\d+\.\d+([-+].*)?$`)

// A bill of materials in CycloneDX 1.6.
type (
	bill struct {
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		SerialNumber string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     billMetadata `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	billMetadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn"`
	}
)

// billOf lists the modules that are linked into a program, as the program itself
// names them.
func billOf(program string, r release) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("read build information: %w", err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	top := component{
		Type: "application", Ref: "parley", Name: "parley", Version: r.version, PURL: "pkg:generic/parley@" + url.PathEscape(r.version),
		Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}},
	}
	for _, s := range info.Settings {
		top.Properties = append(top.Properties, property{"go:build:" + s.Key, s.Value})
	}
	list := []component{moduleOf("std", strings.TrimPrefix(info.GoVersion, "go"), "")}
	for _, m := range info.Deps {
		m = cmp.Or(m.Replace, m)
		list = append(list, moduleOf(m.Path, m.Version, m.Sum))
	}
	slices.SortFunc(list, func(a, b component) int { return strings.Compare(a.Ref, b.Ref) })
	needs := dependency{Ref: top.Ref}
	for _, c := range list {
		needs.DependsOn = append(needs.DependsOn, c.Ref)
	}
	return indented(bill{
		Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		SerialNumber: "urn:uuid:" + uuid.NewSHA1(uuid.NameSpaceOID, sum[:]).String(),
		Metadata:     billMetadata{r.time.Format("2006-01-02T15:04:05Z"), top},
		Components:   list, Dependencies: []dependency{needs},
	})
}

// moduleOf is a module of Go as a component. sum is its line of go.sum.
func moduleOf(path, version, sum string) component {
	c := component{Type: "library", Name: path, Version: version, PURL: "pkg:golang/" + path + "@" + url.PathEscape(version)}
	c.Ref = c.PURL
	if sum != "" {
		c.Properties = []property{{"go:sum", sum}}
	}
	return c
}

// writeSums writes SHA256SUMS of everything in the directory, and a statement of
// provenance about the same files.
func (r release) writeSums(targets []string) error {
	entries, err := os.ReadDir(r.out) // sorted
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	var subjects []resource
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		digest := hex.EncodeToString(sum[:])
		fmt.Fprintf(&sums, "%s  %s\n", digest, e.Name())
		subjects = append(subjects, resource{Name: e.Name(), Digest: map[string]string{"sha256": digest}})
	}
	if err := os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), sums.Bytes(), 0o600); err != nil {
		return err
	}
	statement, err := indented(r.provenance(subjects, targets))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "provenance.intoto.json"), statement, 0o600)
}

// A statement of provenance: in-toto's Statement v1 with SLSA's predicate v1.
type (
	statement struct {
		Type          string     `json:"_type"`
		Subject       []resource `json:"subject"`
		PredicateType string     `json:"predicateType"`
		Predicate     predicate  `json:"predicate"`
	}
	resource struct {
		Name   string            `json:"name,omitempty"`
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
	}
	predicate struct {
		Definition definition `json:"buildDefinition"`
		Run        runDetails `json:"runDetails"`
	}
	definition struct {
		BuildType    string         `json:"buildType"`
		External     map[string]any `json:"externalParameters"`
		Internal     map[string]any `json:"internalParameters"`
		Dependencies []resource     `json:"resolvedDependencies"`
	}
	runDetails struct {
		Builder  map[string]string `json:"builder"`
		Metadata map[string]string `json:"metadata"`
	}
)

// provenance says from what, how and where the files were built. It is not
// signed: the workflow that publishes a release has its own identity attest it.
func (r release) provenance(subjects []resource, targets []string) statement {
	server, repository := os.Getenv("GITHUB_SERVER_URL"), os.Getenv("GITHUB_REPOSITORY")
	source, builder, invocation := "git+file:///", "urn:parley:local", ""
	if server != "" && repository != "" {
		source = "git+" + server + "/" + repository
		builder = server + "/" + os.Getenv("GITHUB_WORKFLOW_REF")
		invocation = server + "/" + repository + "/actions/runs/" + os.Getenv("GITHUB_RUN_ID")
	}
	return statement{
		Type: "https://in-toto.io/Statement/v1", Subject: subjects, PredicateType: "https://slsa.dev/provenance/v1",
		Predicate: predicate{
			Definition: definition{
				BuildType: "urn:parley:make-release:1",
				External:  map[string]any{"version": r.version, "targets": targets},
				Internal:  map[string]any{"flags": r.flags(), "cgo": false},
				Dependencies: []resource{
					{URI: source, Digest: map[string]string{"gitCommit": r.revision}},
					{Name: "go", URI: "pkg:golang/toolchain@" + r.tool},
				},
			},
			Run: runDetails{Builder: map[string]string{"id": builder}, Metadata: map[string]string{"invocationId": invocation}},
		},
	}
}

// writeNotes writes the part of the changelog that is about the release.
func (r release) writeNotes() error {
	text, err := os.ReadFile(filepath.Join(r.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	notes, err := section(string(text), strings.TrimPrefix(r.version, "v"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "NOTES.md"), []byte(notes), 0o600) //nolint:gosec // the directory is a flag
}

// section returns the part of a changelog about a version. A commit and a version
// before a release (v1.2.3-rc.1) have the part that is not released.
func section(changelog, version string) (string, error) {
	if !semantic.MatchString(version) || strings.Contains(version, "-") {
		version = "Unreleased"
	}
	_, rest, found := strings.Cut(changelog, "\n## ["+version+"]")
	if !found {
		return "", fmt.Errorf("CHANGELOG.md has no section ## [%s]", version)
	}
	_, rest, _ = strings.Cut(rest, "\n")
	rest, _, _ = strings.Cut(rest, "\n## [")
	return strings.TrimSpace(rest) + "\n", nil
}

func indented(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return append(text, '\n'), err
}
