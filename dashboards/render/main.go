// Command render draws the dashboards as a browser shows them, from the data
// that make dashboards-check has kept: no Grafana is needed to see what an
// operator will. It wants Chromium (Debian: chromium) and npm ci in its
// directory. The drawing is ours (page.html); layout, titles, units, legends
// and colours are those of the dashboards.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

//go:embed page.html
var page string

// run is what the gate keeps. What is in a panel is the page's business.
type run struct {
	From, To time.Time
	Starts   json.RawMessage            // when processes began
	Rows     map[string]json.RawMessage // headings, by dashboard
	Panels   []struct {
		Board, Title string
		Panel        json.RawMessage
		Results      json.RawMessage
	}
}

// view is what the page is made of: JSON, which escapes what would end a script.
type view struct {
	Title, Library, Starts, Rows, Panels string
	From, To                             int64
}

func main() {
	log.SetFlags(0)
	from := flag.String("run", "bin/dashboards/run.json", "data of a run")
	library := flag.String("echarts", "dashboards/render/node_modules/echarts/dist/echarts.min.js", "the plotting library")
	out := flag.String("out", "docs/img", "where to put the pictures")
	flag.Parse()
	if err := render(*from, *library, *out); err != nil {
		log.Fatal(err)
	}
}

func render(from, library, out string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var r run
	if err := json.Unmarshal(content, &r); err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	script, err := os.ReadFile(library)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "parley-render-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t := template.Must(template.New("page").Parse(page))
	var boards []string
	panels := map[string][]any{}
	views := map[string]view{}
	for _, p := range r.Panels {
		if panels[p.Board] == nil {
			boards = append(boards, p.Board)
		}
		panels[p.Board] = append(panels[p.Board], map[string]any{"panel": p.Panel, "results": p.Results})
		views[p.Board] = view{Title: p.Title, Library: string(script), From: r.From.UnixMilli(), To: r.To.UnixMilli(), Starts: string(r.Starts), Rows: string(r.Rows[p.Board])}
	}
	for _, b := range boards {
		v := views[b]
		data, err := json.Marshal(panels[b])
		if err != nil {
			return err
		}
		v.Panels = string(data)
		var html bytes.Buffer
		if err := t.Execute(&html, v); err != nil {
			return err
		}
		path := filepath.Join(dir, b+".html")
		if err := os.WriteFile(path, html.Bytes(), 0o600); err != nil {
			return err
		}
		picture := filepath.Join(dir, b+".png")
		if err := shoot(path, picture, bottom(panels[b])); err != nil {
			return fmt.Errorf("%s: %w", b, err)
		}
		if err := compress(picture, filepath.Join(out, strings.TrimPrefix(b, "parley-")+".png")); err != nil {
			return fmt.Errorf("%s: %w", b, err)
		}
	}
	return nil
}

// cell is the height of a row of the grid, in pixels, as in Grafana.
const cell = 38

// bottom is how high the page must be.
func bottom(panels []any) int {
	rows := 0
	for _, p := range panels {
		var panel struct{ GridPos struct{ Y, H int } }
		raw, _ := p.(map[string]any)["panel"].(json.RawMessage)
		if json.Unmarshal(raw, &panel) == nil {
			rows = max(rows, panel.GridPos.Y+panel.GridPos.H)
		}
	}
	return 64 + rows*cell
}

// shoot takes a picture of a page. All of it is on disk: nothing is fetched.
func shoot(html, png string, height int) error {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		return fmt.Errorf("chromium is not installed; run: apt-get install -y --no-install-recommends chromium fonts-dejavu-core")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
		"--user-data-dir="+filepath.Dir(png)+"/profile", "--virtual-time-budget=5000", "--force-device-scale-factor=1",
		fmt.Sprintf("--window-size=1600,%d", height), "--screenshot="+png, "file://"+html)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("chromium: %w\n%s", err, said)
	}
	return nil
}
