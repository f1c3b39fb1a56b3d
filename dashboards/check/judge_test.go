package check

import (
	"errors"
	"testing"
)

// A query without a result is a problem, and so is an excuse that is not needed.
func TestRun_Judge(t *testing.T) {
	r := Run{Empty: map[string]string{"empty": "why"}, Varying: map[string]string{"varying": "why"}}
	for _, c := range []struct {
		where   string
		none    bool
		err     error
		problem bool
	}{
		{"other", false, nil, false}, {"other", true, nil, true},
		{"empty", true, nil, false}, {"empty", false, nil, true},
		{"varying", true, nil, false}, {"varying", false, nil, false},
		{"varying", false, errors.New("no such function"), true},
	} {
		if got := r.judge(c.where, c.none, c.err) != nil; got != c.problem {
			t.Errorf("%s, none %v, %v: a problem is %v", c.where, c.none, c.err, got)
		}
	}
}
