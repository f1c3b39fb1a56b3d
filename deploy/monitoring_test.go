package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/platform/testing/testenv"
)

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(testenv.Binary(t, name), args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// mounted puts the files that a service gets where it looks for them, under a
// directory of the test, and returns the content of one with its paths changed.
func mounted(t *testing.T, s service, config string) (root, path string) {
	t.Helper()
	root = t.TempDir()
	for _, v := range s.Volumes {
		source, target, _ := strings.Cut(v, ":")
		target = strings.TrimSuffix(target, ":ro")
		info, err := os.Stat(source)
		if err != nil || info.IsDir() {
			continue
		}
		content := strings.ReplaceAll(read(t, source, nil), filepath.Dir(config)+"/", root+filepath.Dir(config)+"/")
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(target)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, target), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root, filepath.Join(root, config)
}

func TestPrometheus_Config(t *testing.T) {
	c := load(t)
	_, path := mounted(t, c.Services["prometheus"], "/etc/prometheus/prometheus.yaml")
	run(t, "promtool", "check", "config", "--lint=all", "--lint-fatal", path)

	var conf struct {
		Scrape []struct {
			Job     string `yaml:"job_name"`
			Statics []struct {
				Targets []string `yaml:"targets"`
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	read(t, "prometheus.yaml", &conf)
	var want []string
	for _, name := range c.instances() {
		want = append(want, name+":9464")
	}
	for _, s := range conf.Scrape {
		if s.Job == "parley" {
			if diff := cmp.Diff(want, s.Statics[0].Targets); diff != "" {
				t.Errorf("scraped (-want +got):\n%s", diff)
			}
		}
	}
	if flags, ok := c.Services["prometheus"].Command.([]any); !ok || !slices.Contains(flags, any("--enable-feature=exemplar-storage")) ||
		!slices.Contains(flags, any("--storage.tsdb.retention.time=40d")) {
		t.Errorf("Prometheus keeps no exemplars, or not 30 days: %v", c.Services["prometheus"].Command)
	}
}

func TestAlertmanager_Config(t *testing.T) {
	_, path := mounted(t, load(t).Services["alertmanager"], "/etc/alertmanager/alertmanager.yaml")
	run(t, "amtool", "check-config", path)
}
