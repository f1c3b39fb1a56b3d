package dashboards

import (
	"fmt"
	"slices"
	"strconv"
)

// promise is a service level over 30 days. Bad and Valid are rates by job over
// five minutes; everything longer is summed up from them, which costs little
// and weighs busy hours as they deserve.
type slo struct {
	slo        string // label of the alerts
	alert      string
	bad, valid string // names of the recorded rates
	ratio      string // prefix of the recorded ratios
	badExpr    string
	validExpr  string
	budget     string // share that may be bad
	what       string // for the sentence: "turns failed"
	hurts      string
	first      []Rule // recorded before the rates
	tickets    bool   // nobody is woken
}

var slos = []slo{
	{
		slo: "turns", alert: "ChatTurnErrorBudgetBurn", budget: "0.005", what: "turns failed",
		hurts: "Users send messages and get no reply.",
		bad:   "job:chat_turns_bad:rate5m", valid: "job:chat_turns_valid:rate5m", ratio: "job:chat_turn_errors:ratio_rate",
		badExpr:   `sum by (job) (rate(chat_turns_total{outcome=~"provider_error|provider_auth|timeout|breaker_open|internal_error"}[5m]))`,
		validExpr: `sum by (job) (rate(chat_turns_total{outcome!~"client_cancel|rate_limited|quota"}[5m]))`,
	},
	{
		slo: "first-words", alert: "ChatFirstWordsBudgetBurn", budget: "0.05", what: "turns took more than 2.5 s to their first output",
		hurts: "Users wait too long for the first output.",
		bad:   "job:chat_first_events_slow:rate5m", valid: "job:chat_first_events:rate5m", ratio: "job:chat_first_events_slow:ratio_rate",
		badExpr: "sum by (job) (rate(chat_turn_time_to_first_event_seconds_count[5m]))\n" +
			`- sum by (job) (rate(chat_turn_time_to_first_event_seconds_bucket{le="2.5"}[5m]))`,
		validExpr: `sum by (job) (rate(chat_turn_time_to_first_event_seconds_count[5m]))`,
	},
	{
		// What the proxy answers by itself is counted here too, sends included: of a
		// request that reaches no instance, nothing but its status is known.
		slo: "api", alert: "ChatApiErrorBudgetBurn", budget: "0.001", what: "requests ended in 5xx",
		first: []Rule{{Record: proxyErrors, Expr: proxyErrorsExpr}},
		hurts: "Users cannot open conversations or history.",
		bad:   "job:chat_api_bad:rate5m", valid: "job:chat_api_valid:rate5m", ratio: "job:chat_api_errors:ratio_rate",
		badExpr:   `sum by (job) (rate(chat_api_requests_total{result="error"}[5m]) or ` + proxyErrors + `)`,
		validExpr: `sum by (job) (rate(chat_api_requests_total[5m]) or ` + proxyErrors + `)`,
	},
	{
		slo: "reads", alert: "ChatReadsBudgetBurn", budget: "0.05", what: "reads took more than 25 ms",
		hurts: "Users wait for conversations and histories.", tickets: true,
		bad: "job:chat_reads_slow:rate5m", valid: "job:chat_reads:rate5m", ratio: "job:chat_reads_slow:ratio_rate",
		badExpr: "(sum by (job) (rate(http_server_request_duration_seconds_count{" + reads + "}[5m]))\n" +
			"- sum by (job) (rate(http_server_request_duration_seconds_bucket{" + reads + `, le="0.025"}[5m])))` + "\n" + ofParley,
		validExpr: "sum by (job) (rate(http_server_request_duration_seconds_count{" + reads + "}[5m]))\n" + ofParley,
	},
}

// reads selects the requests that open a conversation, or the list of them.
const reads = `http_request_method="GET", http_route=~"/api/chat/(messages|conversations|conversations/[{]id[}])", http_response_status_code="200"`

// proxyErrors are the answers of status 5xx that the proxy gave by itself: those of
// its backend that are of none of its servers. The backend has the name of
// Parley's job.
const (
	proxyErrors     = "job:chat_proxy_errors:rate5m"
	proxyErrorsExpr = `sum by (job) (label_replace(
  clamp_min(sum by (proxy) (rate(haproxy_backend_http_responses_total{code="5xx"}[5m]))
    - sum by (proxy) (rate(haproxy_server_http_responses_total{code="5xx"}[5m])), 0),
  "job", "$1", "proxy", "(.+)"))
and on (job) group by (job) (last_over_time(chat_build_info[1d]))`
)

// window is one pair of windows of a multi-window alert.
type window struct {
	long, short string
	burn        float64 // times faster than the budget allows
	severity    string
	lasts       string // a whole budget, at that speed
	wait        string // so that an alert that names the cause comes first
}

// windows spend 2, 5, 10 and 10 % of a budget of 30 days before they tell.
var windows = []window{
	{"1h", "5m", 14.4, "page", "two days", "2m"},
	{"6h", "30m", 6, "page", "five days", ""},
	{"1d", "2h", 3, "ticket", "ten days", ""},
	{"3d", "6h", 1, "ticket", "30 days or less", ""},
}

// leastPerHour is how many turns or requests an hour must have on average for
// their share to mean anything.
const minPerHour = 20

func sloGroups() []Group {
	var groups []Group
	month := Group{Name: "parley-slo-30d", Interval: "5m"}
	for _, p := range slos {
		g := Group{Name: "parley-slo-" + p.slo, Rules: append(slices.Clone(p.first),
			Rule{Record: p.valid, Expr: p.validExpr},
			Rule{Record: p.bad, Expr: p.badExpr},
			Rule{Record: p.ratio + "5m", Expr: p.bad + "\n/ (" + p.valid + " > 0)"},
		)}
		for _, w := range []string{"30m", "1h", "2h", "6h", "1d", "3d"} {
			g.Rules = append(g.Rules, ratioOver(p, w))
		}
		for _, w := range windows {
			g.Rules = append(g.Rules, Rule{Record: volume(p, w.long), Expr: "avg_over_time(" + p.valid + "[" + w.long + "])"})
		}
		g.Rules = append(g.Rules, burns(p)...)
		groups = append(groups, g)
		month.Rules = append(month.Rules, ratioOver(p, "30d"))
	}
	return append(groups, month)
}

func ratioOver(p slo, w string) Rule {
	return Rule{Record: p.ratio + w,
		Expr: "sum_over_time(" + p.bad + "[" + w + "])\n/ (sum_over_time(" + p.valid + "[" + w + "]) > 0)"}
}

// volume names the mean rate over a window.
func volume(p slo, w string) string { return p.valid[:len(p.valid)-len("5m")] + w }

// burns are the multi-window, multi-burn-rate alerts of one promise. The short
// window ends an alert soon after the trouble has ended.
func burns(p slo) []Rule {
	var out []Rule
	for _, w := range windows {
		times := strconv.FormatFloat(w.burn, 'f', -1, 64)
		severity := w.severity
		if p.tickets {
			severity = "ticket"
		}
		limit := fmt.Sprintf("(%s * %s)", times, p.budget)
		out = append(out, Rule{
			Alert: p.alert, For: w.wait,
			Expr: fmt.Sprintf("%s%s > %s\nand %s%s > %s\nand %s * 3600 > %d",
				p.ratio, w.long, limit, p.ratio, w.short, limit, volume(p, w.long), minPerHour),
			Labels:      [][2]string{{"severity", severity}, {"team", "chat"}, {"slo", p.slo}, {"window", w.long}},
			Summary:     fmt.Sprintf("{{ $value | humanizePercentage }} of %s over %s ({{ $labels.job }})", p.what, w.long),
			Description: fmt.Sprintf("%s At this rate the budget of 30 days lasts %s.", p.hurts, w.lasts),
			Board:       "parley-overview",
		})
	}
	return out
}
