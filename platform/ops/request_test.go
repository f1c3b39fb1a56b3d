package ops_test

import (
	"strings"
	"testing"

	"parley/platform/ops"
	"parley/platform/testing/testenv"
)

func TestCheckRedis_ShowsRefusedWrites(t *testing.T) {
	for name, c := range map[string]struct {
		options []string
		want    string
		fails   bool
	}{
		"Healthy":    {want: "maxmemory_policy"},
		"MemoryFull": {options: []string{"--maxmemory", "1"}, want: "a write was refused: OOM", fails: true},
		"Replica":    {options: []string{"--replicaof", "127.0.0.1", "1"}, want: "a write was refused: READONLY", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := ops.CheckRedis(t.Context(), testenv.StartRedis(t, c.options...).URL(), &out)
			if (err != nil) != c.fails || !strings.Contains(out.String(), c.want) || !strings.Contains(out.String(), "used_memory_human") {
				t.Errorf("%v\n%s", err, &out)
			}
		})
	}
}
