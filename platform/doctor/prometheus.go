package doctor

import (
	"context"
	_ "embed" // the names of the alerts
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"parley/platform/config"
)

// alerts has the names of the rules in dashboards/alerts. make generate writes it.
//
//go:embed alerts.txt
var alerts string

// Alerts returns the names of all alerts that Prometheus should have loaded.
func Alerts() []string { return strings.Fields(alerts) }

// Prometheus checks that a Prometheus has loaded every alert and scrapes instances.
// alerts are the names that it must have.
func (r *Report) Prometheus(ctx context.Context, address string, alerts []string) {
	base, err := url.Parse(address)
	if err != nil || base.Scheme == "" || base.Host == "" {
		r.Fail("prometheus.rules", "give --prometheus a URL with its scheme, such as http://prometheus:9090", "%q is not a URL", address)
		return
	}
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name, Type, Health string
				}
			}
		}
	}
	if err := getJSON(ctx, base.JoinPath("api/v1/rules").String(), &rules); err != nil {
		r.Fail("prometheus.rules", "start Prometheus, or correct --prometheus", "Prometheus does not answer: %v", err)
		return
	}
	loaded, broken := map[string]bool{}, []string(nil)
	for _, g := range rules.Data.Groups {
		for _, rule := range g.Rules {
			loaded[rule.Name] = true
			if rule.Health == "err" {
				broken = append(broken, rule.Name)
			}
		}
	}
	missing := slices.DeleteFunc(slices.Clone(alerts), func(name string) bool { return loaded[name] })
	switch {
	case len(missing) > 0:
		r.Fail("prometheus.rules", "name dashboards/alerts/*.yaml in rule_files of prometheus.yml and reload it", "%d of %d alerts are not loaded: %s", len(missing), len(alerts), some(missing))
	case len(broken) > 0:
		r.Fail("prometheus.rules", "see Status / Rule health of Prometheus", "rules fail: %s", some(broken))
	default:
		r.OK("prometheus.rules", "all %d alerts are loaded", len(alerts))
	}
	var up struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	query := base.JoinPath("api/v1/query").String() + "?query=" + url.QueryEscape("up and on (job, instance) last_over_time(chat_build_info[1d])")
	if err := getJSON(ctx, query, &up); err != nil {
		r.Fail("prometheus.targets", "start Prometheus, or correct --prometheus", "Prometheus does not answer: %v", err)
		return
	}
	var down []string
	for _, s := range up.Data.Result {
		if s.Value[1] != "1" {
			down = append(down, s.Metric["instance"])
		}
	}
	switch {
	case len(up.Data.Result) == 0:
		r.Fail("prometheus.targets", "add the admin addresses of all instances to scrape_configs of prometheus.yml", "no instance of Parley is scraped")
	case len(down) > 0:
		r.Fail("prometheus.targets", "start these instances, or remove them from scrape_configs", "not reached: %s", some(down))
	default:
		r.OK("prometheus.targets", "%d instance(s) are scraped", len(up.Data.Result))
	}
}

func some(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(names, ", ")
}

func getJSON(ctx context.Context, address string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("the address is not a URL")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return config.WithoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(into)
}
