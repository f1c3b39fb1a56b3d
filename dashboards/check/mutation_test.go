//go:build gate

package check_test

import (
	"testing"

	"parley/dashboards/check"
)

func mutate(t *testing.T, run check.Run, pages []string) {}
