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

const headSize = 11

// stateCodes are one letter for each state. The scripts know those of terminal
// states.
var stateCodes = map[chat.State]string{
	chat.Queued: "q", chat.Running: "r",
	chat.Completed: "c", chat.Stopped: "s", chat.Failed: "f", chat.Interrupted: "i",
}

func parseHead(head string) (p ports.Progress, err error) {
	if len(head) != headSize {
		return p, fmt.Errorf("head of %d bytes", len(head))
	}
	if p.Attempt, err = strconv.Atoi(head[:10]); err != nil {
		return p, err
	}
	for state, letter := range stateCodes {
		if letter == head[10:] {
			p.State = state
			return p, nil
		}
	}
	return p, fmt.Errorf("state %q", head[10])
}

// applyChunk adds what fetch returned to the output that was known before. grown
// keeps the output from call to call, so that only what is new is copied.
func applyChunk(known ports.Progress, grown *strings.Builder, reply []any) (ports.Progress, error) {
	if len(reply) != 3 {
		return known, fmt.Errorf("reply of %d parts", len(reply))
	}
	head, ok1 := reply[0].(string)
	from, ok2 := reply[1].(int64)
	piece, ok3 := reply[2].(string)
	if !ok1 || !ok2 || !ok3 {
		return known, fmt.Errorf("reply of %T, %T, %T", reply[0], reply[1], reply[2])
	}
	p, err := parseHead(head)
	if err != nil {
		return known, err
	}
	p.UserID, p.RunID = known.UserID, known.RunID
	if from < 0 || from > int64(known.Output.Len()) {
		return known, fmt.Errorf("piece at %d, known %d", from, known.Output.Len())
	}
	if from != int64(known.Output.Len()) || grown.Len() != int(from) { // another attempt, or one that begins anew
		grown.Reset()
		grown.WriteString(string(known.Output[:from]))
	}
	grown.WriteString(piece)
	p.Output = chat.Output(grown.String()) // which is only added to
	return p, nil
}
