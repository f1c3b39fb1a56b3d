package upstream

import (
	"math"
	"strconv"

	"github.com/tidwall/gjson"

	"parley/domain/chat"
)

// UsageReport is a provider's report of the tokens used so far, as the JSON
// numbers that it sent. Absent ones are zero values.
type UsageReport struct {
	Input, Output         gjson.Result
	CacheRead, CacheWrite gjson.Result
	Reasoning             gjson.Result
}

// maxCount bounds any number of tokens, so that sums cannot overflow.
const maxCount = 1 << 40

// usageMeter collects reports. Reports are untrusted input: a count never
// becomes lower than one that was reported before, and what is no possible
// count makes the usage an estimate.
type usageMeter struct {
	input, output, cacheRead, cacheWrite, reasoning count
	inputExcludesCache                              bool // as Anthropic counts
}

// count is the highest number reported.
type count struct {
	n        int64
	reported bool
	invalid  bool // one of the reports was no possible count
}

func (c *count) report(v gjson.Result) {
	var f float64
	switch v.Type {
	case gjson.Null:
		return
	case gjson.Number:
		f = v.Num
	case gjson.String:
		parsed, err := strconv.ParseFloat(v.Str, 64)
		if err != nil {
			c.invalid = true
			return
		}
		f = parsed
	default:
		c.invalid = true
		return
	}
	if !(f >= 0 && f <= maxCount) { // NaN too
		c.invalid = true
		return
	}
	c.n, c.reported = max(c.n, int64(math.Ceil(f))), true
}

func (m *usageMeter) report(r UsageReport) {
	m.input.report(r.Input)
	m.output.report(r.Output)
	m.cacheRead.report(r.CacheRead)
	m.cacheWrite.report(r.CacheWrite)
	m.reasoning.report(r.Reasoning)
}

// usage returns what was reported. It is Estimated when input or output is
// missing, was reported as an impossible number, or exceeds its bound; a count
// beyond its bound is 0, to be estimated by the caller.
func (m *usageMeter) usage(maxInput, maxOutput int64) chat.Usage {
	u := chat.Usage{
		Input: m.input.n, Output: m.output.n,
		CacheRead: m.cacheRead.n, CacheWrite: m.cacheWrite.n, Reasoning: m.reasoning.n,
	}
	if m.inputExcludesCache {
		u.Input += u.CacheRead + u.CacheWrite
	}
	u.Estimated = u.Input == 0 || !m.input.reported || !m.output.reported
	for _, c := range []count{m.input, m.output, m.cacheRead, m.cacheWrite, m.reasoning} {
		u.Estimated = u.Estimated || c.invalid
	}
	if u.Input > maxInput {
		u.Input, u.CacheRead, u.CacheWrite, u.Estimated = 0, 0, 0, true
	}
	if u.CacheRead+u.CacheWrite > u.Input {
		u.CacheRead = min(u.CacheRead, u.Input)
		u.CacheWrite = min(u.CacheWrite, u.Input-u.CacheRead)
		u.Estimated = true
	}
	if u.Reasoning > u.Output { // some servers count reasoning beside the output
		u.Output += u.Reasoning
	}
	if u.Output > maxOutput {
		u.Output, u.Reasoning, u.Estimated = 0, 0, true
	}
	return u
}
