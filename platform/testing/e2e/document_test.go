//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// versions are the packages of the AI SDK that the pages of the document import.
var versions = []struct{ name, react, ai string }{
	{"ai5", "react-ai5", "./node_modules/react-ai5/node_modules/ai"},
	{"ai6", "react-ai6", "./node_modules/react-ai6/node_modules/ai"},
	{"ai7", "@ai-sdk/react", "ai"},
}

// TestDocument runs the pages of docs/ai-sdk.md as they stand there.
func TestDocument(t *testing.T) {
	installPackages(t)
	bundles := t.TempDir()
	pages := documentPages(t)
	for _, v := range versions {
		for name, source := range pages {
			bundle(t, "document.jsx", v.react, filepath.Join(bundles, v.name+"-"+name+".js"), "--alias:document="+source, "--alias:ai="+v.ai)
		}
	}
	browser := startBrowser(t)
	demo := startWorld(t, bundles, browser) // as make run does
	scripted := startScripted(t, bundles, browser)
	for _, v := range versions {
		t.Run(v.name+"/page", func(t *testing.T) {
			t.Parallel()
			p := newUser(t, demo, v.name).openTab()
			p.openDocument("page", "")
			p.submit("!echo one")
			p.reads("user: !echo one", "assistant: one")
			p.submit("!echo two")
			p.reads("user: !echo one", "assistant: one", "user: !echo two", "assistant: two")
		})
		t.Run(v.name+"/chat", func(t *testing.T) {
			t.Parallel()
			u := newUser(t, scripted, v.name)
			p := u.openTab()
			p.openDocument("chat", "first-"+v.name)
			p.submit("one")
			p.reads("user: one", "assistant: one #1")
			p.openDocument("chat", "first-"+v.name) // its history
			p.reads("user: one", "assistant: one #1")
			open := u.gate()
			p.submit("two")
			p.reads("user: one", "assistant: one #1", "user: two", "assistant: one ")
			p.openDocument("chat", "first-"+v.name) // in mid-stream
			p.reads("user: one", "assistant: one #1", "user: two", "assistant: one ")
			// The reply ends after the history was read, and before the page follows it.
			resume := scripted.holdResume("first-" + v.name)
			p.openDocument("chat", "first-"+v.name)
			p.reads("user: one", "assistant: one #1", "user: two")
			open()
			u.ended("first-"+v.name, 4)
			resume()
			p.reads("user: one", "assistant: one #1", "user: two", "assistant: one + two #1")
		})
		t.Run(v.name+"/files", func(t *testing.T) {
			t.Parallel()
			u := newUser(t, scripted, v.name)
			p := u.openTab()
			p.openDocument("files", "")
			file := filepath.Join(t.TempDir(), "dot.png")
			if err := os.WriteFile(file, dot(t), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := chromedp.Do(p.ctx, chromedp.SetUploadFiles(chromedp.CSS("input[type=file]"), []string{file})); err != nil {
				t.Fatal(err)
			}
			p.submit("one")
			p.reads("user: one", "assistant: one #1")
			if got := scripted.provider.images(u.name); got != 1 {
				t.Errorf("the model was sent %d images, want 1", got)
			}
		})
		t.Run(v.name+"/text", func(t *testing.T) {
			t.Parallel()
			p := newUser(t, demo, v.name).openTab()
			p.openDocument("text", "")
			p.submit("!echo one")
			p.reads("user: !echo one", "assistant: one")
		})
	}
}

var block = regexp.MustCompile("(?s)```jsx\n// (\\S+)\n(.*?)```")

// documentPages writes the pages of the document to files, and returns their
// paths by the names that the document gives them, such as page for app/page.jsx.
func documentPages(t *testing.T) map[string]string {
	document, err := os.ReadFile("../../../docs/ai-sdk.md")
	if err != nil {
		t.Fatal(err)
	}
	dir, pages := t.TempDir(), map[string]string{}
	for _, m := range block.FindAllStringSubmatch(string(document), -1) {
		file := filepath.Join(dir, filepath.Base(m[1]))
		if err := os.WriteFile(file, []byte(m[2]), 0o644); err != nil {
			t.Fatal(err)
		}
		pages[strings.TrimSuffix(filepath.Base(file), ".jsx")] = file
	}
	return pages
}

// openDocument opens a page of the document, signed in as the document says.
func (p *tab) openDocument(page, chat string) {
	p.t.Helper()
	address := "/pages/" + p.frontEnd + "-" + page + "?chat=" + chat
	p.navigate(address)
	p.evaluate("document.cookie = '" + p.cookie + "; path=/'")
	p.navigate(address)
}

// submit types a message into the page's text field and presses Enter.
func (p *tab) submit(text string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS("input[name=text]"), mark(text, p.name)+"\r")); err != nil {
		p.t.Fatal(err)
	}
}

// reads waits until the page shows exactly these lines.
func (p *tab) reads(lines ...string) {
	p.t.Helper()
	var got []string
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
		shown, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll('p')].map((p) => p.textContent)`))
		cancel()
		if err != nil {
			p.t.Fatal(err)
		}
		for i, line := range shown {
			shown[i] = strings.TrimSuffix(line, " @"+p.name)
		}
		if got = shown; slices.Equal(got, lines) {
			return
		}
	}
	p.t.Fatalf("the page shows\n%q\nwant\n%q", got, lines)
}

// dot returns a picture of one pixel.
func dot(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
