//go:build e2e

package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestDocument runs the pages of docs/ai-sdk.md as they stand there against a
// Parley with the settings of make run.
func TestDocument(t *testing.T) {
	installPackages(t)
	bundles := t.TempDir()
	pages := documentPages(t)
	versions := []string{"react-ai5", "react-ai6", "@ai-sdk/react"}
	for _, react := range versions {
		for name, source := range pages {
			bundle(t, "document.jsx", react, filepath.Join(bundles, bundleName(name, react)+".js"), "--alias:document="+source)
		}
	}
	w := startWorld(t, bundles, startBrowser(t))
	for _, react := range versions {
		t.Run(strings.ReplaceAll(react, "/", "-"), func(t *testing.T) {
			u := newUser(t, w, bundleName("app/page.jsx", react))
			p := u.openTab()
			p.navigate("/pages/" + u.frontEnd)
			p.evaluate("document.cookie = '" + u.cookie + "; path=/'")
			p.submit("!echo one")
			p.reads("user: !echo one", "assistant: one")
			p.submit("!echo two")
			p.reads("user: !echo one", "assistant: one", "user: !echo two", "assistant: two")
		})
	}
}

var block = regexp.MustCompile("(?s)```jsx\n// (\\S+)\n(.*?)```")

// documentPages writes the pages of the document to files, and returns their
// paths by the names that the document gives them.
func documentPages(t *testing.T) map[string]string {
	document, err := os.ReadFile("../../../docs/ai-sdk.md")
	if err != nil {
		t.Fatal(err)
	}
	dir, pages := t.TempDir(), map[string]string{}
	for _, m := range block.FindAllStringSubmatch(string(document), -1) {
		file := filepath.Join(dir, strings.ReplaceAll(m[1], "/", "-"))
		if err := os.WriteFile(file, []byte(m[2]), 0o644); err != nil {
			t.Fatal(err)
		}
		pages[m[1]] = file
	}
	return pages
}

func bundleName(page, react string) string {
	return strings.NewReplacer("/", "-", ".jsx", "", "@", "").Replace(page + "-" + react)
}

// submit types a text into the page's only field and presses Enter.
func (p *tab) submit(text string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS("input"), text+"\r")); err != nil {
		p.t.Fatal(err)
	}
}

// reads waits until the page shows exactly these lines.
func (p *tab) reads(lines ...string) {
	p.t.Helper()
	want, got := strings.Join(lines, "\n"), ""
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
		shown, err := chromedp.Run(ctx, chromedp.Evaluate[string](`[...document.querySelectorAll('p')].map((p) => p.textContent).join('\n')`))
		cancel()
		if err != nil {
			p.t.Fatal(err)
		}
		if got = shown; got == want {
			return
		}
	}
	p.t.Fatalf("the page shows\n%s\nwant\n%s", got, want)
}
