package observe

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/ports"
)

// States are asked when somebody scrapes: a gauge that is set on change would
// go stale where a change happens by the passing of time, as with a breaker.

// Dependencies exports whether each dependency answers, by name. up is called
// at every scrape and should remember its answers for a moment.
func (ob *Observer) Dependencies(up func(context.Context) map[string]bool) prometheus.Collector {
	desc := prometheus.NewDesc("chat_dependency_up", "1 if the last probe of the dependency succeeded.", []string{"dependency"}, nil)
	return states{desc, func(emit func(float64, ...string)) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		for name, ok := range up(ctx) {
			emit(number(ok), name)
		}
	}}
}

// Breakers exports the state of the breaker of every configured model.
func (ob *Observer) Breakers(models ports.Catalogue) prometheus.Collector {
	desc := prometheus.NewDesc("chat_breaker_state", "1 for the state that a breaker is in, 0 for the others.", []string{"breaker", "state"}, nil)
	return states{desc, func(emit func(float64, ...string)) {
		seen := map[pair]bool{}
		for _, m := range models.Models() {
			p := pair{m.Provider, m.Model}
			if !ob.labels.knows(p) || seen[p] {
				continue
			}
			seen[p] = true
			for _, state := range breakerStates {
				emit(number(m.State == state), ob.labels.breaker(m.Provider, m.Model), state)
			}
		}
	}}
}

// Keys exports which providers refuse the key that is configured for them.
func (ob *Observer) Keys(models ports.Catalogue) prometheus.Collector {
	desc := prometheus.NewDesc("chat_provider_key_refused", "1 if the provider refused the configured key when it was last asked.", []string{"provider"}, nil)
	return states{desc, func(emit func(float64, ...string)) {
		refused := map[string]bool{}
		for _, m := range models.Models() {
			name := ob.labels.provider(m.Provider)
			refused[name] = refused[name] || m.Problem == ports.ProblemKeyRefused
		}
		for name, yes := range refused {
			emit(number(yes), name)
		}
	}}
}

// Schema exports how the database stands to this build's migrations. version
// is a migration's number; one that is not a number counts as 0.
func (ob *Observer) Schema(version string, pending int) prometheus.Collector {
	v, _ := strconv.ParseFloat(version, 64)
	return both{
		states{
			prometheus.NewDesc("chat_schema_version", "Version of the newest migration that the database has.", nil, nil),
			func(emit func(float64, ...string)) { emit(v) },
		},
		states{
			prometheus.NewDesc("chat_schema_pending", "Migrations that this build brings and the database lacks.", nil, nil),
			func(emit func(float64, ...string)) { emit(float64(pending)) },
		},
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// states is one gauge that is asked at every scrape.
type states struct {
	desc *prometheus.Desc
	ask  func(emit func(value float64, labels ...string))
}

func (s states) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }

func (s states) Collect(ch chan<- prometheus.Metric) {
	s.ask(func(v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, v, labels...)
	})
}

type both [2]prometheus.Collector

func (b both) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range b {
		c.Describe(ch)
	}
}

func (b both) Collect(ch chan<- prometheus.Metric) {
	for _, c := range b {
		c.Collect(ch)
	}
}
