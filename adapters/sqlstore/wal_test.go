package sqlstore_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
)

// BenchmarkOutputWAL measures what one watched reply of 200 words a second
// writes to the log of Postgres, for each byte of its text: each flush, the
// renewals of the lease, the deletion of the output and the message. It takes the
// time that the statements take, not the time that the reply would.
func BenchmarkOutputWAL(b *testing.B) {
	const wordsPerSecond = 200
	for _, every := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 125 * time.Millisecond, 200 * time.Millisecond} {
		for _, size := range []int{6 << 10, 24 << 10, 48 << 10} {
			b.Run(fmt.Sprintf("%v/%dKB", every, size>>10), func(b *testing.B) {
				store := openPostgres(b)
				if _, err := store.DB().Exec("CHECKPOINT"); err != nil {
					b.Fatal(err)
				}
				words := int(wordsPerSecond * every / time.Second)
				flushes := int(5 * time.Second / every) // between two renewals of the lease
				streamed(b, store, -1, size, words, flushes)
				var wal, text int64
				b.ResetTimer()
				for i := range b.N {
					w, n := streamed(b, store, i, size, words, flushes)
					wal, text = wal+w, text+n
				}
				b.ReportMetric(float64(wal)/float64(text), "WAL-B/B")
			})
		}
	}
}

// streamed records a reply of size bytes that is flushed after its first word and
// then after so many words. It returns the bytes of WAL from its first word to
// its end, and the bytes of its text.
func streamed(b *testing.B, store *sqlstore.Store, i, size, words, flushes int) (wal, text int64) {
	b.Helper()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	// As long as what NextAuth and Parley make.
	a := sending("cm3x8k2p90000v8l4h7d1q5zt", "go on")
	a.Run.ID, a.Message.ID = fmt.Sprintf("0193f8a2-7c1e-7d3a-9b5f-%012d", i+1), fmt.Sprintf("0193f8a2-7c1e-7d3a-8b5f-%012d", i+1)
	a.Run.AuditID, a.Run.ConversationID, a.CreateConversation = a.Run.ID, fmt.Sprintf("0193f8a2-7c1e-7d3a-7b5f-%012d", i+1), true
	_, err := store.Admit(b.Context(), a, chat.Admit)
	check(err)

	rng := rand.New(rand.NewPCG(uint64(i), 1))
	word := func() string {
		letters := make([]byte, 1+rng.IntN(9))
		for i := range letters {
			letters[i] = byte('a' + rng.IntN(26))
		}
		return string(letters) + " "
	}
	before, lease := walPosition(b, store), time.Hour
	var log chat.OutputLog
	recorded := chat.Cursor(0)
	for flush := 0; log.Len() < chat.Cursor(size); flush++ {
		var piece strings.Builder
		piece.WriteString(word())
		for n := 1; n < words && flush > 0; n++ {
			piece.WriteString(word())
		}
		log.Append(chat.TextDelta(piece.String()))
		fenced, err := store.Checkpoint(b.Context(), "here", []chat.Checkpoint{
			{UserID: a.Run.UserID, RunID: a.Run.ID, Attempt: 1, At: recorded, New: log.Output()[recorded:]},
		})
		check(err)
		if len(fenced) > 0 {
			b.Fatal("fenced")
		}
		if recorded = log.Len(); flush%flushes == flushes-1 {
			lease *= 2 // so that it is due
			_, err := store.Heartbeat(b.Context(), "here", []string{a.Run.ID}, lease)
			check(err)
		}
	}
	check(end(b.Context(), store, chat.Outcome{
		UserID: a.Run.UserID, RunID: a.Run.ID, Attempt: 1, ConversationID: a.Run.ConversationID, State: chat.Completed,
		Output: log.Output(), At: time.Now(),
	}))
	return walPosition(b, store) - before, int64(len(log.Output().Text()))
}
