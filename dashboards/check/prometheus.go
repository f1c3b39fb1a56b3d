package check

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Prometheus is the HTTP API of a running one.
type Prometheus struct{ URL string }

// Series is one line of a result.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Point is a value at a time.
type Point struct {
	At    time.Time
	Value float64
}

// MarshalJSON writes milliseconds and the value, which may be no number.
func (p Point) MarshalJSON() ([]byte, error) {
	if math.IsNaN(p.Value) || math.IsInf(p.Value, 0) {
		return fmt.Appendf(nil, "[%d,null]", p.At.UnixMilli()), nil
	}
	return fmt.Appendf(nil, "[%d,%s]", p.At.UnixMilli(), strconv.FormatFloat(p.Value, 'g', -1, 64)), nil
}

// empty reports whether there is nothing to see: no line, or no number on any.
func empty(series []Series) bool {
	for _, s := range series {
		for _, p := range s.Points {
			if !math.IsNaN(p.Value) {
				return false
			}
		}
	}
	return true
}

// Range runs a query over a span of time, as a graph does.
func (p Prometheus) Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error) {
	return p.query(ctx, "query_range", url.Values{"query": {expr}, "start": {stamp(from)}, "end": {stamp(to)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)}})
}

// Instant runs a query for one moment.
func (p Prometheus) Instant(ctx context.Context, expr string, at time.Time) ([]Series, error) {
	return p.query(ctx, "query", url.Values{"query": {expr}, "time": {stamp(at)}})
}

// Exemplar is a trace beside a value.
type Exemplar struct {
	Labels map[string]string
	Point  Point
}

// Exemplars returns the traces that belong to the series of a query.
func (p Prometheus) Exemplars(ctx context.Context, expr string, from, to time.Time) ([]Exemplar, error) {
	var data []struct {
		Exemplars []struct {
			Labels    map[string]string
			Value     string
			Timestamp float64
		}
	}
	err := p.get(ctx, "query_exemplars", url.Values{"query": {expr}, "start": {stamp(from)}, "end": {stamp(to)}}, &data)
	var out []Exemplar
	for _, s := range data {
		for _, e := range s.Exemplars {
			v, _ := strconv.ParseFloat(e.Value, 64)
			out = append(out, Exemplar{e.Labels, Point{unix(e.Timestamp), v}})
		}
	}
	return out, err
}

func (p Prometheus) query(ctx context.Context, what string, params url.Values) ([]Series, error) {
	var data struct {
		ResultType string
		Result     json.RawMessage
	}
	if err := p.get(ctx, what, params, &data); err != nil {
		return nil, err
	}
	if data.ResultType == "scalar" {
		var one [2]any
		if err := json.Unmarshal(data.Result, &one); err != nil {
			return nil, err
		}
		return []Series{{Points: []Point{point(one)}}}, nil
	}
	var lines []struct {
		Metric map[string]string
		Value  *[2]any
		Values [][2]any
	}
	if err := json.Unmarshal(data.Result, &lines); err != nil {
		return nil, err
	}
	out := make([]Series, 0, len(lines))
	for _, l := range lines {
		s := Series{Labels: l.Metric}
		if l.Value != nil {
			l.Values = append(l.Values, *l.Value)
		}
		for _, v := range l.Values {
			s.Points = append(s.Points, point(v))
		}
		out = append(out, s)
	}
	return out, nil
}

func point(v [2]any) Point {
	at, _ := v[0].(float64)
	text, _ := v[1].(string)
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		value = math.NaN()
	}
	return Point{unix(at), value}
}

func unix(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

func (p Prometheus) get(ctx context.Context, what string, params url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+"/api/v1/"+what, strings.NewReader(params.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var body struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if body.Status != "success" {
		return fmt.Errorf("%s", body.Error)
	}
	return json.Unmarshal(body.Data, into)
}
