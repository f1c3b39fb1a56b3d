// Command gen writes the dashboards and the rules into the files that Grafana
// and Prometheus load.
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"

	"parley/dashboards"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "dashboards", "where to write grafana/ and alerts/")
	flag.StringVar(&dashboards.Grafana, "grafana", dashboards.Grafana, "URL of Grafana, for links from alerts")
	flag.StringVar(&dashboards.Runbooks, "runbooks", dashboards.Runbooks, "URL of docs/runbooks, for links from alerts")
	flag.Parse()
	for name, content := range dashboards.Files() {
		path := filepath.Join(*dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
