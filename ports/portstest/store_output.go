package portstest

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"time"

	"parley/domain/chat"
)

// everyKind is parts of every kind, as a reply can have them, and of one that
// only a newer version knows.
func everyKind() []chat.Part {
	return []chat.Part{
		{Kind: chat.ReasoningPart, Text: "let me <think>\n", State: "c3RhdGU=", Provider: "p", Model: "m"},
		{Kind: chat.TextPart, Text: "Look at ünïcödé"},
		{Kind: chat.SourcePart, ID: "s1", URL: "https://example.org/?a=1&b=<2>", Title: "\u2028 title", MediaType: "text/html"},
		{Kind: chat.TextPart, Text: " and on"},
		{Kind: chat.ToolCallPart, ID: "call-1", Name: "weather", Data: json.RawMessage(`{"z":"caf\u00e9 \u0000 \ud800 \u003c","a":1.50,"a":[1e2,12345678901234567890.123450]}`)},
		{Kind: chat.ApprovalPart, ID: "call-1"},
		{Kind: chat.ToolResultPart, ID: "call-1", Data: json.RawMessage(`null`)},
		{Kind: chat.FilePart, ID: "f1", Name: "a b.png", MediaType: "image/png", Size: 1 << 40},
		{Kind: chat.DataPart, Name: "chart", ID: "d1", Data: json.RawMessage(`[{"y":-0.0}]`)},
		{Kind: "hologram", Raw: json.RawMessage(`{"type":"hologram","text":"not ours","beam":{"b":1.0,"a":[true,null]}}`)},
		{Kind: chat.ReasoningPart, State: "b25seQ==", Model: "m"},
		{Kind: chat.TextPart, Text: "the end"},
	}
}

func partsTests(b *storeBench) {
	// reply gets a reply of these parts and returns its run and message.
	reply := func(b *storeBench, conv string, parts []chat.Part) (chat.Run, chat.Message) {
		b.Helper()
		out := b.admit(b.sending(conv, "show me"))
		o := b.outcome(out.Run, chat.Completed, "")
		o.Output = chat.OutputOf(parts...)
		if err := b.end(o); err != nil {
			b.Fatalf("finish: %v", err)
		}
		m, err := b.History.Message(b.ctx(), b.user, out.Run.ID)
		if err != nil {
			b.Fatal(err)
		}
		return out.Run, m
	}

	b.run("OfAReply", func(b *storeBench) {
		for _, conv := range []string{b.conversation(), ""} {
			parts := everyKind()
			run, m := reply(b, conv, parts)
			b.want("message", m.Parts, parts)
			b.want("content", m.Content, chat.ContentOf(parts))
			b.want("output", b.stored(run.ID).Output, chat.OutputOf(parts...))
			all, branch := b.all(conv), b.current(conv)
			b.want("in the list", all[len(all)-1].Parts, parts)
			b.want("in the branch", branch[len(branch)-1].Parts, parts)
			out := b.admit(b.sending(conv, "and then?"))
			b.want("in the context", out.Context[len(out.Context)-2].Parts, parts)
			_, resumed, err := b.Runs.Resume(b.ctx(), out.Run, 10)
			if err != nil {
				b.Fatal(err)
			}
			b.want("resumed", resumed[len(resumed)-2].Parts, parts)
			b.finish(out.Run, chat.Completed, "done")
		}
	})

	b.run("OneOfEach", func(b *storeBench) {
		conv := b.conversation()
		for _, p := range everyKind() {
			for _, parts := range [][]chat.Part{{p, {Kind: chat.TextPart, Text: "text"}}, {{Kind: chat.TextPart, Text: "text"}, p}} {
				run, m := reply(b, conv, parts)
				b.want(string(p.Kind), m.AllParts(), parts)
				b.want("output", b.stored(run.ID).Output, chat.OutputOf(parts...))
			}
		}
	})

	b.run("OfAUser", func(b *storeBench) {
		conv := b.conversation()
		a := b.sending(conv, "")
		a.Message.SetParts([]chat.Part{
			{Kind: chat.TextPart, Text: "compare"},
			{Kind: chat.DataPart, Name: "rows", Data: json.RawMessage(`{"n":[1.10,2e3],"b":"\u003c"}`)},
			{Kind: chat.TextPart, Text: "with that"},
		})
		parts := a.Message.Parts
		out := b.admit(a)
		b.want("admitted", out.UserMessage.Parts, parts)
		b.want("stored", b.all(conv)[0].Parts, parts)
		b.want("content", b.all(conv)[0].Content, "comparewith that")
		b.finish(out.Run, chat.Completed, "same")
	})

	b.run("OneTextIsContent", func(b *storeBench) {
		conv := b.conversation()
		a := b.sending(conv, "hello")
		a.Message.Parts = []chat.Part{{Kind: chat.TextPart, Text: "hello"}}
		b.finish(b.admit(a).Run, chat.Completed, "hi")
		for _, m := range b.all(conv) {
			b.want("parts", m.Parts, []chat.Part(nil))
			b.want("all parts", m.AllParts(), []chat.Part{{Kind: chat.TextPart, Text: m.Content}})
		}
	})

	b.run("Continued", func(b *storeBench) {
		conv := b.conversation()
		cut := b.admit(b.sending(conv, "count"))
		o := b.outcome(cut.Run, chat.Interrupted, "")
		o.Output = reasoned("hm", "one two")
		if err := b.end(o); err != nil {
			b.Fatal(err)
		}
		out := b.admit(b.again(chat.Continuation, cut.Run.ID))
		b.want("starts from", []any{out.Run.Prefix, out.Run.Output, b.stored(out.Run.ID).Output}, []any{o.Output, o.Output, o.Output})
		b.record(out.Run, out.Run.Prefix.Len(), " three")
		kept := b.stored(out.Run.ID)
		b.want("recorded", []any{kept.Output, kept.Seen()}, []any{o.Output + " three", true})
		b.finish(out.Run, chat.Completed, "so")
	})
}

// record appends to the output of a run of the owner "here".
func (b *storeBench) record(run chat.Run, at chat.Cursor, piece chat.Output) {
	b.Helper()
	points := []chat.Checkpoint{{UserID: run.UserID, RunID: run.ID, Attempt: run.Attempt, At: at, New: piece}}
	if fenced, err := b.Runs.Checkpoint(b.ctx(), "here", points); err != nil || len(fenced) > 0 {
		b.Fatalf("checkpoint: fenced %v, %v", fenced, err)
	}
}

func outputTests(b *storeBench) {
	b.run("AppendedInPieces", func(b *storeBench) {
		seed := uint64(time.Now().UnixNano())
		b.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 3 {
			out := b.admit(b.sending("", "go on"))
			var log chat.OutputLog
			recorded := chat.Cursor(0)
			cursors := []chat.Cursor{0}
			for range 20 {
				for range 1 + rng.IntN(3) {
					parts := everyKind()
					log.Append(chat.Delta{Part: parts[rng.IntN(len(parts))], Begins: rng.IntN(3) == 0})
				}
				b.record(out.Run, recorded, log.Output()[recorded:])
				recorded = log.Len()
				cursors = append(cursors, recorded)
				run := b.stored(out.Run.ID)
				b.want("recorded", []any{run.Output, run.Seen()}, []any{log.Output(), true})
			}
			o := b.outcome(out.Run, chat.Completed, "")
			log.Append(chat.Delta{Part: chat.Part{Kind: chat.TextPart, Text: "the end"}, Begins: true})
			o.Output = log.Output()
			if err := b.end(o); err != nil {
				b.Fatal(err)
			}
			run := b.stored(out.Run.ID)
			b.want("the message is the same output", run.Output, o.Output)
			for _, c := range append(cursors, o.Output.Len(), o.Output.Len()+1) {
				if _, err := run.Reader(c); err != nil {
					b.Errorf("the cursor %d was handed out: %v", c, err)
				}
			}
		}
	})

	b.run("ARepeatReplaces", func(b *storeBench) {
		out := b.admit(b.sending("", "go on"))
		b.record(out.Run, 0, chat.TextOutput("one"))
		at := chat.TextOutput("one").Len()
		b.record(out.Run, at, " two")
		b.record(out.Run, at, " two")
		b.want("repeated", b.stored(out.Run.ID).Output, chat.TextOutput("one two"))
		b.record(out.Run, at, " two and three")
		b.want("longer", b.stored(out.Run.ID).Output, chat.TextOutput("one two and three"))
		late := []chat.Checkpoint{{UserID: b.user, RunID: out.Run.ID, Attempt: 1, At: at, New: " two"}}
		if _, err := b.Runs.Checkpoint(b.ctx(), "here", late); err != nil { // an earlier try, which was under way for long
			b.Fatal(err)
		}
		b.want("the longer one counts", b.stored(out.Run.ID).Output, chat.TextOutput("one two and three"))
		b.record(out.Run, chat.TextOutput("one two and three").Len(), "")
		b.record(out.Run, chat.TextOutput("one two and three").Len(), ".")
		b.want("nothing new, then more", b.stored(out.Run.ID).Output, chat.TextOutput("one two and three."))
		b.finish(out.Run, chat.Completed, "one two and three.")
	})

	b.run("AGapIsAnError", func(b *storeBench) {
		out := b.admit(b.sending("", "go on"))
		b.record(out.Run, 0, chat.TextOutput("one"))
		b.record(out.Run, 100, " and more")
		if _, err := b.Runs.Run(b.ctx(), b.user, out.Run.ID); err == nil {
			b.Error("a gap was not noticed")
		}
		b.finish(out.Run, chat.Completed, "one")
		b.want("ended all the same", b.stored(out.Run.ID).Output, chat.TextOutput("one"))
	})

	b.run("WithoutAMessage", func(b *storeBench) { // reasoning alone leaves none
		conv := b.conversation()
		out := b.admit(b.sending(conv, "why"))
		thought := chat.OutputOf(chat.Part{Kind: chat.ReasoningPart, Text: "hm, sö so"})
		b.record(out.Run, 0, thought.Cut(3))
		b.record(out.Run, 3, thought[3:8])
		o := b.outcome(out.Run, chat.Failed, "")
		o.Output = thought
		if err := b.end(o); err != nil {
			b.Fatal(err)
		}
		run := b.stored(out.Run.ID)
		b.want("its output stays", []any{run.State, run.Output, len(b.all(conv))}, []any{chat.Failed, thought, 1})
	})

	b.run("ManyRunsAtOnce", func(b *storeBench) {
		var points []chat.Checkpoint
		for range 30 {
			run := b.admit(b.sending("", "go on")).Run
			points = append(points, chat.Checkpoint{UserID: b.user, RunID: run.ID, Attempt: 1})
		}
		want := make([]chat.Output, len(points))
		for step := range 3 {
			for i := range points {
				piece := chat.Output(strings.Repeat("x", i+step))
				if step == 0 {
					piece = chat.TextOutput("-") + piece
				}
				points[i].At, points[i].New = want[i].Len(), piece
				want[i] += piece
			}
			if fenced, err := b.Runs.Checkpoint(b.ctx(), "here", points); err != nil || len(fenced) > 0 {
				b.Fatalf("fenced %v, %v", fenced, err)
			}
		}
		for i, p := range points {
			run := b.stored(p.RunID)
			b.want("output", run.Output, want[i])
			b.finish(run, chat.Completed, run.Output.Text())
		}
	})
}
