package dashboards

import (
	"fmt"
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
		slo: "api", alert: "ChatApiErrorBudgetBurn", budget: "0.001", what: "requests ended in 5xx",
		hurts: "Users cannot open conversations or history.",
		bad:   "job:chat_api_bad:rate5m", valid: "job:chat_api_valid:rate5m", ratio: "job:chat_api_errors:ratio_rate",
		badExpr:   `sum by (job) (rate(chat_api_requests_total{result="error"}[5m]))`,
		validExpr: `sum by (job) (rate(chat_api_requests_total[5m]))`,
	},
}

// window is one pair of windows of a multi-window alert.
type window struct {
	long, short string
	burn        float64 // times faster than the budget allows
	severity    string
	lasts       string // a whole budget, at that speed
}

// windows spend 2, 5, 10 and 10 % of a budget of 30 days before they tell.
var windows = []window{
	{"1h", "5m", 14.4, "page", "two days"},
	{"6h", "30m", 6, "page", "five days"},
	{"1d", "2h", 3, "ticket", "ten days"},
	{"3d", "6h", 1, "ticket", "30 days or less"},
}

// leastPerHour is how many turns or requests an hour must have on average for
// their share to mean anything.
const minPerHour = 20

func sloGroups() []Group {
	var groups []Group
	month := Group{Name: "parley-slo-30d", Interval: "5m"}
	for _, p := range slos {
		g := Group{Name: "parley-slo-" + p.slo, Rules: []Rule{
			{Record: p.valid, Expr: p.validExpr},
			{Record: p.bad, Expr: p.badExpr},
			{Record: p.ratio + "5m", Expr: p.bad + "\n/ (" + p.valid + " > 0)"},
		}}
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
		limit := fmt.Sprintf("(%s * %s)", times, p.budget)
		out = append(out, Rule{
			Alert: p.alert,
			Expr: fmt.Sprintf("%s%s > %s\nand %s%s > %s\nand %s * 3600 > %d",
				p.ratio, w.long, limit, p.ratio, w.short, limit, volume(p, w.long), minPerHour),
			Labels:      [][2]string{{"severity", w.severity}, {"team", "chat"}, {"slo", p.slo}, {"window", w.long}},
			Summary:     fmt.Sprintf("{{ $value | humanizePercentage }} of %s over %s ({{ $labels.job }})", p.what, w.long),
			Description: fmt.Sprintf("%s At this rate the budget of 30 days lasts %s.", p.hurts, w.lasts),
			Board:       "parley-overview",
		})
	}
	return out
}
