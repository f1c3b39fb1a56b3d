// Package web serves the page: an HTML file, a style sheet and a few modules of
// JavaScript that use nothing but the public API. The files are embedded as they
// are written; there is no build step.
package web

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html"
	"net/http"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"parley/adapters/httpapi"
	"parley/domain/fault"
)

//go:embed page
var files embed.FS

// Security policies. Scripts and styles come from files of the page alone;
// nothing is evaluated, framed or loaded from elsewhere.
const (
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; " +
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	filePolicy = "default-src 'none'; frame-ancestors 'none'"
)

// staticPath is where the files are. Their names contain a hash of their
// content, so that browsers and CDNs may keep them.
const staticPath = "/static/"

// Options are what differs between deployments.
type Options struct {
	// SignInURL is where a user without a session can sign in; "": the page
	// does not say.
	SignInURL string
}

// Routes returns the endpoints of the page and its files. They are public: the
// page itself holds no data, and the API asks for the session.
func Routes(o Options) ([]httpapi.Endpoint, error) {
	s, err := load(o)
	if err != nil {
		return nil, err
	}
	const media = "text/html"
	return []httpapi.Endpoint{
		httpapi.Handle(httpapi.Route{Method: "GET", Path: "/", Media: media, Page: true, Summary: "The page"}, decodePage, s.page, encoder),
		httpapi.Handle(httpapi.Route{Method: "GET", Path: "/share/{token}", Media: media, Page: true, Summary: "The page of a shared conversation"}, decodeShare, s.page, encoder),
		httpapi.Handle(httpapi.Route{Method: "GET", Path: staticPath + "{file}", Media: httpapi.MediaAny, Page: true, Summary: "A file of the page"}, decodeFile, s.file, encoder),
	}, nil
}

// site is the page with its files, as they are served.
type site struct {
	index  file
	static map[string]file // by the name with its hash
}

// file is one file and the headers that it is served with.
type file struct {
	content   []byte
	mediaType string
	etag      string
	cache     string
	policy    string
}

// response is the answer to one request for a file.
type response struct {
	file
	match string // If-None-Match of the request
}

var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

func newFile(name string, content []byte, cache, policy string) file {
	sum := sha256.Sum256(content)
	return file{
		content: content, mediaType: mediaTypes[path.Ext(name)], etag: `"` + hex.EncodeToString(sum[:8]) + `"`, cache: cache, policy: policy,
	}
}

// load reads the embedded files. In each of them the names of the others get
// their hashes, so that the hash of a file changes with those of its imports.
func load(o Options) (*site, error) {
	entries, err := files.ReadDir("page")
	if err != nil {
		return nil, err
	}
	l := loader{site: &site{static: map[string]file{}}, hashed: map[string]string{}}
	for _, e := range entries {
		if e.Name() == indexName {
			continue
		}
		if _, err := l.add(e.Name(), nil); err != nil {
			return nil, err
		}
	}
	index, err := files.ReadFile("page/" + indexName)
	if err != nil {
		return nil, err
	}
	text, err := l.link(string(index), nil)
	if err != nil {
		return nil, err
	}
	text = strings.ReplaceAll(text, "{{signInURL}}", html.EscapeString(o.SignInURL))
	l.index = newFile(indexName, []byte(text), "no-cache", pagePolicy)
	return l.site, nil
}

const indexName = "index.html"

// reference is another file of the page, in an import or an attribute.
var reference = regexp.MustCompile(`"\./([a-z-]+\.[a-z0-9]+)"`)

// loader adds files to a site, the imported ones first.
type loader struct {
	*site
	hashed map[string]string // by the name without a hash
}

// add adds a file, and returns its address. importers are the files that led
// to it.
func (l loader) add(name string, importers []string) (string, error) {
	if slices.Contains(importers, name) {
		return "", fmt.Errorf("%s imports itself: %v", name, importers)
	}
	if address, ok := l.hashed[name]; ok {
		return address, nil
	}
	content, err := files.ReadFile("page/" + name)
	if err != nil {
		return "", err
	}
	if ext := path.Ext(name); ext == ".js" || ext == ".css" {
		text, err := l.link(string(content), append(importers, name))
		if err != nil {
			return "", err
		}
		content = []byte(text)
	}
	f := newFile(name, content, "public, max-age=31536000, immutable", filePolicy)
	stem := strings.TrimSuffix(name, path.Ext(name))
	hashed := stem + "-" + strings.Trim(f.etag, `"`) + path.Ext(name)
	l.static[hashed] = f
	l.hashed[name] = staticPath + hashed
	return l.hashed[name], nil
}

// link replaces the names of other files by their addresses.
func (l loader) link(text string, importers []string) (string, error) {
	var failed error
	text = reference.ReplaceAllStringFunc(text, func(found string) string {
		address, err := l.add(reference.FindStringSubmatch(found)[1], importers)
		if err != nil && failed == nil {
			failed = err
		}
		return `"` + address + `"`
	})
	return text, failed
}

type shareWire struct {
	Token string `path:"token"`
	httpapi.Revalidation
}

type fileWire struct {
	Name string `path:"file"`
	httpapi.Revalidation
}

// fileCall asks for a file, or for the page.
type fileCall struct{ name, match string }

func decodePage(_ httpapi.Call, in httpapi.Revalidation) (fileCall, error) {
	return fileCall{match: in.IfNoneMatch}, nil
}

// decodeShare does not look at the token: the page asks the API about it.
func decodeShare(_ httpapi.Call, in shareWire) (fileCall, error) {
	return fileCall{match: in.IfNoneMatch}, nil
}

func decodeFile(_ httpapi.Call, in fileWire) (fileCall, error) {
	return fileCall{in.Name, in.IfNoneMatch}, nil
}

func (s *site) page(_ context.Context, in fileCall) (response, error) {
	return response{s.index, in.match}, nil
}

func (s *site) file(_ context.Context, in fileCall) (response, error) {
	f, ok := s.static[in.name]
	if !ok {
		return response{}, fault.New(fault.NotFound, "Not found")
	}
	return response{f, in.match}, nil
}

var encoder = httpapi.Encoder[response]{
	Answers: []httpapi.Answer{
		{Status: http.StatusOK, Media: httpapi.MediaAny, Types: []reflect.Type{reflect.TypeFor[string]()}},
		{Status: http.StatusNotModified},
	},
	Encode: encodeFile,
}

func encodeFile(_ context.Context, w *httpapi.Response, f response) error {
	h := w.Header()
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", f.cache)
	h.Set("Content-Security-Policy", f.policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("X-Robots-Tag", "noindex")
	if httpapi.Matches(f.match, f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", f.mediaType)
	w.Body(http.StatusOK, f.content)
	return nil
}
