package observe

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/ports"
)

// These gauges are computed at each scrape. One that is set on change would go
// stale where a change happens with time alone, as with a breaker.

// Dependencies exports whether each dependency answers, by name. up is called
// at every scrape and should remember its answers for a moment.
func (ob *Observer) Dependencies(up func(context.Context) map[string]bool) prometheus.Collector {
	desc := prometheus.NewDesc("chat_dependency_up", "1 if the last probe of the dependency succeeded.", []string{"dependency"}, nil)
	return scrapeGauge{desc, func(emit func(float64, ...string)) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		for name, ok := range up(ctx) {
			emit(boolValue(ok), name)
		}
	}}
}

// Breakers exports the state of the breaker of every configured model.
func (ob *Observer) Breakers(models ports.Catalogue) prometheus.Collector {
	desc := prometheus.NewDesc("chat_breaker_state", "1 for the state that a breaker is in, 0 for the others.", []string{"breaker", "state"}, nil)
	return scrapeGauge{desc, func(emit func(float64, ...string)) {
		seen := map[pair]bool{}
		for _, m := range models.Models() {
			p := pair{m.Provider, m.Model}
			if !ob.labels.isKnown(p) || seen[p] {
				continue
			}
			seen[p] = true
			for _, state := range breakerStates {
				emit(boolValue(m.State == state), ob.labels.breaker(m.Provider, m.Model), state)
			}
		}
	}}
}

// Keys exports which providers refuse their configured key.
func (ob *Observer) Keys(models ports.Catalogue) prometheus.Collector {
	desc := prometheus.NewDesc("chat_provider_key_refused", "1 if the provider refused the configured key in the last request.", []string{"provider"}, nil)
	return scrapeGauge{desc, func(emit func(float64, ...string)) {
		refused := map[string]bool{}
		for _, m := range models.Models() {
			name := ob.labels.provider(m.Provider)
			refused[name] = refused[name] || m.Problem == ports.ProblemKeyRefused
		}
		for name, yes := range refused {
			emit(boolValue(yes), name)
		}
	}}
}

// Schema exports the version of the database's schema and the number of pending
// migrations. A version that is not a number counts as 0.
func (ob *Observer) Schema(version string, pending int) prometheus.Collector {
	v, _ := strconv.ParseFloat(version, 64)
	return multiCollector{
		scrapeGauge{
			prometheus.NewDesc("chat_schema_version", "Version of the newest migration that the database has.", nil, nil),
			func(emit func(float64, ...string)) { emit(v) },
		},
		scrapeGauge{
			prometheus.NewDesc("chat_schema_pending", "Migrations of this build that are not applied to the database.", nil, nil),
			func(emit func(float64, ...string)) { emit(float64(pending)) },
		},
	}
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// scrapeGauge is a gauge that is computed at each scrape.
type scrapeGauge struct {
	desc *prometheus.Desc
	ask  func(emit func(value float64, labels ...string))
}

func (s scrapeGauge) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }

func (s scrapeGauge) Collect(ch chan<- prometheus.Metric) {
	s.ask(func(v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, v, labels...)
	})
}

type multiCollector [2]prometheus.Collector

func (b multiCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range b {
		c.Describe(ch)
	}
}

func (b multiCollector) Collect(ch chan<- prometheus.Metric) {
	for _, c := range b {
		c.Collect(ch)
	}
}
