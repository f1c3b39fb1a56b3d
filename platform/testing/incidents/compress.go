package incidents

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// Factor divides every duration of the rules and of Alertmanager's routes.
const Factor = 60

// minWindow is the shortest window after division: a rate needs several scrapes,
// which are a second apart.
const minWindow = 4 * time.Second

// longWindows are how long the alerts on windows of more than an hour wait. Before an
// incident is an hour of history, so that an outage would be many times as large a part
// of them: it takes eleven minutes until 3 % of six hours are gone, and more than
// twenty until 1.5 % of a day or 0.5 % of three days are.
var longWindows = map[string]time.Duration{"6h": 11 * time.Minute, "1d": 20 * time.Minute, "3d": 20 * time.Minute}

// retryWindow is the shortest window over failures of background work: it is tried
// again after ten seconds, which are not divided.
const retryWindow = 12 * time.Second

var promql = parser.NewParser(parser.Options{})

// CompressRules divides the windows, offsets, waits and intervals of a file of rules by
// Factor. The load of users is not faster than in reality, so that a window holds that
// much less of it: each increase is multiplied by Factor, and thresholds stay as they
// are. Not so the increase of changes of a state (_transitions_total): those are of the
// incident, not of the load.
func CompressRules(file []byte) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(file, &root); err != nil {
		return nil, err
	}
	var failed error
	eachValue(&root, func(key string, value *yaml.Node) {
		var err error
		switch key {
		case "for", "keep_firing_for", "interval":
			value.Value, err = compressDuration(value.Value)
		case "expr":
			value.Value, err = compressExpr(value.Value)
		}
		if err != nil && failed == nil {
			failed = fmt.Errorf("line %d: %w", value.Line, err)
		}
	})
	if failed != nil {
		return nil, failed
	}
	delayLongWindows(&root)
	return yaml.Marshal(&root)
}

// delayLongWindows adds the waits of longWindows to the alerts with these windows.
func delayLongWindows(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		var rule struct {
			Alert  string
			For    string
			Labels struct{ Window string }
		}
		wait := time.Duration(0)
		if n.Decode(&rule) == nil && rule.Alert != "" && rule.For == "" {
			wait = longWindows[rule.Labels.Window]
		}
		if wait > 0 {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "for"},
				&yaml.Node{Kind: yaml.ScalarNode, Value: model.Duration(divide(wait)).String()})
			return
		}
	}
	for _, child := range n.Content {
		delayLongWindows(child)
	}
}

// CompressRoutes divides the waits and intervals of a configuration of Alertmanager by
// Factor, and sends all notifications to url, each to the path of its receiver's name.
func CompressRoutes(file []byte, url string) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(file, &root); err != nil {
		return nil, err
	}
	var failed error
	receiver := ""
	eachValue(&root, func(key string, value *yaml.Node) {
		switch key {
		case "name":
			receiver = value.Value
		case "url":
			value.Value = url + "/" + receiver
		case "group_wait", "group_interval", "repeat_interval":
			var err error
			if value.Value, err = compressDuration(value.Value); err != nil && failed == nil {
				failed = err
			}
		}
	})
	if failed != nil {
		return nil, failed
	}
	return yaml.Marshal(&root)
}

// eachValue calls visit with every scalar that is the value of a key, in their order.
func eachValue(n *yaml.Node, visit func(key string, value *yaml.Node)) {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if value := n.Content[i+1]; value.Kind == yaml.ScalarNode {
				visit(n.Content[i].Value, value)
			}
		}
	}
	for _, child := range n.Content {
		eachValue(child, visit)
	}
}

func compressDuration(text string) (string, error) {
	d, err := model.ParseDuration(text)
	if err != nil {
		return "", err
	}
	return model.Duration(divide(time.Duration(d))).String(), nil
}

// divide rounds to milliseconds: the formats know nothing shorter.
func divide(d time.Duration) time.Duration {
	return (d / Factor).Round(time.Millisecond)
}

func window(d time.Duration) time.Duration {
	if d == 0 {
		return 0
	}
	return max(divide(d), minWindow)
}

func compressExpr(text string) (string, error) {
	e, err := promql.ParseExpr(text)
	if err != nil {
		return "", err
	}
	var increases []*parser.Call
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.MatrixSelector:
			n.Range = window(n.Range)
			if strings.Contains(n.VectorSelector.String(), "chat_background_failures_total") {
				n.Range = max(n.Range, retryWindow)
			}
		case *parser.VectorSelector:
			n.OriginalOffset = divide(n.OriginalOffset)
		case *parser.SubqueryExpr:
			n.Range, n.Step = window(n.Range), divide(n.Step)
			n.OriginalOffset = divide(n.OriginalOffset)
		case *parser.Call:
			if n.Func.Name == "increase" && !strings.Contains(n.Args[0].String(), "_transitions_total") {
				increases = append(increases, n)
			}
			if n.Func.Name == "predict_linear" { // its horizon is a number of seconds
				n.Args[1] = &parser.BinaryExpr{Op: parser.DIV, LHS: &parser.ParenExpr{Expr: n.Args[1]}, RHS: &parser.NumberLiteral{Val: Factor}}
			}
		}
		return nil
	})
	for _, call := range increases {
		// A node cannot become another kind of node in its parent, but another call:
		// clamp_min changes nothing, for an increase is never negative.
		inner := *call
		call.Func = parser.Functions["clamp_min"]
		call.Args = parser.Expressions{&parser.BinaryExpr{Op: parser.MUL, LHS: &inner, RHS: &parser.NumberLiteral{Val: Factor}}, &parser.NumberLiteral{Val: 0}}
	}
	return strings.TrimSpace(e.String()), nil
}

// metrics returns the names of the series that an expression selects.
func metrics(text string) ([]string, error) {
	e, err := promql.ParseExpr(text)
	if err != nil {
		return nil, err
	}
	var out []string
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok && s.Name != "" {
			out = append(out, s.Name)
		}
		return nil
	})
	return out, nil
}
