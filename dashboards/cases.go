package dashboards

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Case is one test of an alert: what Prometheus has seen, and what fires then.
// It becomes a file of alerts/tests/, for promtool test rules.
type Case struct {
	Alert  string
	Name   string
	Step   string      // between samples and evaluations; "": 1m
	Series [][2]string // series and values, in promtool's notation
	At     string
	Fires  []Firing // none: it stays silent
}

// Firing is one alert that is expected.
type Firing struct {
	Labels  string // without those of the rule, as a="b", c="d"
	Window  string // which of several rules of that name
	Summary string
}

// AlwaysFires are alerts that cannot stay silent, with the reason.
var AlwaysFires = map[string]string{"ChatWatchdog": "it is there to be missed"}

// evaluations are how often the rules of a test are evaluated, where its hours
// or days need no more than this; else 1m.
var evaluations = map[string]string{
	"ChatTurnErrorBudgetBurn": "5m", "ChatFirstWordsBudgetBurn": "5m", "ChatApiErrorBudgetBurn": "5m", "ChatReadsBudgetBurn": "5m", "ChatSpendRunaway": "30m",
}

const parley = `job="parley"`

// turns are counters that grow by n a minute, by outcome.
func turns(minutes int, counts ...any) [][2]string {
	var out [][2]string
	for i := 0; i+1 < len(counts); i += 2 {
		out = append(out, [2]string{
			fmt.Sprintf(`chat_turns_total{job="parley",instance="a",provider="openai",model="m",outcome="%s"}`, counts[i]),
			fmt.Sprintf("0+%vx%d", counts[i+1], minutes)})
	}
	return out
}

// turnsOf is turns of a model.
func turnsOf(provider, model string, minutes int, counts ...any) [][2]string {
	out := turns(minutes, counts...)
	for i := range out {
		out[i][0] = strings.Replace(out[i][0], `provider="openai",model="m"`, fmt.Sprintf(`provider="%s",model="%s"`, provider, model), 1)
	}
	return out
}

// route are requests that grow by n a minute: routes, statuses and numbers in turn.
func route(method string, of ...any) [][2]string {
	var out [][2]string
	for i := 0; i+2 < len(of); i += 3 {
		out = append(out, [2]string{
			fmt.Sprintf(`http_server_request_duration_seconds_count{job="parley",instance="a",http_request_method="%s",http_route="%s",http_response_status_code="%s"}`, method, of[i], of[i+1]),
			fmt.Sprintf("0+%vx60", of[i+2])})
	}
	return append(out, [2]string{`chat_build_info{job="parley",instance="a",version="1"}`, "1x60"})
}

// readsOf are reads that grow by all a minute, fast of which within 25 ms.
func readsOf(minutes int, fast, all any) [][2]string {
	const labels = `{job="parley",instance="a",http_request_method="GET",http_route="/api/chat/messages",http_response_status_code="200"`
	return [][2]string{
		{"http_server_request_duration_seconds_bucket" + labels + `,le="0.025"}`, fmt.Sprintf("0+%vx%d", fast, minutes)},
		{"http_server_request_duration_seconds_count" + labels + "}", fmt.Sprintf("0+%vx%d", all, minutes)},
		{`chat_build_info{job="parley",instance="a",version="1"}`, fmt.Sprintf("1x%d", minutes)},
	}
}

// speed are replies that grow by all a minute: so many up to 2.5 and up to 5 tokens a second.
func speed(minutes int, provider string, upTo2, upTo5, all any) [][2]string {
	of := fmt.Sprintf(`{job="parley",instance="a",provider="%s",model="m"`, provider)
	var out [][2]string
	for le, n := range map[string]any{"2.5": upTo2, "5": upTo5, "80": all, "+Inf": all} {
		out = append(out, [2]string{"chat_output_tokens_per_second_bucket" + of + `,le="` + le + `"}`, fmt.Sprintf("0+%vx%d", n, minutes)})
	}
	slices.SortFunc(out, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return append(out, [2]string{"chat_output_tokens_per_second_count" + of + "}", fmt.Sprintf("0+%vx%d", all, minutes)})
}

// firstOutputs are turns by their values, fast of which had their first output in time.
func firstOutputs(fast, all string) [][2]string {
	out := first(0, 0, 0)
	out[0][1], out[1][1] = fast, all
	return out
}

func first(minutes int, fast, all any) [][2]string {
	return [][2]string{
		{`chat_turn_time_to_first_event_seconds_bucket{job="parley",instance="a",provider="openai",model="m",le="2.5"}`, fmt.Sprintf("0+%vx%d", fast, minutes)},
		{`chat_turn_time_to_first_event_seconds_count{job="parley",instance="a",provider="openai",model="m"}`, fmt.Sprintf("0+%vx%d", all, minutes)},
	}
}

// requests are counters that grow by so many a minute.
func requests(minutes int, ok, failed any) [][2]string {
	return [][2]string{
		{`chat_api_requests_total{job="parley",instance="a",result="ok"}`, fmt.Sprintf("0+%vx%d", ok, minutes)},
		{`chat_api_requests_total{job="parley",instance="a",result="error"}`, fmt.Sprintf("0+%vx%d", failed, minutes)},
	}
}

// burning expects the alerts of the windows named, all with the same share.
func burning(share, what string, windows ...string) []Firing {
	var out []Firing
	for _, w := range windows {
		out = append(out, Firing{Labels: parley, Window: w, Summary: fmt.Sprintf("%s of %s over %s (parley)", share, what, w)})
	}
	return out
}

// cpus are the processors of a machine, each idle for as many seconds as the values say.
func cpus(component, idle string) [][2]string {
	var out [][2]string
	for _, cpu := range []string{"0", "1", "2", "3"} {
		out = append(out, [2]string{fmt.Sprintf(`node_cpu_seconds_total{job="node",instance="db",component="%s",cpu="%s",mode="idle"}`, component, cpu), idle})
	}
	return out
}

func fires(labels, summary string) []Firing { return []Firing{{Labels: labels, Summary: summary}} }

// Cases returns every test of every alert.
func Cases() []Case {
	const failed, slow, broken = "turns failed", "turns took more than 2.5 s to their first output", "requests ended in 5xx"
	decisions := func(scope, decision, values string) [2]string {
		return [2]string{fmt.Sprintf(`chat_ratelimit_decisions_total{job="parley",instance="a",scope="%s",decision="%s"}`, scope, decision), values}
	}
	attempts := func(result, values string) [2]string {
		return [2]string{fmt.Sprintf(`chat_provider_attempts_total{job="parley",instance="a",provider="openai",model="m",kind="first",result="%s"}`, result), values}
	}
	breaker := func(name, state, values string) [2]string {
		return [2]string{fmt.Sprintf(`chat_breaker_state{job="parley",instance="a",breaker="%s",state="%s"}`, name, state), values}
	}
	proxied := func(instance, backend, server string, up int) [2]string {
		return [2]string{fmt.Sprintf(`haproxy_server_status{job="proxy",instance="%s",proxy="%s",server="%s",state="UP"}`, instance, backend, server), fmt.Sprintf("%dx30", up)}
	}
	one := func(metric, labels, values string) [2]string {
		if labels != "" {
			labels = "," + labels
		}
		return [2]string{metric + `{job="parley",instance="a"` + labels + `}`, values}
	}
	return []Case{
		{Alert: "ChatTurnErrorBudgetBurn", Name: "one turn of ten fails", At: "3h", Series: turns(180, "ok", 9, "provider_error", 1), Fires: burning("10%", failed, "1h", "6h", "1d", "3d")},
		{Alert: "ChatTurnErrorBudgetBurn", Name: "one of 25: no fast page", At: "3h", Series: turns(180, "ok", 24, "timeout", 1), Fires: burning("4%", failed, "6h", "1d", "3d")},
		{Alert: "ChatTurnErrorBudgetBurn", Name: "one of 50: tickets", At: "3h", Series: turns(180, "ok", 49, "breaker_open", 1), Fires: burning("2%", failed, "1d", "3d")},
		{Alert: "ChatTurnErrorBudgetBurn", Name: "one of 100: a ticket", At: "3h", Series: turns(180, "ok", 99, "internal_error", 1), Fires: burning("1%", failed, "3d")},
		{Alert: "ChatTurnErrorBudgetBurn", Name: "one of 400 is within the budget", At: "3h", Series: turns(180, "ok", 399, "internal_error", 1)},
		{Alert: "ChatTurnErrorBudgetBurn", Name: "what users and limits end is no failure", At: "3h", Series: turns(180, "ok", 1, "client_cancel", 50, "rate_limited", 50, "quota", 5, "provider_error", 0)},
		{Alert: "ChatTurnErrorBudgetBurn", Name: "ten turns an hour are too few to judge", At: "3h", Step: "2m", Series: turns(300, "ok", 0, "provider_error", 0.33)},
		{Alert: "ChatTurnErrorBudgetBurn", Name: "nobody is there", At: "3h", Series: turns(180, "ok", 0, "provider_error", 0)},
		{Alert: "ChatTurnErrorBudgetBurn", Name: "an hour without a reply, and 50 minutes with: the pages end, the tickets stay", At: "8h",
			Series: [][2]string{
				{`chat_turns_total{job="parley",instance="a",provider="openai",model="m",outcome="ok"}`, "0+10x370 3700x60 3700+10x50"},
				{`chat_turns_total{job="parley",instance="a",provider="openai",model="m",outcome="provider_error"}`, "0x370 0+10x60 600x50"}},
			Fires: []Firing{
				{Labels: parley, Window: "1d", Summary: "12.55% of turns failed over 1d (parley)"},
				{Labels: parley, Window: "3d", Summary: "12.55% of turns failed over 3d (parley)"}}},
		{Alert: "ChatFirstWordsBudgetBurn", Name: "four of five are slow", At: "3h", Series: first(180, 2, 10), Fires: burning("80%", slow, "1h", "6h", "1d", "3d")},
		{Alert: "ChatFirstWordsBudgetBurn", Name: "four of ten are slow", At: "3h", Series: first(180, 6, 10), Fires: burning("40%", slow, "6h", "1d", "3d")},
		{Alert: "ChatFirstWordsBudgetBurn", Name: "one of 25 is within the budget", At: "3h", Series: first(180, 24, 25)},
		{Alert: "ChatApiErrorBudgetBurn", Name: "one of 50 requests fails", At: "3h", Series: requests(180, 49, 1), Fires: burning("2%", broken, "1h", "6h", "1d", "3d")},
		{Alert: "ChatApiErrorBudgetBurn", Name: "one of 200 requests fails", At: "3h", Series: requests(180, 199, 1), Fires: burning("0.5%", broken, "1d", "3d")},
		{Alert: "ChatApiErrorBudgetBurn", Name: "one of 2,000 is within the budget", At: "3h", Series: requests(180, 1999, 1)},
		{Alert: "ChatApiErrorBudgetBurn", Name: "a total outage: the proxy answers by itself, and no instance counts anything", At: "30m",
			Series: [][2]string{one("chat_build_info", `version="1"`, "1x30"),
				{`haproxy_backend_http_responses_total{job="proxy",instance="p",proxy="parley",code="5xx"}`, "0x9 0+60x20"},
				{`haproxy_server_http_responses_total{job="proxy",instance="p",proxy="parley",server="parley-1",code="5xx"}`, "0x30"},
				{`haproxy_server_http_responses_total{job="proxy",instance="p",proxy="parley",server="parley-2",code="5xx"}`, "0x30"},
				{`chat_api_requests_total{job="parley",instance="a",result="ok"}`, "0+60x9 540x21"},
				{`chat_api_requests_total{job="parley",instance="a",result="error"}`, "0x30"}},
			Fires: burning("68.97%", broken, "1h", "6h", "1d", "3d")},
		{Alert: "ChatApiErrorBudgetBurn", Name: "instances answer 5xx through the proxy: they count once, and another's backend never", At: "3h",
			Series: append(requests(180, 199, 1), one("chat_build_info", `version="1"`, "1x180"),
				[2]string{`haproxy_backend_http_responses_total{job="proxy",instance="p",proxy="parley",code="5xx"}`, "0+1x180"},
				[2]string{`haproxy_server_http_responses_total{job="proxy",instance="p",proxy="parley",server="parley-1",code="5xx"}`, "0+1x180"},
				[2]string{`haproxy_backend_http_responses_total{job="proxy",instance="p",proxy="shop",code="5xx"}`, "0+900x180"},
				[2]string{`haproxy_server_http_responses_total{job="proxy",instance="p",proxy="shop",server="shop-1",code="5xx"}`, "0x180"}),
			Fires: burning("0.5%", broken, "1d", "3d")},
		{Alert: "ChatApiErrorBudgetBurn", Name: "a burst within a minute after a start (the window of 1h waits for two minutes, in steps of five here)", At: "30m",
			Series: [][2]string{
				{`chat_api_requests_total{job="parley",instance="a",result="ok"}`, "_x20 0+10x20"},
				{`chat_api_requests_total{job="parley",instance="a",result="error"}`, "_x20 0 0x5 200x15"}},
			Fires: burning("66.67%", broken, "6h", "1d", "3d")},

		{Alert: "ChatAbsent", Name: "all instances vanish", At: "20m", Series: [][2]string{one("chat_build_info", `version="1"`, "1x5 _x30")},
			Fires: fires(parley, "No instance of Parley (parley) is scraped; 1 job is missing")},
		{Alert: "ChatAbsent", Name: "none was ever there", At: "10m", Series: [][2]string{{"up{job=\"node\"}", "1x20"}},
			Fires: fires("", "No instance of Parley is scraped; 1 job is missing")},
		{Alert: "ChatAbsent", Name: "one of two is left", At: "30m", Series: [][2]string{one("chat_build_info", `version="1"`, "1x40"), {`chat_build_info{job="parley",instance="b",version="1"}`, "1x5 _x30"}}},
		{Alert: "ChatDependencyDown", Name: "the database is away for all", At: "10m",
			Series: [][2]string{one("chat_dependency_up", `dependency="database"`, "1x3 0x10"), {`chat_dependency_up{job="parley",instance="b",dependency="database"}`, "1x3 0x10"}},
			Fires:  fires(`job="parley", dependency="database"`, "No instance reaches the database (parley); up is 0")},
		{Alert: "ChatDependencyDown", Name: "one instance reaches it", At: "10m",
			Series: [][2]string{one("chat_dependency_up", `dependency="database"`, "1x13"), {`chat_dependency_up{job="parley",instance="b",dependency="database"}`, "0x13"}}},
		{Alert: "ChatDependencyDown", Name: "one probe without it", At: "5m", Series: [][2]string{one("chat_dependency_up", `dependency="database"`, "1x4 0 1x5")}},
		{Alert: "ChatAllProvidersUnavailable", Name: "both providers are down; a third model that nobody uses has a closed breaker", At: "10m",
			Series: append(append(turns(20, "ok", 0, "provider_error", 2, "breaker_open", 8), turnsOf("openai", "idle", 20, "ok", 0)...), breaker("openai/idle", "closed", "1x20")),
			Fires:  fires(parley, "100% of replies get nothing from any provider (parley)")},
		{Alert: "ChatAllProvidersUnavailable", Name: "every provider hangs", At: "10m", Series: turns(20, "ok", 0, "timeout", 4),
			Fires: fires(parley, "100% of replies get nothing from any provider (parley)")},
		{Alert: "ChatAllProvidersUnavailable", Name: "one of two providers is down: half of the replies come", At: "10m", Series: turns(20, "ok", 5, "provider_error", 5)},
		{Alert: "ChatAllProvidersUnavailable", Name: "the database is away", At: "10m", Series: turns(20, "ok", 0, "provider_error", 0, "internal_error", 10)},
		{Alert: "ChatAllProvidersUnavailable", Name: "breakers are open, but nobody asks", At: "10m", Series: append(turns(20, "ok", 0, "breaker_open", 0), breaker("openai/m", "open", "1x20"))},
		{Alert: "ChatAllProvidersUnavailable", Name: "a healthy hour", At: "60m", Series: turns(60, "ok", 10, "provider_error", 0)},
		{Alert: "ChatProxyDown", Name: "the proxy is away", At: "10m", Series: [][2]string{{`up{job="proxy",instance="p",component="proxy"}`, "1x3 0x20"}, one("chat_build_info", `version="1"`, "1x30")},
			Fires: fires(`job="proxy"`, "The proxy cannot be scraped; up is 0 (proxy)")},
		{Alert: "ChatProxyDown", Name: "one instance is away", At: "10m", Series: [][2]string{{`up{job="proxy",instance="p",component="proxy"}`, "1x23"}, one("up", "", "0x30"), one("chat_build_info", `version="1"`, "1x30")}},
		{Alert: "ChatDatabaseLocked", Name: "a table is locked", At: "10m", Series: [][2]string{one("chat_database_lock_waits", "", "0x3 4x20"), {`chat_database_lock_waits{job="parley",instance="b"}`, "0x3 3x20"}},
			Fires: fires(parley, "4 sessions of the database wait for a lock that is not released (parley)")},
		{Alert: "ChatDatabaseLocked", Name: "short waits of a busy hour", At: "10m", Step: "15s", Series: [][2]string{one("chat_database_lock_waits", "", "0x20 1 0x10 1 0x40")}},
		{Alert: "ChatDatabaseLocked", Name: "the database is slow, without locks", At: "10m", Series: [][2]string{one("chat_database_lock_waits", "", "0x20"), one("chat_dependency_up", `dependency="database"`, "0x20")}},
		{Alert: "ChatProviderFrozen", Name: "one provider sends nothing", At: "10m",
			Series: [][2]string{one("chat_runs_without_output", `provider="openai"`, "0x3 8x20"), one("chat_runs_without_output", `provider="anthropic"`, "0x30"), one("chat_runs_active", "", "9x30")},
			Fires:  fires(`job="parley", provider="openai"`, "8 replies, more than half, have waited over 10 s for the first output of openai (parley)")},
		{Alert: "ChatProviderFrozen", Name: "some replies think for long", At: "10m", Series: [][2]string{one("chat_runs_without_output", `provider="openai"`, "4x30"), one("chat_runs_active", "", "20x30")}},
		{Alert: "ChatProviderFrozen", Name: "an outage, in which requests fail at once", At: "10m", Series: append(turns(20, "provider_error", 10), one("chat_runs_without_output", `provider="openai"`, "0x30"), one("chat_runs_active", "", "1x30"))},
		{Alert: "ChatFirstWordsSlow", Name: "four of five are slow since ten minutes", At: "30m", Series: firstOutputs("0+10x18 190+2x20", "0+10x18 190+10x20"),
			Fires: fires(parley, "80% of turns took more than 2.5 s to their first output over five minutes (parley)")},
		{Alert: "ChatFirstWordsSlow", Name: "four of ten are slow", At: "30m", Series: first(30, 6, 10)},
		{Alert: "ChatFirstWordsSlow", Name: "all of very few are slow", At: "30m", Step: "1m", Series: first(30, 0, 0.2)},
		{Alert: "ChatFirstWordsSlow", Name: "no provider answers: there is no first output at all", At: "30m", Series: append(first(30, 0, 0), turns(30, "provider_error", 10)...)},
		{Alert: "ChatQueueStuck", Name: "no instance claims", At: "10m", Series: [][2]string{one("chat_oldest_queued_run_seconds", "", "0x2 0+60x20"), one("chat_runs_queued", "", "4x30")},
			Fires: fires(parley, "A reply has waited 7m 0s for an instance that makes it (parley)")},
		{Alert: "ChatQueueStuck", Name: "replies wait behind others of their conversation", At: "10m", Series: [][2]string{one("chat_oldest_queued_run_seconds", "", "0x30"), one("chat_runs_queued", "", "40x30")}},
		{Alert: "ChatQueueStuck", Name: "an instance has crashed, and another takes over", At: "10m", Series: [][2]string{one("chat_oldest_queued_run_seconds", "", "0x5 20 0x30")}},
		{Alert: "ChatRouteFailing", Name: "a faulty release", At: "10m", Series: append(route("GET", "/api/chat/conversations", "500", 4), route("GET", "/api/chat/messages", "200", 90, "/api/chat/conversations", "200", 1)...),
			Fires: fires(`job="parley", http_request_method="GET", http_route="/api/chat/conversations"`, "80% of GET /api/chat/conversations end in status 500 (parley)")},
		{Alert: "ChatRouteFailing", Name: "the database is away", At: "10m", Series: route("GET", "/api/chat/conversations", "503", 40)},
		{Alert: "ChatRouteFailing", Name: "one of a hundred", At: "10m", Series: route("GET", "/api/chat/conversations", "500", 1, "/api/chat/conversations", "200", 99)},
		{Alert: "ChatAllCallersRefused", Name: "tokens are signed with another secret", At: "15m", Series: route("GET", "/api/chat/messages", "200", 0, "/api/chat/messages", "401", 20),
			Fires: fires(`job="parley", instance="a"`, "a refuses 100% of requests because of their token (parley)")},
		{Alert: "ChatAllCallersRefused", Name: "one of two instances has another secret", At: "15m",
			Series: append(route("GET", "/api/chat/messages", "200", 0, "/api/chat/messages", "401", 20),
				[2]string{`http_server_request_duration_seconds_count{job="parley",instance="b",http_request_method="GET",http_route="/api/chat/messages",http_response_status_code="200"}`, "0+20x60"},
				[2]string{`http_server_request_duration_seconds_count{job="parley",instance="b",http_request_method="GET",http_route="/api/chat/messages",http_response_status_code="401"}`, "0x60"}),
			Fires: fires(`job="parley", instance="a"`, "a refuses 100% of requests because of their token (parley)")},
		{Alert: "ChatAllCallersRefused", Name: "a caller guesses tokens while users work", At: "15m", Series: route("GET", "/api/chat/messages", "200", 100, "/api/chat/messages", "401", 900)},
		{Alert: "ChatAllCallersRefused", Name: "one client with an expired token at night", At: "15m", Series: route("GET", "/api/chat/messages", "200", 0, "/api/chat/messages", "401", 2)},
		{Alert: "ChatLimiterFailOpen", Name: "most is decided alone", At: "30m",
			Series: [][2]string{decisions("send", "allow", "0+1x30"), decisions("send", "fallback_allow", "0+8x30"), decisions("coarse", "fallback_deny", "0+1x30")},
			Fires:  fires(parley, "90% of rate limit decisions are made without Redis (parley)")},
		{Alert: "ChatLimiterFailOpen", Name: "little is", At: "30m", Series: [][2]string{decisions("send", "allow", "0+9x30"), decisions("send", "fallback_allow", "0+1x30")}},
		{Alert: "ChatLimiterFailOpen", Name: "nobody asks", At: "30m", Series: [][2]string{decisions("send", "allow", "5x30"), decisions("send", "fallback_allow", "5x30")}},
		{Alert: "ChatSpendWithoutLimiter", Name: "the cost rises tenfold while Redis is away", At: "70m",
			Series: [][2]string{one("chat_cost_usd_total", `provider="openai",model="m"`, "0+0.1x60 7+1x60"), decisions("send", "allow", "0x120"), decisions("send", "fallback_allow", "0+8x120")},
			Fires:  fires(parley, "Cost of 60.00 USD an hour, more than three times that of the hour before, while limits are decided without Redis (parley)")},
		{Alert: "ChatSpendWithoutLimiter", Name: "Redis is away, and the cost is as before", At: "90m",
			Series: [][2]string{one("chat_cost_usd_total", `provider="openai",model="m"`, "0+1x120"), decisions("send", "allow", "0x120"), decisions("send", "fallback_allow", "0+8x120")}},
		{Alert: "ChatSpendWithoutLimiter", Name: "the cost rises, with Redis", At: "70m",
			Series: [][2]string{one("chat_cost_usd_total", `provider="openai",model="m"`, "0+0.1x60 7+1x60"), decisions("send", "allow", "0+8x120"), decisions("send", "fallback_allow", "0x120")}},
		{Alert: "ChatSpendRunaway", Name: "sixty times last week", Step: "30m", At: "172h", Series: [][2]string{one("chat_cost_usd_total", `provider="openai",model="m"`, "0+0.5x336 198+30x20")},
			Fires: fires(parley, "Cost of 60.00 USD an hour, more than ten times what it was (parley)")},
		{Alert: "ChatSpendRunaway", Name: "in the first week, sixty times the day before", Step: "30m", At: "26h", Series: [][2]string{one("chat_cost_usd_total", `provider="openai",model="m"`, "0+0.5x50 55+30x10")},
			Fires: fires(parley, "Cost of 60.00 USD an hour, more than ten times what it was (parley)")},
		{Alert: "ChatSpendRunaway", Name: "in the first week, five times the day before", Step: "30m", At: "26h", Series: [][2]string{one("chat_cost_usd_total", `provider="openai",model="m"`, "0+5x50 275+25x10")}},
		{Alert: "ChatSpendRunaway", Name: "a morning after a quiet night, as dear as last week's", Step: "30m", At: "172h", Series: [][2]string{one("chat_cost_usd_total", `provider="openai",model="m"`, "0x2 0+30x8 240x318 240+30x20")}},
		{Alert: "ChatSpendRunaway", Name: "fifteen times, but cheap", Step: "30m", At: "172h", Series: [][2]string{one("chat_cost_usd_total", `provider="openai",model="m"`, "0+0.5x336 175.5+7.5x20")}},
		{Alert: "ChatSpendRunaway", Name: "five times", Step: "30m", At: "172h", Series: [][2]string{one("chat_cost_usd_total", `provider="openai",model="m"`, "0+5x336 1705+25x20")}},
		{Alert: "ChatWatchdog", Name: "always", At: "1m", Fires: fires("", "Alerting works (1). This alert always fires")},

		{Alert: "ChatInstanceDown", Name: "one of two", At: "20m",
			Series: [][2]string{one("up", "", "1x30"), {`up{job="parley",instance="b"}`, "1x3 0x30"}, one("chat_build_info", `version="1"`, "1x30")},
			Fires:  fires(`job="parley", instance="b"`, "b cannot be scraped; up is 0 (parley)")},
		{Alert: "ChatInstanceDown", Name: "another service, and a short restart", At: "20m",
			Series: [][2]string{{`up{job="node",instance="n"}`, "0x30"}, one("up", "", "1x10 0x3 1x20"), one("chat_build_info", `version="1"`, "1x30")}},
		{Alert: "ChatInstanceNotReady", Name: "one of two does not reach the database", At: "10m",
			Series: [][2]string{one("chat_dependency_up", `dependency="database"`, "1x20"), {`chat_dependency_up{job="parley",instance="b",dependency="database"}`, "1x2 0x20"}},
			Fires:  fires(`job="parley", instance="b", dependency="database"`, "b does not reach the database; up is 0 (parley)")},
		{Alert: "ChatInstanceNotReady", Name: "Redis and files are away, which no request needs to be accepted", At: "10m",
			Series: [][2]string{one("chat_dependency_up", `dependency="database"`, "1x20"), one("chat_dependency_up", `dependency="redis"`, "0x20"), one("chat_dependency_up", `dependency="files"`, "0x20")}},
		{Alert: "ChatInstanceNotReady", Name: "a connection was lost for a minute", At: "10m", Series: [][2]string{one("chat_dependency_up", `dependency="database"`, "1x5 0x1 1x20")}},
		{Alert: "ChatInstanceUnobserved", Name: "a target is missing, and two proxies know it", At: "20m",
			Series: [][2]string{one("up", "", "1x30"), one("chat_build_info", `version="1"`, "1x30"), proxied("p", "parley", "parley-1", 1), proxied("p", "parley", "parley-2", 1), proxied("q", "parley", "parley-1", 1), proxied("q", "parley", "parley-2", 1)},
			Fires:  fires(parley, "The proxy sends requests to 2 instances, and Prometheus scrapes fewer (parley)")},
		{Alert: "ChatInstanceUnobserved", Name: "one of two is down, and the proxy knows it", At: "20m",
			Series: [][2]string{one("up", "", "1x30"), {`up{job="parley",instance="b"}`, "0x30"}, one("chat_build_info", `version="1"`, "1x30"), proxied("p", "parley", "parley-1", 1), proxied("p", "parley", "parley-2", 0)}},
		{Alert: "ChatInstanceUnobserved", Name: "two proxies before two instances, and another service", At: "20m",
			Series: [][2]string{one("up", "", "1x30"), {`up{job="parley",instance="b"}`, "1x30"}, one("chat_build_info", `version="1"`, "1x30"), proxied("p", "parley", "parley-1", 1), proxied("p", "parley", "parley-2", 1), proxied("q", "parley", "parley-1", 1), proxied("q", "shop", "shop-1", 1)}},
		{Alert: "ChatInstanceRestarting", Name: "it is killed every ten minutes", At: "60m",
			Series: [][2]string{one("process_start_time_seconds", "", "0x9 600x9 1200x9 1800x9 2400x9 3000x20"), one("chat_build_info", `version="1"`, "1x70")},
			Fires:  fires(`job="parley", instance="a"`, "a has started 5 times in an hour (parley)")},
		{Alert: "ChatInstanceRestarting", Name: "a deploy, and back", At: "60m", Series: [][2]string{one("process_start_time_seconds", "", "0x19 1200x9 1800x40"), one("chat_build_info", `version="1"`, "1x70")}},
		{Alert: "ChatInstanceRestarting", Name: "another service", At: "60m", Series: [][2]string{one("process_start_time_seconds", "", "0+60x70")}},
		{Alert: "ChatRedisDown", Name: "for one instance", At: "10m",
			Series: [][2]string{one("chat_dependency_up", `dependency="redis"`, "1x20"), {`chat_dependency_up{job="parley",instance="b",dependency="redis"}`, "1x2 0x20"}},
			Fires:  fires(`job="parley", dependency="redis"`, "An instance cannot use redis; up is 0 (parley)")},
		{Alert: "ChatRedisDown", Name: "it is there", At: "10m", Series: [][2]string{one("chat_dependency_up", `dependency="redis"`, "1x20"), one("chat_dependency_up", `dependency="database"`, "0x20")}},
		{Alert: "ChatProviderKeyRefused", Name: "one instance is refused", At: "10m",
			Series: [][2]string{one("chat_provider_key_refused", `provider="openai"`, "0x2 1x20"), one("chat_provider_key_refused", `provider="anthropic"`, "0x20"),
				{`chat_provider_key_refused{job="parley",instance="b",provider="openai"}`, "0x20"}},
			Fires: fires(`job="parley", provider="openai"`, "openai refuses the configured key (refused: 1; parley)")},
		{Alert: "ChatProviderKeyRefused", Name: "all keys are taken", At: "10m", Series: [][2]string{one("chat_provider_key_refused", `provider="openai"`, "0x20")}},
		{Alert: "ChatProviderKeyRefused", Name: "refused once, during a rotation", At: "10m", Series: [][2]string{one("chat_provider_key_refused", `provider="openai"`, "0x8 1 0x20")}},
		{Alert: "ChatProviderDegraded", Name: "half fail", At: "30m", Series: [][2]string{attempts("ok", "0+5x30"), attempts("error", "0+5x30")},
			Fires: fires(`job="parley", provider="openai"`, "50% of requests to openai fail (parley)")},
		{Alert: "ChatProviderDegraded", Name: "one of ten fails", At: "30m", Series: [][2]string{attempts("ok", "0+9x30"), attempts("error", "0+1x30"), attempts("canceled", "0+9x30")}},
		{Alert: "ChatProviderDegraded", Name: "all of very few fail", At: "30m", Series: [][2]string{attempts("ok", "0x30"), attempts("error", "0+0.5x30")}},
		{Alert: "ChatBreakerFlapping", Name: "four times open and closed again", At: "70m",
			Series: [][2]string{one("chat_breaker_transitions_total", `breaker="openai/m",state="open"`, "0 0x10 1x10 2x10 3x10 4x10 5x30"), one("chat_breaker_transitions_total", `breaker="openai/m",state="closed"`, "0 0x12 1x10 2x10 3x10 4x40")},
			Fires:  fires(`job="parley", breaker="openai/m"`, "Breaker openai/m opened and closed 4 times in an hour (parley)")},
		{Alert: "ChatBreakerFlapping", Name: "one outage of an hour, tried every ten seconds, seen by two instances", At: "70m",
			Series: [][2]string{one("chat_breaker_transitions_total", `breaker="openai/m",state="open"`, "0x5 1+6x50 301x20"), one("chat_breaker_transitions_total", `breaker="openai/m",state="half-open"`, "0x5 0+6x50 301x20"),
				one("chat_breaker_transitions_total", `breaker="openai/m",state="closed"`, "0x55 1x30"), {`chat_breaker_transitions_total{job="parley",instance="b",breaker="openai/m",state="closed"}`, "0x55 1x30"}}},
		{Alert: "ChatRateLimitHeadroomLow", Name: "tokens run out, before the provider refuses", At: "30m",
			Series: [][2]string{one("chat_provider_ratelimit_remaining_ratio", `provider="openai",kind="tokens"`, "0.15x30"), one("chat_provider_ratelimit_remaining_ratio", `provider="openai",kind="requests"`, "0.8x30"), attempts("ok", "0+5x30"), attempts("rate_limited", "0x30")},
			Fires:  fires(`job="parley", provider="openai", kind="tokens"`, "15% of the limit of tokens at openai was left over five minutes (parley)")},
		{Alert: "ChatRateLimitHeadroomLow", Name: "dips that the provider refills", At: "30m", Step: "30s", Series: [][2]string{one("chat_provider_ratelimit_remaining_ratio", `provider="openai",kind="tokens"`, "0.9 0.5 0.05 0.9 0.5 0.05 0.9 0.5 0.05 0.9x60"), attempts("ok", "0+5x60")}},
		{Alert: "ChatRateLimitHeadroomLow", Name: "low when the last request was made, long ago", At: "30m", Series: [][2]string{one("chat_provider_ratelimit_remaining_ratio", `provider="openai",kind="tokens"`, "0.05x30"), attempts("ok", "7x30")}},
		{Alert: "ChatProviderLimited", Name: "one of five is refused", At: "15m", Series: [][2]string{attempts("ok", "0+8x30"), attempts("rate_limited", "0+2x30")},
			Fires: fires(`job="parley", provider="openai"`, "openai answers 20% of requests with 429 (parley)")},
		{Alert: "ChatProviderLimited", Name: "the provider fails otherwise", At: "15m", Series: [][2]string{attempts("ok", "0+8x30"), attempts("error", "0+8x30"), attempts("rate_limited", "0x30")}},
		{Alert: "ChatProviderLimited", Name: "one of a hundred is refused", At: "15m", Series: [][2]string{attempts("ok", "0+99x30"), attempts("rate_limited", "0+1x30")}},
		{Alert: "ChatCallersRefused", Name: "60 bad tokens a second", At: "10m", Series: [][2]string{one("chat_refusals_total", `kind="UNAUTHORIZED"`, "0+100x30"), decisions("coarse", "allow", "0+100x30"), decisions("coarse", "deny", "0+3500x30"), decisions("coarse", "fallback_deny", "0x30")},
			Fires: fires(parley, "60.0 requests a second are refused for bad tokens or because they are far too many (parley)")},
		{Alert: "ChatCallersRefused", Name: "expired tokens of an ordinary hour, and users over their limit of messages", At: "60m", Series: [][2]string{one("chat_refusals_total", `kind="UNAUTHORIZED"`, "0+30x60"), decisions("coarse", "allow", "0+900x60"), decisions("coarse", "deny", "0x60"), decisions("send", "deny", "0+600x60")}},
		{Alert: "ChatOutputSlow", Name: "one piece every three seconds", At: "20m", Series: speed(20, "openai", 5, 10, 10),
			Fires: fires(`job="parley", provider="openai", model="m"`, "Replies of openai m come at 2.5 tokens a second (parley)")},
		{Alert: "ChatOutputSlow", Name: "a healthy hour", At: "60m", Series: speed(60, "openai", 0, 0, 10)},
		{Alert: "ChatOutputSlow", Name: "a few replies are slow", At: "20m", Series: speed(20, "openai", 2, 4, 10)},
		{Alert: "ChatBlobStoreDown", Name: "the bucket is away", At: "10m", Series: [][2]string{one("chat_dependency_up", `dependency="files"`, "1x3 0x20"), one("chat_dependency_up", `dependency="database"`, "1x30")},
			Fires: fires(`job="parley", dependency="files"`, "An instance does not reach the store of files; up is 0 (parley)")},
		{Alert: "ChatBlobStoreDown", Name: "the database is away", At: "10m", Series: [][2]string{one("chat_dependency_up", `dependency="files"`, "1x30"), one("chat_dependency_up", `dependency="database"`, "0x30")}},
		{Alert: "ChatFilesLost", Name: "two blobs are missing", At: "60m", Series: [][2]string{one("chat_files_swept_total", `reason="lost"`, "0x30 2x60")},
			Fires: fires(parley, "The content of 2 files is missing in the store of files (parley)")},
		{Alert: "ChatFilesLost", Name: "uploads expire, and orphans are deleted", At: "60m", Series: [][2]string{one("chat_files_swept_total", `reason="lost"`, "0x90"), one("chat_files_swept_total", `reason="expired"`, "0+1x90"), one("chat_files_swept_total", `reason="orphan"`, "0+1x90")}},
		{Alert: "ChatReadsSlow", Name: "an index is gone", At: "15m", Series: readsOf(15, 6, 10), Fires: fires(parley, "40% of reads took more than 25 ms over five minutes (parley)")},
		{Alert: "ChatReadsSlow", Name: "one of ten is slow", At: "15m", Series: readsOf(15, 9, 10)},
		{Alert: "ChatReadsBudgetBurn", Name: "four of five are slow", At: "3h", Series: readsOf(180, 2, 10), Fires: burning("80%", "reads took more than 25 ms", "1h", "6h", "1d", "3d")},
		{Alert: "ChatReadsBudgetBurn", Name: "one of five is slow", At: "3h", Series: readsOf(180, 8, 10), Fires: burning("20%", "reads took more than 25 ms", "1d", "3d")},
		{Alert: "ChatReadsBudgetBurn", Name: "one of 25 is within the budget", At: "3h", Series: readsOf(180, 24, 25)},
		{Alert: "ChatRateLimited", Name: "a fifth is refused", At: "40m", Series: [][2]string{decisions("send", "allow", "0+8x40"), decisions("send", "deny", "0+2x40"), decisions("coarse", "allow", "0+99x40")},
			Fires: fires(parley, "20% of messages are refused by the rate limit (parley)")},
		{Alert: "ChatRateLimited", Name: "one of fifty, and reads", At: "40m", Series: [][2]string{decisions("send", "allow", "0+49x40"), decisions("send", "deny", "0+1x40"), decisions("coarse", "deny", "0+99x40")}},
		{Alert: "ChatPoolSaturated", Name: "full, and requests wait", At: "20m",
			Series: [][2]string{one("go_sql_in_use_connections", `db_name="parley"`, "12x30"), one("go_sql_max_open_connections", `db_name="parley"`, "12x30"), one("go_sql_wait_duration_seconds_total", `db_name="parley"`, "0+3x30"), one("chat_build_info", `version="1"`, "1x30")},
			Fires:  fires(`job="parley", instance="a"`, "100% of the database connections of a are in use, and requests wait (parley)")},
		{Alert: "ChatPoolSaturated", Name: "full, but nobody waits", At: "20m",
			Series: [][2]string{one("go_sql_in_use_connections", `db_name="parley"`, "12x30"), one("go_sql_max_open_connections", `db_name="parley"`, "12x30"), one("go_sql_wait_duration_seconds_total", `db_name="parley"`, "7x30"), one("chat_build_info", `version="1"`, "1x30")}},
		{Alert: "ChatPoolSaturated", Name: "another service's pool", At: "20m",
			Series: [][2]string{one("go_sql_in_use_connections", `db_name="theirs"`, "12x30"), one("go_sql_max_open_connections", `db_name="theirs"`, "12x30"), one("go_sql_wait_duration_seconds_total", `db_name="theirs"`, "0+3x30")}},
		{Alert: "ChatStatementsFailing", Name: "deadlocks", At: "20m",
			Series: [][2]string{one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="admit",error_type=""`, "0+95x40"), one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="admit",error_type="40P01"`, "0+5x40"), one("chat_build_info", `version="1"`, "1x40")},
			Fires:  fires(`job="parley", error_type="40P01"`, "5% of statements of the database fail with 40P01 (parley)")},
		{Alert: "ChatStatementsFailing", Name: "rows that exist, requests that were cancelled, and a pool that is in use", At: "20m",
			Series: [][2]string{one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="admit",error_type=""`, "0+50x40"), one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="admit",error_type="23505"`, "0+20x40"), one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="admit",error_type="40001"`, "0+20x40"), one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="list",error_type="canceled"`, "0+20x40"), one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="list",error_type="pool_exhausted"`, "0+20x40"), one("chat_build_info", `version="1"`, "1x40")}},
		{Alert: "ChatStatementsFailing", Name: "one of a thousand", At: "20m", Series: [][2]string{one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="admit",error_type=""`, "0+999x40"), one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="admit",error_type="57014"`, "0+1x40"), one("chat_build_info", `version="1"`, "1x40")}},
		{Alert: "ChatStatementsFailing", Name: "another service", At: "20m", Series: [][2]string{one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="admit",error_type=""`, "0+95x40"), one("db_client_operation_duration_seconds_count", `db_system_name="postgresql",db_operation_name="admit",error_type="40P01"`, "0+5x40")}},
		{Alert: "ChatReplicationSlotStuck", Name: "a replica was taken away, its slot was not", At: "40m", Series: [][2]string{one("chat_database_retained_wal_bytes", "", "0+1073741824x60"), {`chat_database_retained_wal_bytes{job="parley",instance="b"}`, "0+1073741824x60"}},
			Fires: fires(parley, "PostgreSQL keeps 40GiB of WAL for a replication slot (parley)")},
		{Alert: "ChatReplicationSlotStuck", Name: "a replica restarts", At: "40m", Series: [][2]string{one("chat_database_retained_wal_bytes", "", "0x20 12000000000x5 0x30")}},
		{Alert: "ChatTransactionIdsRunOut", Name: "autovacuum has been off for weeks", At: "40m", Series: [][2]string{one("chat_database_transaction_ids", "", "1200000000x60")},
			Fires: fires(parley, "1.2G transactions have passed since the oldest row that is not frozen (parley)")},
		{Alert: "ChatTransactionIdsRunOut", Name: "autovacuum freezes in time", At: "40m", Series: [][2]string{one("chat_database_transaction_ids", "", "200000000x60")}},
		{Alert: "ChatTransactionOpen", Name: "a session was left in a transaction", At: "80m", Series: [][2]string{one("chat_database_oldest_transaction_seconds", "", "0+60x90"), {`chat_database_oldest_transaction_seconds{job="parley",instance="b"}`, "0+60x90"}},
			Fires: fires(parley, "A transaction of the database has been open for 1h 20m 0s (parley)")},
		{Alert: "ChatTransactionOpen", Name: "a backup of half an hour", At: "80m", Series: [][2]string{one("chat_database_oldest_transaction_seconds", "", "0x45 0+60x30 0x20")}},
		{Alert: "ChatDescriptorsNearLimit", Name: "90 of 100", At: "20m", Series: [][2]string{one("process_open_fds", "", "90x30"), one("process_max_fds", "", "100x30"), one("chat_build_info", `version="1"`, "1x30")},
			Fires: fires(`job="parley", instance="a"`, "a has 90% of its file descriptors open (parley)")},
		{Alert: "ChatDescriptorsNearLimit", Name: "half of them", At: "20m", Series: [][2]string{one("process_open_fds", "", "50x30"), one("process_max_fds", "", "100x30"), one("chat_build_info", `version="1"`, "1x30")}},
		{Alert: "ChatDescriptorsNearLimit", Name: "a burst of a minute", At: "20m", Series: [][2]string{one("process_open_fds", "", "50x17 95 50x30"), one("process_max_fds", "", "100x50"), one("chat_build_info", `version="1"`, "1x50")}},
		{Alert: "ChatBudgetsExhausted", Name: "half of the messages are refused", At: "20m", Series: turns(30, "ok", 10, "quota", 10),
			Fires: fires(parley, "50% of messages are refused because a budget is used up (parley)")},
		{Alert: "ChatBudgetsExhausted", Name: "one user of ten has used it up", At: "20m", Series: turns(30, "ok", 90, "quota", 10)},
		{Alert: "ChatBudgetsExhausted", Name: "other refusals", At: "20m", Series: turns(30, "ok", 10, "quota", 0, "rate_limited", 90)},
		{Alert: "ChatBudgetsExhausted", Name: "one client at night", At: "20m", Series: turns(30, "ok", 0, "quota", 2)},
		{Alert: "ChatStreamAbortsHigh", Name: "slow readers", At: "40m", Series: append(turns(40, "ok", 10), one("chat_stream_aborts_total", `reason="write_timeout"`, "0+1x40"), one("chat_stream_aborts_total", `reason="client_gone"`, "0+5x40")),
			Fires: fires(parley, "10% of turns lose a slow client (parley)")},
		{Alert: "ChatStreamAbortsHigh", Name: "readers leave", At: "40m", Series: append(turns(40, "ok", 10), one("chat_stream_aborts_total", `reason="write_timeout"`, "0x40"), one("chat_stream_aborts_total", `reason="client_gone"`, "0+9x40"))},
		{Alert: "ChatBackgroundFailing", Name: "again and again", At: "40m", Series: [][2]string{one("chat_background_failures_total", `task="checkpoint"`, "0+6x40"), one("chat_background_failures_total", `task="audit"`, "0x40")},
			Fires: fires(`job="parley", task="checkpoint"`, "checkpoint fails 0.10 times a second in the background (parley)")},
		{Alert: "ChatBackgroundFailing", Name: "once", At: "40m", Series: [][2]string{one("chat_background_failures_total", `task="checkpoint"`, "0x20 1x20")}},
		{Alert: "ChatAuditUnsealed", Name: "nobody seals", At: "20m",
			Series: [][2]string{one("chat_audit_seal_lag_seconds", "", "0.2x5 60+60x20"), {`chat_audit_seal_lag_seconds{job="parley",instance="b"}`, "0.1x5 60+60x20"}},
			Fires:  fires(parley, "Audit entries have waited 15m 0s to be sealed (parley)")},
		{Alert: "ChatAuditUnsealed", Name: "one instance has stopped to look", At: "20m",
			Series: [][2]string{one("chat_audit_seal_lag_seconds", "", "90x25"), {`chat_audit_seal_lag_seconds{job="parley",instance="b"}`, "0.4x25"}}},
		{Alert: "ChatAuditUnsealed", Name: "the database was away for two minutes", At: "20m",
			Series: [][2]string{one("chat_audit_seal_lag_seconds", "", "0.2x5 90x2 0.2x20")}},
		{Alert: "ChatWebhooksLate", Name: "the receiver is down", At: "40m",
			Series: [][2]string{one("chat_webhook_oldest_seconds", "", "0x5 0+60x40"), {`chat_webhook_oldest_seconds{job="parley",instance="b"}`, "0x5 0+60x40"}},
			Fires:  fires(parley, "The oldest webhook has waited 34m 0s to be delivered (parley)")},
		{Alert: "ChatWebhooksLate", Name: "one instance has stopped to look", At: "40m",
			Series: [][2]string{one("chat_webhook_oldest_seconds", "", "1200x45"), {`chat_webhook_oldest_seconds{job="parley",instance="b"}`, "3x45"}}},
		{Alert: "ChatWebhooksLate", Name: "the receiver was deployed", At: "40m",
			Series: [][2]string{one("chat_webhook_oldest_seconds", "", "0x5 0+60x10 0x30")}},
		{Alert: "ChatWebhooksDead", Name: "some were given up", At: "40m",
			Series: [][2]string{one("chat_webhook_deliveries_total", `outcome="dead"`, "0x10 0+1x30")}, Fires: fires(parley, "29 webhooks were given up in an hour (parley)")},
		{Alert: "ChatWebhooksDead", Name: "sent again", At: "40m",
			Series: [][2]string{one("chat_webhook_deliveries_total", `outcome="dead"`, "0x45"), one("chat_webhook_deliveries_total", `outcome="retry"`, "0+9x45")}},
		{Alert: "ChatSchemaPending", Name: "one migration waits", At: "30m", Series: [][2]string{one("chat_schema_pending", "", "1x30")}, Fires: fires(parley, "1 migrations are pending (parley)")},
		{Alert: "ChatSchemaPending", Name: "during a deploy", At: "30m", Series: [][2]string{one("chat_schema_pending", "", "0x5 1x10 0x20")}},
		{Alert: "ChatTelemetryDropping", Name: "spans are lost", At: "30m", Series: [][2]string{one("chat_telemetry_dropped_total", `signal="traces"`, "0+60x30")}, Fires: fires(`job="parley", signal="traces"`, "1.0 traces a second are lost (parley)")},
		{Alert: "ChatTelemetryDropping", Name: "lines of the log are lost", At: "30m", Series: [][2]string{one("chat_telemetry_dropped_total", `signal="logs"`, "0+60x30")}},
		{Alert: "ChatLogsDropping", Name: "its disk is full", At: "30m", Series: [][2]string{one("chat_telemetry_dropped_total", `signal="logs"`, "0+60x30"), {`chat_telemetry_dropped_total{job="parley",instance="b",signal="logs"}`, "0x30"}},
			Fires: fires(`job="parley", instance="a"`, "1.0 lines of the log of a are lost every second (parley)")},
		{Alert: "ChatLogsDropping", Name: "spans are lost", At: "30m", Series: [][2]string{one("chat_telemetry_dropped_total", `signal="traces"`, "0+60x30")}},
		{Alert: "ChatLogsDropping", Name: "some were once", At: "30m", Series: [][2]string{one("chat_telemetry_dropped_total", `signal="logs"`, "0x5 60x30")}},
		{Alert: "ChatTelemetryDropping", Name: "some were once", At: "30m", Series: [][2]string{one("chat_telemetry_dropped_total", `signal="traces"`, "0x5 60x30")}},
		{Alert: "ChatDisabled", Name: "a provider is forgotten", At: "60m", Series: [][2]string{one("chat_disabled", `switch="openai"`, "0x20 1x60"), one("chat_disabled", `switch="chat"`, "0x80")},
			Fires: fires(`job="parley", switch="openai"`, "openai has been disabled on 1 instances for half an hour (parley)")},
		{Alert: "ChatDisabled", Name: "for twenty minutes", At: "40m", Series: [][2]string{one("chat_disabled", `switch="chat"`, "0x10 1x20 0x60")}},
		{Alert: "ChatUnpricedModel", Name: "a new model", At: "70m", Series: [][2]string{one("chat_unpriced_requests_total", `provider="openai",model="other"`, "0x10 6x80")}, Fires: fires(`job="parley", provider="openai", model="other"`, "6 replies of openai other have no price (parley)")},
		{Alert: "ChatUnpricedModel", Name: "all have one", At: "70m", Series: [][2]string{one("chat_unpriced_requests_total", `provider="openai",model="m"`, "3x80")}},
		{Alert: "ChatMemoryNearLimit", Name: "95 of 100", At: "30m", Series: [][2]string{one("process_resident_memory_bytes", "", "95x30"), one("go_gc_gomemlimit_bytes", "", "100x30"), one("chat_build_info", `version="1"`, "1x30")}, Fires: fires(`job="parley", instance="a"`, "a uses 95% of its memory limit (parley)")},
		{Alert: "ChatMemoryNearLimit", Name: "no limit is set", At: "30m", Series: [][2]string{one("process_resident_memory_bytes", "", "95000000x30"), one("go_gc_gomemlimit_bytes", "", "9.223372036854775807e+18x30"), one("chat_build_info", `version="1"`, "1x30")}},
		{Alert: "ChatMemoryNearLimit", Name: "another service", At: "30m", Series: [][2]string{one("process_resident_memory_bytes", "", "95x30"), one("go_gc_gomemlimit_bytes", "", "100x30")}},
		{Alert: "ChatMemoryForecast", Name: "a slow leak", At: "150m", Series: [][2]string{one("process_resident_memory_bytes", "", "40+0.25x200"), one("go_gc_gomemlimit_bytes", "", "100x200"), one("chat_build_info", `version="1"`, "1x200")},
			Fires: fires(`job="parley", instance="a"`, "a will use 137.5% of its memory limit in four hours (parley)")},
		{Alert: "ChatMemoryForecast", Name: "memory goes up and down with garbage collections", At: "150m", Series: [][2]string{one("process_resident_memory_bytes", "", "60 70 60 70 60 70 60 70 60 70 60x200"), one("go_gc_gomemlimit_bytes", "", "100x220"), one("chat_build_info", `version="1"`, "1x220")}},
		{Alert: "ChatMemoryForecast", Name: "a process that has just begun", At: "60m", Series: [][2]string{one("process_resident_memory_bytes", "", "5+0.5x20 15x60"), one("go_gc_gomemlimit_bytes", "", "100x220"), one("chat_build_info", `version="1"`, "1x220")}},
		{Alert: "ChatDiskForecast", Name: "the disk fills", At: "90m", Series: [][2]string{one("chat_data_dir_free_bytes", "", "500-4x100"), one("chat_data_dir_size_bytes", "", "1000x100")},
			Fires: fires(`job="parley", instance="a"`, "The disk of DATA_DIR of a will have -82% of its space free in four hours (parley)")},
		{Alert: "ChatDiskForecast", Name: "the disk is nearly full", At: "90m", Series: [][2]string{one("chat_data_dir_free_bytes", "", "40x100"), one("chat_data_dir_size_bytes", "", "1000x100")},
			Fires: fires(`job="parley", instance="a"`, "The disk of DATA_DIR of a will have 4% of its space free in four hours (parley)")},
		{Alert: "ChatDiskForecast", Name: "half is free, and stays free", At: "90m", Series: [][2]string{one("chat_data_dir_free_bytes", "", "500x50 499x50"), one("chat_data_dir_size_bytes", "", "1000x100")}},
		{Alert: "ChatClockSkew", Name: "a clock is a minute ahead", At: "20m", Series: [][2]string{one("chat_clock_seconds", "", "60+60x30")},
			Fires: fires(`job="parley", instance="a"`, "The clock of a differs by 1m 0s from that of Prometheus (parley)")},
		{Alert: "ChatClockSkew", Name: "the clock is right", At: "20m", Series: [][2]string{one("chat_clock_seconds", "", "0+60x30")}},
		{Alert: "ChatVolumeHigh", Name: "1,200 messages a minute", At: "60m", Series: turns(70, "ok", 1100, "failed", 100),
			Fires: fires(parley, "1200 messages a minute for half an hour (parley)")},
		{Alert: "ChatVolumeHigh", Name: "900 a minute", At: "60m", Series: turns(70, "ok", 900)},
		{Alert: "ChatVolumeHigh", Name: "a peak of ten minutes", At: "60m", Series: [][2]string{{turns(1, "ok", 0)[0][0], "0+100x30 3000+3000x10 33000+100x30"}}},
		{Alert: "ChatDatabaseBusy", Name: "one of four processors idle", At: "60m",
			Series: append(cpus("database", "0+15x70"), one("chat_build_info", `version="1"`, "1x70")),
			Fires:  fires(`job="node", instance="db"`, "The processors of the database's machine db have been 75% busy for half an hour")},
		{Alert: "ChatDatabaseBusy", Name: "half busy", At: "60m", Series: append(cpus("database", "0+30x70"), one("chat_build_info", `version="1"`, "1x70"))},
		{Alert: "ChatDatabaseBusy", Name: "busy for a backup", At: "60m", Series: append(cpus("database", "0+40x35 1402+2x15 1430+40x30"), one("chat_build_info", `version="1"`, "1x90"))},
		{Alert: "ChatDatabaseBusy", Name: "another machine", At: "60m", Series: append(cpus("builds", "0+3x70"), one("chat_build_info", `version="1"`, "1x70"))},
		{Alert: "ChatRedisMemoryHigh", Name: "two gigabytes", At: "60m", Series: [][2]string{{`redis_memory_used_bytes{job="redis",instance="r"}`, "2147483648x70"}, one("chat_build_info", `version="1"`, "1x70")},
			Fires: fires(`job="redis", instance="r"`, "Redis uses 2GiB (r)")},
		{Alert: "ChatRedisMemoryHigh", Name: "half a gigabyte", At: "60m", Series: [][2]string{{`redis_memory_used_bytes{job="redis",instance="r"}`, "536870912x70"}, one("chat_build_info", `version="1"`, "1x70")}},
		{Alert: "ChatRedisMemoryHigh", Name: "while it writes a snapshot", At: "60m", Series: [][2]string{{`redis_memory_used_bytes{job="redis",instance="r"}`, "900000000x40 1500000000x10 900000000x30"}, one("chat_build_info", `version="1"`, "1x90")}},
		{Alert: "ChatReplicaLagging", Name: "a minute behind", At: "20m", Series: [][2]string{{`pg_replication_lag_seconds{job="postgres",instance="r"}`, "0x5 60x30"}, one("chat_build_info", `version="1"`, "1x40")},
			Fires: fires(`job="postgres", instance="r"`, "A replica of PostgreSQL is 1m 0s behind (r)")},
		{Alert: "ChatReplicaLagging", Name: "a second behind", At: "20m", Series: [][2]string{{`pg_replication_lag_seconds{job="postgres",instance="r"}`, "1x30"}, one("chat_build_info", `version="1"`, "1x40")}},
		{Alert: "ChatReplicaUnused", Name: "it was promoted", At: "20m", Series: [][2]string{one("chat_replica_used", `replica="r:5432"`, "1x5 0x30"), {`chat_replica_used{job="parley",instance="b",replica="r:5432"}`, "1x5 0x30"}},
			Fires: fires(`job="parley", replica="r:5432"`, "No instance reads the replica r:5432 (used: 0; parley)")},
		{Alert: "ChatReplicaUnused", Name: "one instance cannot reach it", At: "20m", Series: [][2]string{one("chat_replica_used", `replica="r:5432"`, "0x40"), {`chat_replica_used{job="parley",instance="b",replica="r:5432"}`, "1x40"}}},
		{Alert: "ChatReplicaUnused", Name: "it restarts", At: "20m", Series: [][2]string{one("chat_replica_used", `replica="r:5432"`, "1x10 0x3 1x30")}},
		{Alert: "ChatNotificationsFailing", Name: "the pager refuses", At: "10m", Series: [][2]string{{`alertmanager_notifications_failed_total{job="alertmanager",instance="am",integration="webhook"}`, "0+1x20"}, {`prometheus_notifications_errors_total{job="prometheus",alertmanager="http://am"}`, "0x20"}},
			Fires: fires(`integration="webhook"`, "5 alerts could not be delivered to the receiver webhook")},
		{Alert: "ChatNotificationsFailing", Name: "Alertmanager is away", At: "10m", Series: [][2]string{{`prometheus_notifications_errors_total{job="prometheus",alertmanager="http://am"}`, "0+1x20"}},
			Fires: fires(`alertmanager="http://am"`, "5 alerts could not be delivered to http://am")},
		{Alert: "ChatNotificationsFailing", Name: "all are delivered", At: "10m", Series: [][2]string{{`alertmanager_notifications_failed_total{job="alertmanager",instance="am",integration="webhook"}`, "3x20"}, {`prometheus_notifications_errors_total{job="prometheus",alertmanager="http://am"}`, "1x20"}}},
		{Alert: "ChatRuleEvaluationFailing", Name: "a group fails", At: "20m", Series: [][2]string{{`prometheus_rule_evaluation_failures_total{job="prometheus",rule_group="/etc/alerts.yaml;parley-pages"}`, "0+1x30"}},
			Fires: fires(`rule_group="/etc/alerts.yaml;parley-pages"`, "Rules of /etc/alerts.yaml;parley-pages failed 5 times in five minutes")},
		{Alert: "ChatRuleEvaluationFailing", Name: "another's group fails", At: "20m", Series: [][2]string{{`prometheus_rule_evaluation_failures_total{job="prometheus",rule_group="/etc/node.yaml;node"}`, "0+1x30"}}},
	}
}

// caseFiles returns the tests as promtool reads them, one file per alert.
func caseFiles() map[string][]byte {
	rules := map[string][]Rule{}
	for _, g := range slices.Concat(ServiceLevels(), Alerts()) {
		for _, r := range g.Rules {
			rules[r.Alert] = append(rules[r.Alert], r)
		}
	}
	out := map[string][]byte{}
	for _, c := range Cases() {
		path := "alerts/tests/" + c.Alert + ".yaml"
		b := bytes.NewBuffer(out[path])
		if b.Len() == 0 {
			b.WriteString("# Generated by `make generate` from dashboards/cases.go.\n" +
				"rule_files: [../slos.yaml, ../alerts.yaml]\nevaluation_interval: " + cmp.Or(evaluations[c.Alert], "1m") + "\ntests:\n")
		}
		fmt.Fprintf(b, "  - name: %s\n    interval: %s\n    input_series:\n", quote(c.Name), cmp.Or(c.Step, "1m"))
		if len(c.Series) == 0 {
			b.WriteString("      []\n")
		}
		for _, s := range c.Series {
			fmt.Fprintf(b, "      - {series: %s, values: %s}\n", quote(s[0]), quote(s[1]))
		}
		fmt.Fprintf(b, "    alert_rule_test:\n      - alertname: %s\n        eval_time: %s\n", c.Alert, c.At)
		if len(c.Fires) == 0 {
			b.WriteString("        exp_alerts: []\n")
		} else {
			b.WriteString("        exp_alerts:\n")
		}
		for _, f := range c.Fires {
			r := rules[c.Alert][slices.IndexFunc(rules[c.Alert], func(r Rule) bool { return r.label("window") == f.Window })]
			b.WriteString("          - exp_labels:\n")
			for _, l := range r.Labels {
				fmt.Fprintf(b, "              %s: %s\n", l[0], quote(l[1]))
			}
			for l := range strings.SplitSeq(f.Labels, ", ") {
				if name, value, ok := strings.Cut(l, "="); ok {
					fmt.Fprintf(b, "              %s: %s\n", name, quote(strings.Trim(value, `"`)))
				}
			}
			b.WriteString("            exp_annotations:\n")
			for _, a := range r.annotations(f.Summary) {
				fmt.Fprintf(b, "              %s: %s\n", a[0], quote(a[1]))
			}
		}
		out[path] = b.Bytes()
	}
	return out
}
