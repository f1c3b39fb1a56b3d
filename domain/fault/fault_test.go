package fault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"parley/domain/fault"
)

func TestKindOf(t *testing.T) {
	inner := fault.New(fault.NotFound, "no such thing")
	for name, c := range map[string]struct {
		err  error
		want fault.Kind
	}{
		"Nothing":   {nil, ""},
		"Fault":     {inner, fault.NotFound},
		"Wrapped":   {fmt.Errorf("load: %w", inner), fault.NotFound},
		"Outermost": {fault.Wrap(inner, fault.Unavailable, "later"), fault.Unavailable},
		"Cancelled": {fmt.Errorf("query: %w", context.Canceled), fault.Canceled},
		"Late":      {fmt.Errorf("query: %w", context.DeadlineExceeded), fault.Unavailable},
		"Anything":  {errors.New("boom"), fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fault.KindOf(c.err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.want != "" && !fault.Is(c.err, c.want) {
				t.Error("Is disagrees with KindOf")
			}
		})
	}
	if fault.Is(nil, "") {
		t.Error("no error is no fault of any kind")
	}
	if wrapped := fault.Wrap(inner, fault.Unavailable, "later"); !errors.Is(wrapped, inner) {
		t.Error("the cause is lost")
	}
}
