package observe

import (
	"context"
	"strconv"
	"sync"
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

// Switches exports what operators have disabled: chat, and every configured
// provider. It is called before the first request: what is refused because chat is
// disabled is no error of the API's service level.
func (ob *Observer) Switches(chatDisabled func() bool, models ports.Catalogue) prometheus.Collector {
	ob.chatDisabled = chatDisabled
	desc := prometheus.NewDesc("chat_disabled", "1 while an operator has disabled chat, or a provider.", []string{"switch"}, nil)
	return scrapeGauge{desc, func(emit func(float64, ...string)) {
		emit(boolValue(chatDisabled()), "chat")
		seen := map[string]bool{}
		for _, m := range models.Models() {
			if name := ob.labels.provider(m.Provider); !seen[name] {
				seen[name] = true
				emit(boolValue(m.Disabled), name)
			}
		}
	}}
}

// Schema is the state of the database's schema.
type Schema struct {
	Version string // of the newest applied migration; one that is not a number counts as 0
	Pending int    // migrations of this build that are not applied
}

// Schema exports the version of the database's schema and the number of pending
// migrations, which ask reads. While it fails, nothing is exported.
func (ob *Observer) Schema(ask func(context.Context) (Schema, error)) prometheus.Collector {
	version := prometheus.NewDesc("chat_schema_version", "Version of the newest migration that the database has.", nil, nil)
	pending := prometheus.NewDesc("chat_schema_pending", "Migrations of this build that are not applied to the database; 1 while its tables do not match its record of migrations.", nil, nil)
	last := polled[Schema]{ask: ask}
	return collectorFunc(func(emit func(*prometheus.Desc, float64, ...string)) {
		if s, ok := last.get(); ok {
			v, _ := strconv.ParseFloat(s.Version, 64)
			emit(version, v)
			emit(pending, float64(s.Pending))
		}
	}, version, pending)
}

// Queue is what waits in the database to be made by an instance.
type Queue struct {
	Depth  int
	Oldest time.Duration // of those that could be started
}

// Queue exports the queue of replies, which ask reads.
func (ob *Observer) Queue(ask func(context.Context) (Queue, error)) prometheus.Collector {
	depth := prometheus.NewDesc("chat_runs_queued", "Replies that wait in the database for an instance.", nil, nil)
	oldest := prometheus.NewDesc("chat_oldest_queued_run_seconds", "How long the oldest reply that could be started has waited for an instance; 0: none.", nil, nil)
	last := polled[Queue]{ask: ask}
	return collectorFunc(func(emit func(*prometheus.Desc, float64, ...string)) {
		if q, ok := last.get(); ok {
			emit(depth, float64(q.Depth))
			emit(oldest, q.Oldest.Seconds())
		}
	}, depth, oldest)
}

// Locks are the sessions of the database that wait for a lock.
type Locks struct {
	Waiting int
	Oldest  time.Duration
}

// Locks exports the sessions of the database that wait for a lock, which ask reads.
func (ob *Observer) Locks(ask func(context.Context) (Locks, error)) prometheus.Collector {
	waiting := prometheus.NewDesc("chat_database_lock_waits", "Sessions of the database that have waited for a lock for more than half a second.", nil, nil)
	oldest := prometheus.NewDesc("chat_database_oldest_lock_wait_seconds", "How long the session that has waited longest for a lock has waited; 0: none.", nil, nil)
	last := polled[Locks]{ask: ask}
	return collectorFunc(func(emit func(*prometheus.Desc, float64, ...string)) {
		if l, ok := last.get(); ok {
			emit(waiting, float64(l.Waiting))
			emit(oldest, l.Oldest.Seconds())
		}
	}, waiting, oldest)
}

// Maintenance is what makes a PostgreSQL server fail over days.
type Maintenance struct {
	RetainedWAL       int64         // bytes kept for the replication slot that is furthest behind
	TransactionIDs    int64         // transactions since the oldest row that is not frozen
	OldestTransaction time.Duration // of those that the role of the database may see
}

// Maintenance exports the state of the database's server, which ask reads.
func (ob *Observer) Maintenance(ask func(context.Context) (Maintenance, error)) prometheus.Collector {
	wal := prometheus.NewDesc("chat_database_retained_wal_bytes", "Bytes of WAL that the server keeps for the replication slot that is furthest behind.", nil, nil)
	ids := prometheus.NewDesc("chat_database_transaction_ids", "Transactions since the oldest row that is not frozen; PostgreSQL refuses writes before 2^31.", nil, nil)
	oldest := prometheus.NewDesc("chat_database_oldest_transaction_seconds", "How long the oldest transaction has been open, of those that the role of DATABASE_URL may see.", nil, nil)
	last := polled[Maintenance]{ask: ask}
	return collectorFunc(func(emit func(*prometheus.Desc, float64, ...string)) {
		if m, ok := last.get(); ok {
			emit(wal, float64(m.RetainedWAL))
			emit(ids, float64(m.TransactionIDs))
			emit(oldest, m.OldestTransaction.Seconds())
		}
	}, wal, ids, oldest)
}

// Replica is the state of a read replica.
type Replica struct {
	Name     string // host:port
	Used     bool
	Seen     bool // the rest is known
	LagBytes int64
	LagAge   time.Duration
}

// Replicas exports the states of read replicas, and the reads that they may answer: by
// the reason why the primary was read, "" being those that a replica answered. ask reads
// both. Without replicas nothing is exported.
func (ob *Observer) Replicas(ask func() (list []Replica, reads map[string]int64)) prometheus.Collector {
	replica := []string{"replica"}
	return replicaCollector{
		ask:   ask,
		used:  prometheus.NewDesc("chat_replica_used", "1 if reads go to the replica.", replica, nil),
		bytes: prometheus.NewDesc("chat_replica_lag_bytes", "Bytes of WAL that the replica had not replayed when it was last asked.", replica, nil),
		age:   prometheus.NewDesc("chat_replica_lag_seconds", "Age of the last transaction that the replica had replayed when it was last asked; 0 if it had all of them.", replica, nil),
		reads: prometheus.NewDesc("chat_replicated_reads_total", "Reads that a replica may answer, by what answered them and why the primary did.", []string{"source", "reason"}, nil),
	}
}

type replicaCollector struct {
	ask                     func() ([]Replica, map[string]int64)
	used, bytes, age, reads *prometheus.Desc
}

func (c replicaCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.used, c.bytes, c.age, c.reads} {
		ch <- d
	}
}

func (c replicaCollector) Collect(ch chan<- prometheus.Metric) {
	list, reads := c.ask()
	for _, r := range list {
		ch <- prometheus.MustNewConstMetric(c.used, prometheus.GaugeValue, boolValue(r.Used), r.Name)
		if r.Seen {
			ch <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(r.LagBytes), r.Name)
			ch <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, r.LagAge.Seconds(), r.Name)
		}
	}
	for reason, n := range reads {
		source := "primary"
		if reason == "" {
			source = "replica"
		}
		ch <- prometheus.MustNewConstMetric(c.reads, prometheus.CounterValue, float64(n), source, reason)
	}
}

// Host exports the clock of the instance, and the file system of its data directory,
// which ask reads. While that fails, its size is not exported.
func (ob *Observer) Host(ask func() (free, size uint64, err error)) prometheus.Collector {
	clock := prometheus.NewDesc("chat_clock_seconds", "The instance's clock, in Unix seconds.", nil, nil)
	free := prometheus.NewDesc("chat_data_dir_free_bytes", "Free bytes of the file system of DATA_DIR.", nil, nil)
	size := prometheus.NewDesc("chat_data_dir_size_bytes", "Size of the file system of DATA_DIR.", nil, nil)
	return collectorFunc(func(emit func(*prometheus.Desc, float64, ...string)) {
		emit(clock, float64(time.Now().UnixMilli())/1000)
		if f, s, err := ask(); err == nil {
			emit(free, float64(f))
			emit(size, float64(s))
		}
	}, clock, free, size)
}

const (
	pollWait    = 500 * time.Millisecond // how long a scrape waits for an answer
	pollTimeout = 5 * time.Second        // of a question
	pollExpiry  = 15 * time.Second       // an older answer is not exported
)

// polled asks something that may be slow, once at a time and at most once a second.
// A scrape gets the new answer, or after pollWait the last one.
type polled[T any] struct {
	ask func(context.Context) (T, error)

	mu         sync.Mutex
	refreshing chan struct{} // closed when the question that is under way is answered
	at         time.Time     // of the last answer
	last       T
}

func (p *polled[T]) get() (answer T, ok bool) {
	p.mu.Lock()
	if p.refreshing == nil && time.Since(p.at) >= time.Second {
		p.refreshing = make(chan struct{})
		go p.refresh(p.refreshing)
	}
	refreshing := p.refreshing
	p.mu.Unlock()
	if refreshing != nil {
		select {
		case <-refreshing:
		case <-time.After(pollWait):
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, !p.at.IsZero() && time.Since(p.at) < pollExpiry
}

func (p *polled[T]) refresh(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), pollTimeout)
	defer cancel()
	answer, err := p.ask(ctx)
	p.mu.Lock()
	if err == nil {
		p.last, p.at = answer, time.Now()
	}
	p.refreshing = nil
	p.mu.Unlock()
	close(done)
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

// collectorFunc returns a collector of gauges that are computed at each scrape.
func collectorFunc(collect func(emit func(desc *prometheus.Desc, value float64, labels ...string)), descs ...*prometheus.Desc) prometheus.Collector {
	return scrapeGauges{descs, collect}
}

type scrapeGauges struct {
	descs   []*prometheus.Desc
	collect func(emit func(desc *prometheus.Desc, value float64, labels ...string))
}

func (s scrapeGauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		ch <- d
	}
}

func (s scrapeGauges) Collect(ch chan<- prometheus.Metric) {
	s.collect(func(desc *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	})
}
