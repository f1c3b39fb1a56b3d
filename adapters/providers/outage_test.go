package providers_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"parley/adapters/providers"
	"parley/adapters/providers/stub"
	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// tally is what came of one message.
type tally struct {
	phase  string
	text   string
	answer ports.Answer
	err    error
	took   time.Duration
}

// TestSteady keeps 50 messages a second coming while the preferred provider is
// well, killed, back, frozen, back, erroring and back again. The clock is
// synctest's.
func TestSteady(t *testing.T) {
	synctest.Test(t, steady)
}

func steady(t *testing.T) {
	const (
		rate     = 50
		deadline = 2 * time.Second
	)
	well := func(c stub.Call) stub.Reply {
		return stub.Reply{Text: fmt.Sprintf("%s says %s", c.Provider, stub.Words(c.N%20)), Pace: time.Millisecond}
	}
	network := stub.NewNetwork()
	start := func() *stub.Server {
		s, err := network.Start(well)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first, second := start(), start()
	defer first.Close()
	defer second.Close()
	r, err := providers.New(providers.Config{
		OpenAI:         providers.Provider{Key: "k", BaseURL: first.OpenAIURL(), Models: []string{"gpt-4o"}},
		Anthropic:      providers.Provider{Key: "k", BaseURL: second.AnthropicURL(), Models: []string{"claude-sonnet-4-5"}},
		Limits:         upstream.Limits{Connect: 300 * time.Millisecond, FirstToken: 300 * time.Millisecond, Idle: 300 * time.Millisecond},
		MaxConcurrency: 20,
		Breaker:        providers.Breaker{Open: 500 * time.Millisecond},
		Transport:      network.Wrap,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	var mu sync.Mutex
	var results []tally
	opened, closed := map[string]bool{}, map[string]bool{}
	var wg sync.WaitGroup
	var sent atomic.Int64
	send := func(phase string) {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		x := tally{phase: phase}
		begun := time.Now()
		x.answer, x.err = r.Generate(ctx, ports.Prompt{
			UserID: fmt.Sprint("user ", sent.Add(1)), Messages: []ports.PromptMessage{ports.PromptText(chat.User, "one two three")},
		}, func(d chat.Delta) { x.text += d.Text })
		x.took = time.Since(begun)
		mu.Lock()
		defer mu.Unlock()
		results = append(results, x)
	}
	during := func(phase string, d time.Duration) {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
			wg.Go(func() { send(phase) })
			switch r.Breakers()[0].State {
			case "open":
				opened[phase] = true
			case "closed":
				closed[phase] = true
			}
		}
	}
	bad := map[string]func(){
		"killed":   first.Kill,
		"frozen":   func() { first.Play(stub.Always(stub.Reply{Hang: true})) },
		"erroring": func() { first.Play(stub.Always(stub.Refuse(500, "server_error"))) },
	}
	during("well", 2*time.Second)
	for _, phase := range []string{"killed", "frozen", "erroring"} {
		bad[phase]()
		during(phase, 1500*time.Millisecond)
		if phase == "killed" {
			if err := first.Resume(); err != nil {
				t.Fatal(err)
			}
		}
		first.Play(well)
		during("after "+phase, 1500*time.Millisecond)
		if !opened[phase] || !closed["after "+phase] || r.Breakers()[0].State != "closed" {
			t.Errorf("%s: opened %v, closed %v, now %v", phase, opened[phase], closed["after "+phase], r.Breakers())
		}
	}
	wg.Wait()

	calls := append(first.Calls(), second.Calls()...)
	served, byOther := 0, 0
	var input, output int64
	for _, x := range results {
		if x.took > deadline {
			t.Errorf("%s: %v", x.phase, x.took)
		}
		if x.err != nil {
			if !fault.Is(x.err, fault.AIUnavailable) && !fault.Is(x.err, fault.AIFailed) {
				t.Errorf("%s: %v", x.phase, x.err)
			}
			continue
		}
		served++
		if x.answer.Provider == "anthropic" {
			byOther++
		}
		input, output = input+x.answer.Usage.Input, output+x.answer.Usage.Output
		price := map[string][2]int64{"openai": {25, 100}, "anthropic": {30, 150}}[x.answer.Provider] // tenths of a micro-dollar
		want := (x.answer.Usage.Input*price[0] + x.answer.Usage.Output*price[1] + 5) / 10
		if x.answer.Usage.Estimated || x.answer.Usage.Output != stub.Tokens(x.text) || *x.answer.CostMicros != want {
			t.Errorf("%s: %+v costs %d, want %d", x.phase, x.answer.Usage, *x.answer.CostMicros, want)
		}
	}
	var asked, said int64
	for _, c := range calls {
		if c.Complete {
			asked, said = asked+c.Input, said+c.Output
		}
	}
	if asked != input || said != output {
		t.Errorf("the stub counted %d in and %d out, the answers %d and %d", asked, said, input, output)
	}
	n := len(results)
	if ratio := float64(len(calls)) / float64(n); ratio > 1.1 {
		t.Errorf("%.3f calls for each message", ratio)
	}
	if n < 400 || served < n*97/100 || byOther < 100 {
		t.Errorf("%d messages, %d served, %d of them by the other provider", n, served, byOther)
	}
	t.Logf("%d messages, %d served, %d by the other provider, %d calls", n, served, byOther, len(calls))
}
