package stub_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"parley/adapters/providers/stub"
)

func TestReply_GateHoldsBackTheRest(t *testing.T) {
	gate, opened := make(chan struct{}), false
	server, err := stub.Start(stub.Always(stub.Reply{Text: "one two three", Gate: gate, After: 2}))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	resp, err := http.Post(server.OpenAIURL()+"/chat/completions", "application/json",
		strings.NewReader(`{"stream":true,"messages":[{"role":"user","content":"Count."}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ended := false
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.Contains(line, "two"):
			if call := server.Calls()[0]; call.Complete || call.Disconnected {
				t.Error("the reply has ended before its gate was opened")
			}
			close(gate)
			opened = true
		case strings.Contains(line, "three") && !opened:
			t.Error("the rest was sent before the gate was opened")
		case line == "data: [DONE]":
			ended = true
		}
	}
	if !opened || !ended {
		t.Errorf("opened: %v, ended: %v", opened, ended)
	}
}
