package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"parley/platform/config"
)

type compose struct {
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
}

type service struct {
	Image       string            `yaml:"image"`
	Build       map[string]any    `yaml:"build"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	Ports       []string          `yaml:"ports"`
	Command     any               `yaml:"command"`
	ReadOnly    bool              `yaml:"read_only"`
	Drop        []string          `yaml:"cap_drop"`
	Healthcheck map[string]any    `yaml:"healthcheck"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
}

func read(t *testing.T, path string, into any) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := yaml.Unmarshal(content, into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return string(content)
}

func load(t *testing.T) compose {
	t.Helper()
	var c compose
	read(t, "compose.yaml", &c)
	if len(c.Services) < 10 {
		t.Fatalf("only %d services", len(c.Services))
	}
	return c
}

// instances are the services that serve the API.
func (c compose) instances() []string {
	var out []string
	for name, s := range c.Services {
		if strings.HasPrefix(s.Image, "parley:") && s.Command == nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func TestCompose_References(t *testing.T) {
	c := load(t)
	used := map[string]bool{}
	for name, s := range c.Services {
		if tag := s.Image[strings.LastIndex(s.Image, ":")+1:]; !strings.Contains(s.Image, ":") || tag == "latest" {
			t.Errorf("%s: the image %q is not pinned", name, s.Image)
		}
		for _, v := range s.Volumes {
			source, rest, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				used[source] = true
				if _, ok := c.Volumes[source]; !ok {
					t.Errorf("%s: there is no volume %s", name, source)
				}
				continue
			}
			if _, err := os.Stat(source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !strings.HasSuffix(rest, ":ro") {
				t.Errorf("%s: could write to %s", name, source)
			}
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s: the port %s is open to every network", name, p)
			}
		}
		for on, d := range s.DependsOn {
			other, ok := c.Services[on]
			switch {
			case !ok:
				t.Errorf("%s: there is no service %s", name, on)
			case d.Condition == "service_healthy" && other.Healthcheck == nil && other.Build == nil:
				t.Errorf("%s: waits for the health of %s, which has no check", name, on)
			case d.Condition == "service_completed_successfully" && !slices.Contains([]string{"migrate", "roles", "reader"}, on):
				t.Errorf("%s: waits for the end of %s", name, on)
			}
		}
	}
	for v := range c.Volumes {
		if !used[v] {
			t.Errorf("nothing uses the volume %s", v)
		}
	}
}

// Every setting of the compose file is one that Parley, OpenTelemetry or Go reads.
func TestCompose_Settings(t *testing.T) {
	c := load(t)
	known := map[string]bool{
		"GOMEMLIMIT": true, "OTEL_EXPORTER_OTLP_ENDPOINT": true, "OTEL_TRACES_SAMPLER": true, "OTEL_TRACES_SAMPLER_ARG": true,
	}
	for _, v := range config.Variables() {
		known[v.Name] = true
	}
	if len(c.instances()) != 2 {
		t.Errorf("instances: %v", c.instances())
	}
	for _, name := range append(c.instances(), "migrate") {
		s := c.Services[name]
		for _, variable := range []string{"DATABASE_URL", "REDIS_URL", "AUTH_SECRET", "TRUSTED_PROXIES"} {
			if s.Environment[variable] == "" {
				t.Errorf("%s lacks %s", name, variable)
			}
		}
		for variable := range s.Environment {
			if !known[variable] {
				t.Errorf("%s: nothing reads %s", name, variable)
			}
		}
		if !s.ReadOnly || !slices.Contains(s.Drop, "ALL") {
			t.Errorf("%s may do more than it needs", name)
		}
	}
}

var needed = regexp.MustCompile(`\$\{([A-Z_]+):\?`)

// make up writes every secret that the compose file asks for.
func TestCompose_Secrets(t *testing.T) {
	makefile := read(t, "../Makefile", nil)
	_, recipe, _ := strings.Cut(makefile, "\nup:")
	recipe, _, _ = strings.Cut(recipe, "\n.PHONY")
	for _, m := range needed.FindAllStringSubmatch(read(t, "compose.yaml", nil), -1) {
		if !strings.Contains(recipe, m[1]) {
			t.Errorf("make up does not make %s", m[1])
		}
	}
	if !strings.Contains(read(t, "../.gitignore", nil), "/deploy/.env\n") {
		t.Error("the secrets of deploy/.env could be committed")
	}
}

// Files find one another by names that only the compose file brings together.
func TestCompose_Grafana(t *testing.T) {
	c := load(t)
	var sources struct {
		Datasources []struct {
			UID, Type, URL string
			JSONData       struct {
				Exemplars []struct{ Name, DatasourceUID string } `yaml:"exemplarTraceIdDestinations"`
			} `yaml:"jsonData"`
		}
	}
	// The decoder wants lower case; Grafana's keys are not.
	raw := read(t, "grafana/provisioning/datasources/parley.yaml", nil)
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(raw, "datasourceUid", "datasourceuid")), &sources); err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, d := range sources.Datasources {
		types[d.UID] = d.Type
		host := strings.TrimPrefix(d.URL, "http://")
		host, _, _ = strings.Cut(host, ":")
		if _, ok := c.Services[host]; !ok {
			t.Errorf("the data source %s is at %s, which is no service", d.UID, host)
		}
	}
	for _, d := range sources.Datasources {
		if d.Type != "prometheus" {
			continue
		}
		if len(d.JSONData.Exemplars) != 1 || d.JSONData.Exemplars[0].Name != "trace_id" || types[d.JSONData.Exemplars[0].DatasourceUID] != "tempo" {
			t.Errorf("exemplars lead to %+v", d.JSONData.Exemplars)
		}
	}
	// What the dashboards' variables ask for.
	boards, _ := filepath.Glob("../dashboards/grafana/*.json")
	for _, path := range boards {
		for _, kind := range []string{"prometheus", "grafana-postgresql-datasource"} {
			if strings.Contains(read(t, path, nil), `"query": "`+kind+`"`) && !slices.Contains(values(types), kind) {
				t.Errorf("%s needs a data source of type %s", path, kind)
			}
		}
	}
	var provider struct {
		Providers []struct{ Options struct{ Path string } }
	}
	read(t, "grafana/provisioning/dashboards/parley.yaml", &provider)
	if len(boards) == 0 || len(provider.Providers) != 1 ||
		!slices.Contains(c.Services["grafana"].Volumes, "../dashboards/grafana:"+provider.Providers[0].Options.Path+":ro") {
		t.Errorf("Grafana looks for dashboards in %+v", provider)
	}
}

func values(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	return out
}
