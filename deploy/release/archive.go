package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// archived is a file of an archive.
type archived struct {
	path    string // in the archive, with slashes
	mode    int64
	content []byte
}

// bundled are the files of the repository that an archive holds beside the
// program: what docs/deploy.md needs, and the documents.
var bundled = []string{
	"README.md", "CHANGELOG.md", "SECURITY.md",
	"docs/*.md", "docs/runbooks/*.md",
	"deploy/systemd/*", "deploy/postgres/*", "deploy/pgbouncer/*", "deploy/haproxy.cfg", "deploy/nginx.conf",
	"deploy/prometheus.yaml", "deploy/tempo.yaml", "deploy/grafana/provisioning/*/*",
	"dashboards/grafana/*.json", "dashboards/alerts/*.yaml",
}

// archiveFiles lists the files of a platform's archive.
func (r release) archiveFiles(program string) ([]archived, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	files := []archived{{"parley", 0o755, content}}
	for _, pattern := range bundled {
		found, err := filepath.Glob(filepath.Join(r.root, filepath.FromSlash(pattern)))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("no file matches %s", pattern)
		}
		for _, name := range found {
			content, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			rel, err := filepath.Rel(r.root, name)
			if err != nil {
				return nil, err
			}
			files = append(files, archived{filepath.ToSlash(rel), 0o644, content})
		}
	}
	return files, nil
}

// writeArchive writes a compressed tar below one directory, which depends on its
// files and the time alone.
func writeArchive(name, dir string, files []archived, at time.Time) error {
	slices.SortFunc(files, func(a, b archived) int { return strings.Compare(a.path, b.path) })
	var buffer bytes.Buffer
	compressed, err := gzip.NewWriterLevel(&buffer, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(compressed)
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: path.Join(dir, f.path), Size: int64(len(f.content)), Mode: f.mode, ModTime: at, Format: tar.FormatUSTAR,
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(f.content); err != nil {
			return err
		}
	}
	if err := errors.Join(w.Close(), compressed.Close()); err != nil {
		return err
	}
	return os.WriteFile(name, buffer.Bytes(), 0o600)
}

// writeChart writes the chart with the release's version, as helm package would.
// Links to files outside of it become those files.
func (r release) writeChart() error {
	version := strings.TrimPrefix(r.version, "v")
	if !semantic.MatchString(version) { // of a commit without a tag
		version = "0.0.0-" + strings.ReplaceAll(version, "_", "-")
	}
	var files []archived
	err := walkLinked(filepath.Join(r.root, "deploy/helm/parley"), "", func(rel string, content []byte) {
		if rel == "Chart.yaml" {
			content = bytes.Replace(content, []byte("\nversion: 0.0.0-dev\n"), []byte("\nversion: "+version+"\n"), 1)
			content = bytes.Replace(content, []byte("\nappVersion: dev\n"), []byte("\nappVersion: "+r.version+"\n"), 1)
		}
		files = append(files, archived{rel, 0o644, content})
	})
	if err != nil {
		return err
	}
	return writeArchive(filepath.Join(r.out, "parley-chart-"+version+".tgz"), "parley", files, r.time)
}

// walkLinked calls use with every file below a directory, through links.
func walkLinked(root, rel string, use func(rel string, content []byte)) error {
	entries, err := os.ReadDir(filepath.Join(root, rel))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(rel, e.Name())
		info, err := os.Stat(filepath.Join(root, name))
		switch {
		case err != nil:
			return err
		case info.IsDir():
			err = walkLinked(root, name, use)
		case info.Mode().IsRegular():
			var content []byte
			if content, err = os.ReadFile(filepath.Join(root, name)); err == nil {
				use(name, content)
			}
		default:
			err = fmt.Errorf("%s: %w", name, fs.ErrInvalid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
