//go:build e2e

package incidents

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"parley/adapters/providers/stub"
	"parley/platform/testing/testenv"
	"parley/platform/testing/testworld"
)

// incidents are injected in this order: first those that users do not notice, after
// which the history stays healthy. Each alert is named by the rules of
// dashboards/alerts.
var incidents = []incident{
	{
		// Nothing is wrong: an hour of ordinary load, with a deploy of both instances.
		name: "healthy-hour-with-deploy",
		inject: func(w *world) func() {
			time.Sleep(time.Hour / Factor / 3)
			w.restart(w.One, w.One.Env...)
			w.restart(w.Two, w.Two.Env...)
			return func() {}
		},
	},
	{
		name:   "one-provider-down",
		inject: providers(refuse(http.StatusInternalServerError, "server_error"), well),
		first:  []string{"ChatProviderDegraded"},
		cause:  []string{"openai"},
	},
	{
		name:   "provider-key-expired",
		inject: providers(refuse(http.StatusUnauthorized, "invalid_api_key"), well),
		first:  []string{"ChatProviderKeyRefused"}, pages: []string{"ChatProviderKeyRefused"},
		cause: []string{"openai", "} 1"},
	},
	{
		name:   "provider-credit-used-up",
		inject: providers(refuse(http.StatusTooManyRequests, "insufficient_quota"), well),
		first:  []string{"ChatProviderDegraded"},
		cause:  []string{"openai", "quota_exhausted"},
	},
	{
		name:   "provider-name-unknown",
		inject: withSettings("OPENAI_BASE_URL=https://provider.invalid/v1"),
		first:  []string{"ChatProviderDegraded"},
		cause:  []string{"openai", "dns_failed"},
	},
	{
		name: "provider-certificate-invalid",
		inject: func(w *world) func() {
			s := httptest.NewUnstartedServer(http.NotFoundHandler())
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.StartTLS()
			heal := withSettings("OPENAI_BASE_URL=" + s.URL + "/v1")(w)
			return func() { heal(); s.Close() }
		},
		first: []string{"ChatProviderDegraded"},
		cause: []string{"openai", "tls_failed"},
	},
	{
		name: "provider-limit-near",
		inject: func(w *world) func() {
			// First little is left, and ten minutes later nothing.
			begun := time.Now()
			w.setProviders(func(c stub.Call) stub.Reply {
				if time.Since(begun) > 10*time.Minute/Factor {
					return stub.Refuse(http.StatusTooManyRequests, "rate_limit_exceeded", "Retry-After", "1")
				}
				r := well(c)
				r.Header = headroom(c, 0.08)
				return r
			}, well)
			return w.heal
		},
		first: []string{"ChatRateLimitHeadroomLow"},
		cause: []string{"openai", "0.08"},
	},
	{
		name:   "provider-slow-pieces",
		inject: slowPieces,
		first:  []string{"ChatOutputSlow"},
		cause:  []string{"gpt-5-mini"},
	},
	{
		name: "provider-frozen", noticed: true,
		inject: providers(stub.Always(stub.Reply{Hang: true}), well),
		first:  []string{"ChatProviderFrozen"}, pages: []string{"ChatProviderFrozen"},
		cause: []string{"openai"},
	},
	{
		name:   "provider-flapping",
		inject: flapping,
		first:  []string{"ChatBreakerFlapping", "ChatProviderDegraded"}, runbook: "ChatBreakerFlapping",
		cause: []string{"openai/gpt-5-mini"},
	},
	{
		name: "redis-killed",
		inject: func(w *world) func() {
			w.Redis.Kill9()
			return w.Redis.Restart
		},
		first: []string{"ChatRedisDown"},
		cause: []string{"refused"},
	},
	{
		name: "redis-frozen",
		inject: func(w *world) func() {
			w.Redis.Pause()
			return w.Redis.Resume
		},
		first: []string{"ChatRedisDown"},
		cause: []string{"ping failed", "timeout"},
	},
	{
		// Redis answers, but later than a decision of the limiter may take.
		name: "redis-slow",
		inject: func(w *world) func() {
			relay := testworld.StartRelay(w.t, w.Redis.Addr())
			heal := withSettings("REDIS_URL=" + strings.Replace(w.Redis.URL(), w.Redis.Addr(), relay.Addr, 1))(w)
			relay.Delay(60 * time.Millisecond)
			return func() { relay.Delay(0); heal() }
		},
		first: []string{"ChatLimiterFailOpen", "ChatRedisDown"}, // the latter when connecting takes too long
		env:   func(w *world) []string { return w.One.Env },
		cause: []string{"ping answered after 1"},
	},
	{
		name: "redis-memory-full",
		inject: func(w *world) func() {
			w.redis("CONFIG", "SET", "maxmemory", "1")
			return func() { w.redis("CONFIG", "SET", "maxmemory", "0") }
		},
		first: []string{"ChatRedisDown"},
		cause: []string{"a write was refused: OOM"},
	},
	{
		// The newest migration has stopped before its last statement.
		name: "migration-pending",
		inject: func(w *world) func() {
			const table = "atlas_schema_revisions.atlas_schema_revisions"
			const newest = " WHERE version = (SELECT max(version) FROM " + table + " WHERE version NOT LIKE '.%')"
			w.psql("-c", "UPDATE "+table+" SET applied = total - 1"+newest)
			return func() { w.psql("-c", "UPDATE "+table+" SET applied = total"+newest) }
		},
		first: []string{"ChatSchemaPending"},
		cause: []string{"pending"},
	},
	{
		name: "audit-not-sealed",
		inject: func(w *world) func() {
			conn := w.connect(w.Postgres.URL() + "&application_name=old-backup")
			if _, err := conn.Exec(context.Background(), "SELECT pg_advisory_lock(x'7061726c6579'::bigint)"); err != nil {
				w.t.Fatal(err)
			}
			return func() { conn.Close(context.Background()) }
		},
		first: []string{"ChatAuditUnsealed"},
		cause: []string{"old-backup", "pg_terminate_backend"},
	},
	{
		name: "file-store-away",
		inject: func(w *world) func() {
			if err := os.Rename(w.blobs, w.blobs+".away"); err != nil {
				w.t.Fatal(err)
			}
			return func() { os.Rename(w.blobs+".away", w.blobs) }
		},
		first: []string{"ChatBlobStoreDown"},
		cause: []string{"a dependency fails", "files"},
	},
	{
		name: "model-without-price",
		inject: func(w *world) func() {
			return w.crowd(1, func(u *testworld.User) {
				u.Send(w.proxy, "!echo hi", "provider", "openai", "model", unpricedModel)
				time.Sleep(time.Second)
			})
		},
		first: []string{"ChatUnpricedModel"},
		cause: []string{unpricedModel},
	},
	{
		name: "webhooks-refused",
		inject: func(w *world) func() {
			w.webhooks.Store(http.StatusGone)
			return func() { w.webhooks.Store(http.StatusOK) }
		},
		first: []string{"ChatWebhooksDead"},
		cause: []string{"410"},
	},
	{
		name: "bad-tokens",
		inject: func(w *world) func() {
			guess := &testworld.User{Token: "guessed"}
			return w.crowd(6, func(*testworld.User) {
				guess.Do(w.proxy, "GET", "/api/chat/messages?limit=5", nil)
				time.Sleep(100 * time.Millisecond)
			})
		},
		first: []string{"ChatCallersRefused"},
		cause: []string{"UNAUTHORIZED"},
	},
	{
		name: "noisy-neighbour",
		inject: func(w *world) func() {
			noisy := w.User("noisy", "--tier", "api_key")
			return w.crowd(2, func(*testworld.User) {
				noisy.Send(w.proxy, "!echo more")
				time.Sleep(50 * time.Millisecond)
			})
		},
		first: []string{"ChatRateLimited"},
		cause: []string{"noisy"},
	},
	{
		name: "provider-disabled-and-forgotten",
		inject: func(w *world) func() {
			w.Run("chat", "disable", "--provider", "openai", "--reason", "its bill ran away")
			return func() { w.Run("chat", "enable", "--provider", "openai") }
		},
		first: []string{"ChatDisabled"},
		cause: []string{"openai", "its bill ran away"},
	},
	{
		name: "chat-disabled-and-forgotten",
		inject: func(w *world) func() {
			w.Run("chat", "disable", "--reason", "a wrong price in the list")
			return func() { w.Run("chat", "enable") }
		},
		first: []string{"ChatDisabled"},
		cause: []string{"a wrong price in the list"},
	},
	{
		name: "instance-killed",
		inject: func(w *world) func() {
			w.Kill(w.Two)
			return func() { w.StartInstance(w.Two) }
		},
		first: []string{"ChatInstanceDown"},
		cause: []string{"parley"},
	},
	{
		name: "instance-not-scraped",
		inject: func(w *world) func() {
			w.scrape(w.instances, w.One.Admin)
			return func() { w.scrape(w.instances, w.One.Admin, w.Two.Admin) }
		},
		first: []string{"ChatInstanceUnobserved"},
		cause: []string{`"server":"parley-2"`, `"server":"parley-1"`},
	},
	{
		// A liveness probe that is wrong ends an instance again and again. Killed, it would
		// cut off requests: in real seconds, which are a large part of a compressed hour.
		name: "instance-restarts-again-and-again",
		inject: func(w *world) func() {
			for range 5 {
				w.restart(w.Two, w.Two.Env...)
				time.Sleep(2 * time.Second) // for a scrape
			}
			return func() {}
		},
		first: []string{"ChatInstanceRestarting"},
		cause: []string{"{two}"},
	},
	{
		name: "descriptors-near-limit",
		inject: func(w *world) func() {
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.Two.Cmd.Process.Pid))
			if err != nil {
				w.t.Fatal(err)
			}
			w.limitDescriptors(w.Two, len(open)*10/9)
			return func() { w.limitDescriptors(w.Two, 1024) }
		},
		first: []string{"ChatDescriptorsNearLimit"},
		cause: []string{"{two}"},
	},
	{
		name: "slow-readers", inject: slowReaders,
		first: []string{"ChatStreamAbortsHigh"},
		cause: []string{"write_timeout"},
	},
	{
		name: "alerts-not-delivered",
		inject: func(w *world) func() {
			w.received.refuse.Store(true)
			return func() { w.received.refuse.Store(false) }
		},
		first: []string{"ChatNotificationsFailing"},
		cause: []string{`"integration":"webhook"`},
	},
	{
		name: "deadlocks",
		inject: func(w *world) func() {
			w.alter("CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF random() < 0.1 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF; RETURN NEW; END $$",
				"CREATE TRIGGER deadlock BEFORE INSERT ON chat_runs FOR EACH ROW EXECUTE FUNCTION deadlock()")
			return func() { w.alter("DROP TRIGGER deadlock ON chat_runs", "DROP FUNCTION deadlock") }
		},
		first: []string{"ChatStatementsFailing"},
		cause: []string{"40P01"},
	},
	{
		name:   "budgets-exhausted",
		inject: withSettings("BUDGET_TOKENS_DAY=1"),
		first:  []string{"ChatBudgetsExhausted"},
		cause:  []string{"user-"},
	},
	{
		name: "cost-runs-away", history: 90 * time.Minute,
		inject: func(w *world) func() {
			leaked := w.User("leaked")
			return w.crowd(2, func(*testworld.User) {
				leaked.Send(w.proxy, "!dear", "provider", "openai", "model", defaultModel)
				time.Sleep(100 * time.Millisecond)
			})
		},
		first: []string{"ChatSpendRunaway"}, pages: []string{"ChatSpendRunaway"},
		cause: []string{"leaked"},
	},
	{
		name: "memory-near-limit",
		inject: func(w *world) func() {
			w.restart(w.Two, "INSTANCE=parley-2", "GOMEMLIMIT=20MiB")
			return func() { w.restart(w.Two, "INSTANCE=parley-2") }
		},
		first: []string{"ChatMemoryNearLimit", "ChatMemoryForecast"},
		cause: []string{"heap profile"},
	},
	{
		// The cache of replies in memory grows; nothing else does in Parley.
		name: "memory-grows",
		inject: func(w *world) func() {
			return w.startAlone(func(n int) string { return fmt.Sprintf("!large %d", n) },
				"DATA_DIR="+w.mount(dataBytes), "RESPONSE_CACHE_TTL=1h", "GOMEMLIMIT=280MiB")
		},
		first: []string{"ChatMemoryForecast"},
		cause: []string{`"job":"alone"`},
	},
	{
		name: "log-disk-full",
		inject: func(w *world) func() {
			disk, log := w.mount(logBytes), w.Two.Log
			full, err := os.Create(filepath.Join(disk, "log"))
			if err != nil {
				w.t.Fatal(err)
			}
			w.Two.Log = full
			w.restart(w.Two, w.Two.Env...)
			free := w.fill(disk)
			return func() { free(); w.Two.Log = log; w.restart(w.Two, w.Two.Env...); full.Close() }
		},
		first: []string{"ChatLogsDropping"},
		cause: []string{"{two}", "logs"},
	},
	{
		name: "collector-away",
		inject: func(w *world) func() {
			w.restart(w.One, "INSTANCE=parley-1", "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+testenv.FreeAddr(), "OTEL_TRACES_SAMPLER=always_on", "OTEL_BSP_SCHEDULE_DELAY=500")
			return func() { w.restart(w.One, "INSTANCE=parley-1") }
		},
		first: []string{"ChatTelemetryDropping"},
		cause: []string{"telemetry failed", "refused"},
	},
	{
		name: "audit-heads-refused",
		inject: func(w *world) func() {
			heads := "AUDIT_HEADS=http://" + testenv.FreeAddr() + "/heads"
			w.restart(w.One, "INSTANCE=parley-1", heads)
			w.restart(w.Two, "INSTANCE=parley-2", heads)
			return func() {
				w.restart(w.One, "INSTANCE=parley-1")
				w.restart(w.Two, "INSTANCE=parley-2")
			}
		},
		first: []string{"ChatBackgroundFailing"},
		cause: []string{"audit", "refused"},
	},
	{
		name: "clock-skew",
		inject: func(w *world) func() {
			w.scrapeAlone(w.skewed())
			return func() { w.scrapeAlone() }
		},
		first: []string{"ChatClockSkew"},
		cause: []string{"} -95"},
	},
	{
		// Packets between one instance and the database are lost.
		name: "one-instance-cut-off",
		inject: func(w *world) func() {
			relay := testworld.StartRelay(w.t, w.Postgres.Addr())
			w.restart(w.Two, "INSTANCE=parley-2", "DATABASE_URL="+strings.Replace(w.appURL(), w.Postgres.Addr(), relay.Addr, 1))
			w.untilProxyNotices("parley-2", func() { relay.Drop(true) })
			return func() { relay.Drop(false); w.restart(w.Two, "INSTANCE=parley-2") }
		},
		first: []string{"ChatInstanceNotReady"},
		cause: []string{"{two}", "database"},
	},
	{
		name: "one-instance-has-another-secret", noticed: true,
		inject: func(w *world) func() {
			w.restart(w.Two, "INSTANCE=parley-2", "AUTH_SECRET=another-secret-0123456789abcdef0123456789")
			return func() { w.restart(w.Two, "INSTANCE=parley-2") }
		},
		first: []string{"ChatAllCallersRefused"}, pages: []string{"ChatAllCallersRefused"},
		cause: []string{"{two}", "401"},
	},
	{
		name: "provider-cuts-replies", noticed: true,
		inject: func(w *world) func() {
			w.setProviders(func(c stub.Call) stub.Reply {
				r := well(c)
				r.Text, r.Cut, r.After = "a reply that breaks off", stub.Reset, 2
				return r
			}, well)
			return w.heal
		},
		first: []string{"ChatTurnErrorBudgetBurn", "ChatProviderDegraded"}, pages: []string{"ChatTurnErrorBudgetBurn"},
		cause: []string{"openai", "connection_lost"},
	},
	{
		name: "index-dropped", noticed: true,
		prepare: fillArchive, inject: dropIndex,
		first: []string{"ChatReadsSlow"},
		cause: []string{"chat_messages_user_idx"},
	},
	{
		name: "replica-lags",
		inject: func(w *world) func() {
			replica := testenv.StartStandby(w.t, w.Postgres)
			urls := "DATABASE_REPLICA_URLS=" + strings.Replace(w.appURL(), w.Postgres.Addr(), replica.Addr(), 1)
			w.restart(w.One, "INSTANCE=parley-1", urls)
			w.restart(w.Two, "INSTANCE=parley-2", urls)
			standby := w.connect(replica.URL())
			replay := func(how string) {
				if _, err := standby.Exec(context.Background(), "SELECT pg_wal_replay_"+how+"()"); err != nil {
					w.t.Fatal(err)
				}
			}
			replay("pause")
			return func() {
				replay("resume")
				w.restart(w.One, "INSTANCE=parley-1")
				w.restart(w.Two, "INSTANCE=parley-2")
				replica.Stop()
			}
		},
		first: []string{"ChatReplicaUnused"},
		cause: []string{`"replica":"127.0.0.1:`, "} 0"},
	},
	{
		name: "pool-exhausted", noticed: true,
		inject: func(w *world) func() {
			w.alter("CREATE FUNCTION slow_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$",
				"CREATE TRIGGER slow_write BEFORE INSERT ON chat_conversations FOR EACH ROW EXECUTE FUNCTION slow_write()")
			stop := w.crowd(28, func(u *testworld.User) {
				u.Do(w.proxy, "POST", "/api/chat/conversations", map[string]any{"title": "many"})
			})
			return func() {
				stop()
				w.alter("DROP TRIGGER slow_write ON chat_conversations", "DROP FUNCTION slow_write")
			}
		},
		first: []string{"ChatPoolSaturated"},
		cause: []string{"PgSleep"},
	},
	{
		name: "first-words-slow", noticed: true,
		inject: func(w *world) func() {
			late := func(c stub.Call) stub.Reply {
				r := well(c)
				r.Delay = 4 * time.Second
				return r
			}
			w.setProviders(late, late)
			return w.heal
		},
		first: []string{"ChatFirstWordsSlow"}, pages: []string{"ChatFirstWordsSlow"},
		cause: []string{"openai", "anthropic"},
	},
	{
		name: "both-providers-down", noticed: true,
		inject: providers(refuse(http.StatusInternalServerError, "server_error"), refuse(http.StatusInternalServerError, "api_error")),
		first:  []string{"ChatAllProvidersUnavailable"}, pages: []string{"ChatAllProvidersUnavailable"},
		cause: []string{`"open"`},
	},
	{
		name: "route-broken-by-deploy", noticed: true,
		inject: func(w *world) func() {
			w.alter("ALTER TABLE chat_feedback RENAME TO chat_feedback_new")
			stop := w.crowd(2, func(u *testworld.User) {
				id := u.Send(w.proxy, "!echo rate me").At("assistantMessage.id")
				for range 10 {
					u.Do(w.proxy, "PUT", "/api/chat/messages/"+id+"/feedback", map[string]any{"rating": "up"})
					time.Sleep(100 * time.Millisecond)
				}
			})
			return func() {
				stop()
				w.alter("ALTER TABLE chat_feedback_new RENAME TO chat_feedback")
			}
		},
		// The table is missing, which the next scrape sees: either may come first.
		first: []string{"ChatRouteFailing", "ChatSchemaPending"}, pages: []string{"ChatRouteFailing", "ChatApiErrorBudgetBurn"},
		cause: []string{"feedback"},
	},
	{
		name: "all-tokens-refused", noticed: true,
		inject: func(w *world) func() {
			w.badTokens.Store(true)
			return func() { w.badTokens.Store(false) }
		},
		first: []string{"ChatAllCallersRefused"}, pages: []string{"ChatAllCallersRefused"},
		cause: []string{"401"},
	},
	{
		name: "table-locked", noticed: true,
		inject: func(w *world) func() {
			conn := w.connect(w.Postgres.URL() + "&application_name=monthly-report")
			tx, err := conn.Begin(context.Background())
			if err == nil {
				_, err = tx.Exec(context.Background(), "LOCK TABLE chat_runs IN EXCLUSIVE MODE")
			}
			if err != nil {
				w.t.Fatal(err)
			}
			return func() { conn.Close(context.Background()) }
		},
		first: []string{"ChatDatabaseLocked"}, pages: []string{"ChatDatabaseLocked", "ChatTurnErrorBudgetBurn", "ChatApiErrorBudgetBurn"},
		cause: []string{"monthly-report"},
	},
	{
		name: "postgres-killed", noticed: true,
		inject: func(w *world) func() {
			w.Postgres.Kill9()
			return func() { w.Postgres.Restart(); w.awaitReady() }
		},
		first: []string{"ChatDependencyDown"}, pages: []string{"ChatDependencyDown"},
		cause: []string{"database: down"},
	},
	{
		name: "postgres-frozen", noticed: true,
		inject: func(w *world) func() {
			w.Postgres.Pause()
			return func() { w.Postgres.Resume(); w.awaitReady() }
		},
		first: []string{"ChatDependencyDown"}, pages: []string{"ChatDependencyDown"},
		cause: []string{"database: down"},
	},
	{
		name: "postgres-read-only", noticed: true,
		inject: func(w *world) func() {
			setReadOnly := func(value string) {
				w.psql("-c", "SET default_transaction_read_only = off", "-c", "ALTER DATABASE postgres "+value,
					"-c", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'parley_app'")
			}
			setReadOnly("SET default_transaction_read_only = on")
			return func() { setReadOnly("RESET default_transaction_read_only"); w.awaitReady() }
		},
		first: []string{"ChatDependencyDown"}, pages: []string{"ChatDependencyDown"},
		cause: []string{"database: read-only"},
	},
	{
		name: "postgres-disk-full", noticed: true,
		inject: func(w *world) func() {
			free := w.fill(w.small)
			return func() { free(); w.awaitReady() }
		},
		first: []string{"ChatDependencyDown"}, pages: []string{"ChatDependencyDown"},
		cause: []string{"database: disk full"},
	},
	{
		name: "sqlite-disk-full",
		inject: func(w *world) func() {
			disk := w.mount(sqliteBytes)
			stop := w.startAlone(func(n int) string { return "!echo " + strings.Repeat("all is well ", 300) }, "DATA_DIR="+disk)
			time.Sleep(5 * time.Second)
			free := w.fill(disk)
			return func() { free(); stop() }
		},
		first: []string{"ChatDiskForecast", "ChatDependencyDown"}, pages: []string{"ChatDependencyDown"}, runbook: "ChatDependencyDown",
		env:   func(w *world) []string { return []string{"ADMIN_ADDR=" + w.alone.Admin} },
		cause: []string{"database: disk full"},
	},
	{
		name: "proxy-killed", noticed: true,
		inject: func(w *world) func() {
			w.haproxy.Kill()
			return w.haproxy.Restart
		},
		first: []string{"ChatProxyDown"}, pages: []string{"ChatProxyDown"},
		cause: []string{`"job":"proxy"} 0`},
	},
	{
		name: "all-instances-killed", noticed: true,
		inject: func(w *world) func() {
			w.Kill(w.One)
			w.Kill(w.Two)
			return func() { w.Launch(w.One); w.Launch(w.Two); w.awaitReady() }
		},
		first: []string{"ChatAbsent"}, pages: []string{"ChatAbsent"},
		cause: []string{"503"},
	},
}

// providers makes the providers answer by scripts.
func providers(openai, anthropic stub.Script) func(w *world) func() {
	return func(w *world) func() {
		w.setProviders(openai, anthropic)
		return w.heal
	}
}

// withSettings restarts both instances with settings, as a deploy does.
func withSettings(env ...string) func(w *world) func() {
	return func(w *world) func() {
		one, two := w.One.Env, w.Two.Env
		w.restart(w.One, slices.Concat(one, env)...)
		w.restart(w.Two, slices.Concat(two, env)...)
		return func() {
			w.restart(w.One, one...)
			w.restart(w.Two, two...)
		}
	}
}

// untilProxyNotices lets users wait until the proxy has taken an instance out. That
// takes seconds, in which a few requests fail: one in thousands of an hour, but a large
// part of a compressed one.
func (w *world) untilProxyNotices(server string, happen func()) {
	w.t.Helper()
	w.paused.Store(true)
	defer w.paused.Store(false)
	time.Sleep(time.Second) // for requests in progress
	happen()
	down := fmt.Sprintf(`haproxy_server_status{proxy="parley",server="%s",state="DOWN"} 1`, server)
	testworld.Until(w.t, server+" is down for the proxy", time.Minute, func() bool {
		_, metrics := testworld.Get("http://" + testworld.ProxyMetrics(w.proxyConfig) + "/metrics?scope=server")
		return strings.Contains(metrics, down)
	})
}

// redis sends a command to Redis.
func (w *world) redis(command ...string) {
	w.t.Helper()
	args := append([]string{"-u", w.Redis.URL()}, command...)
	if out, err := exec.Command(testenv.Binary(w.t, "redis-cli"), args...).CombinedOutput(); err != nil {
		w.t.Fatalf("redis-cli %v: %v\n%s", command, err, out)
	}
}

// limitDescriptors sets the limit of open files of a running instance.
func (w *world) limitDescriptors(i *testworld.Instance, limit int) {
	w.t.Helper()
	out, err := exec.Command("prlimit", "--pid", fmt.Sprint(i.Cmd.Process.Pid), fmt.Sprintf("--nofile=%d:", limit)).CombinedOutput()
	if err != nil {
		w.t.Fatalf("prlimit: %v\n%s", err, out)
	}
}

// readSlowly requests more from the first instance than the buffers between hold, and
// reads nothing of it.
func (w *world) readSlowly(u *testworld.User) (leave func()) {
	conn, err := u.StreamSlowly(w.One.Addr, "!flood")
	if err != nil {
		return func() {}
	}
	return func() { conn.Close() }
}

// slowReaders has one reader come after another, each of whom stays three times as
// long as a write may take.
func slowReaders(w *world) (stop func()) {
	const readers, stay = 60, 45 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	pause := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	var all sync.WaitGroup
	for i := range readers {
		u := w.User(fmt.Sprintf("slow-%d", i))
		all.Go(func() {
			pause(stay * time.Duration(i) / readers)
			for ctx.Err() == nil {
				leave := w.readSlowly(u)
				pause(stay)
				leave()
			}
		})
	}
	return sync.OnceFunc(func() { cancel(); all.Wait() })
}

func refuse(status int, kind string) stub.Script { return stub.Always(stub.Refuse(status, kind)) }

// slowPieces lets a provider send a word a second, the first one too, so that first
// words are not late.
func slowPieces(w *world) func() {
	w.setProviders(func(c stub.Call) stub.Reply {
		r := well(c)
		r.Text, r.Pace, r.Delay = "one two three four five", time.Second, 0
		return r
	}, well)
	stop := w.crowd(20, func(u *testworld.User) { u.Send(w.proxy, "!echo slowly") })
	return func() { w.heal(); stop() }
}

// flapping lets a provider fail and work in turn, longer than a breaker waits.
func flapping(w *world) func() {
	begun := time.Now()
	w.setProviders(func(c stub.Call) stub.Reply {
		if int(time.Since(begun)/(8*time.Second))%2 == 0 {
			return stub.Refuse(http.StatusInternalServerError, "server_error")
		}
		return well(c)
	}, well)
	return w.heal
}

// fillArchive gives the user archive many messages.
func fillArchive(w *world) {
	w.psql("-c", `INSERT INTO chat_users (user_id, created_at) VALUES ('archive', now()) ON CONFLICT DO NOTHING`,
		"-c", `INSERT INTO chat_messages (user_id, id, role, content, created_at)
			SELECT 'archive', 'archive-' || n, 'user', 'a message', now() - n * interval '1 second' FROM generate_series(1, 120000) n`,
		"-c", "ANALYZE chat_messages")
}

// dropIndex drops the index of the list of a user's messages while archive reads.
func dropIndex(w *world) func() {
	w.psql("-c", "DROP INDEX CONCURRENTLY chat_messages_user_idx")
	archive := w.User("archive")
	stop := w.crowd(2, func(*testworld.User) {
		archive.Do(w.proxy, "GET", "/api/chat/messages?limit=20", nil)
		time.Sleep(150 * time.Millisecond)
	})
	return func() {
		stop()
		w.psql("-c", "DELETE FROM chat_messages WHERE user_id = 'archive'", "-c", "CREATE INDEX CONCURRENTLY chat_messages_user_idx ON chat_messages (user_id, created_at)")
	}
}

func (w *world) awaitReady() {
	w.Await("http://"+w.One.Admin+"/readyz", w.One.Log.Name())
	w.Await("http://"+w.Two.Admin+"/readyz", w.Two.Log.Name())
}

// startAlone starts an instance on SQLite with users of its own, who send what message
// returns. Prometheus scrapes it as the job "alone".
func (w *world) startAlone(message func(n int) string, env ...string) (stop func()) {
	i := w.NewInstance(append(env, "DATABASE_URL=", "REDIS_URL=", "BLOB_URL=", "INSTANCES=0")...)
	w.alone = i
	w.scrapeAlone(i.Admin)
	var n atomic.Int64
	leave := w.crowd(2, func(u *testworld.User) {
		u.Send(i.URL(), message(int(n.Add(1))))
		time.Sleep(100 * time.Millisecond)
	})
	return func() {
		w.Await("http://"+i.Admin+"/readyz", i.Log.Name())
		leave()
		w.scrapeAlone()
		i.Cmd.Process.Signal(syscall.SIGTERM)
		i.Cmd.Wait()
	}
}

// skewed serves the metrics of an instance as if its clock were 95.5 s behind. A clock
// cannot be changed for one process: Go reads it without libc.
func (w *world) skewed() (addr string) {
	addr = testenv.FreeAddr()
	s := &http.Server{Addr: addr, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, body := testworld.Get("http://" + w.One.Admin + "/metrics")
		for line := range strings.Lines(body) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			var seconds float64
			if _, err := fmt.Sscan(value, &seconds); name == "chat_clock_seconds" && err == nil {
				line = fmt.Sprintf("%s %f\n", name, seconds-95.5)
			}
			fmt.Fprint(rw, line)
		}
	})}
	go s.ListenAndServe()
	w.T.Cleanup(func() { s.Close() })
	return addr
}
