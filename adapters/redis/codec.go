package redis

import (
	_ "embed" // the scripts
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"parley/domain/chat"
	"parley/ports"
)

// The scripts document the format in which instances exchange output.

//go:embed publish.lua
var publishLua string

//go:embed forget.lua
var forgetLua string

//go:embed fetch.lua
var fetchLua string

var (
	publish = redis.NewScript(publishLua)
	forget  = redis.NewScript(forgetLua)
	fetch   = redis.NewScript(fetchLua)
)

const headSize = 21

// stateCodes are one letter for each state. The scripts know those of terminal
// states.
var stateCodes = map[chat.State]string{
	chat.Queued: "q", chat.Running: "r",
	chat.Completed: "c", chat.Stopped: "s", chat.Failed: "f", chat.Interrupted: "i",
}

// encodeOutput returns output as one string that only grows while a run makes
// it. Most replies have no reasoning, and then nothing is copied.
func encodeOutput(o chat.Output) string { return o.Reasoning + o.Text }

func parseHead(head string) (p ports.Progress, reasoning int, err error) {
	if len(head) != headSize {
		return p, 0, fmt.Errorf("head of %d bytes", len(head))
	}
	if p.Attempt, err = strconv.Atoi(head[:10]); err != nil {
		return p, 0, err
	}
	if reasoning, err = strconv.Atoi(head[11:]); err != nil {
		return p, 0, err
	}
	for state, letter := range stateCodes {
		if letter == head[10:11] {
			p.State = state
			return p, reasoning, nil
		}
	}
	return p, 0, fmt.Errorf("state %q", head[10])
}

// applyChunk adds what fetch returned to the output that was known before.
func applyChunk(known ports.Progress, reply []any) (ports.Progress, error) {
	if len(reply) != 3 {
		return known, fmt.Errorf("reply of %d parts", len(reply))
	}
	head, ok1 := reply[0].(string)
	from, ok2 := reply[1].(int64)
	piece, ok3 := reply[2].(string)
	if !ok1 || !ok2 || !ok3 {
		return known, fmt.Errorf("reply of %T, %T, %T", reply[0], reply[1], reply[2])
	}
	p, reasoning, err := parseHead(head)
	if err != nil {
		return known, err
	}
	p.UserID, p.RunID = known.UserID, known.RunID
	before := encodeOutput(known.Output)
	if from < 0 || from > int64(len(before)) {
		return known, fmt.Errorf("piece at %d, known %d", from, len(before))
	}
	var all strings.Builder
	all.Grow(int(from) + len(piece))
	all.WriteString(before[:from])
	all.WriteString(piece)
	if reasoning > all.Len() {
		return known, fmt.Errorf("reasoning of %d in %d", reasoning, all.Len())
	}
	p.Output = chat.Output{Reasoning: all.String()[:reasoning], Text: all.String()[reasoning:]}
	return p, nil
}
