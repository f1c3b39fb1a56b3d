package portstest_test

import (
	"context"
	"fmt"
	"testing"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
	"parley/ports/portstest"
)

// A test has the model answer step by step: it reads what was asked, streams
// text, and ends the call.
func ExampleScripted() {
	t := &testing.T{} // the test's own
	model := portstest.NewScripted(t)
	ended := make(chan error)
	go func() { // what is tested
		_, err := model.Generate(context.Background(), ports.Prompt{UserID: "ann"}, func(d chat.Delta) { fmt.Print(d.Text) })
		ended <- err
	}()
	call := model.Next()
	call.Say("Spiders of ")
	call.Say(call.Prompt.UserID + " have eight legs.\n")
	call.Fail(fault.New(fault.AIFailed, "The AI could not finish its reply"))
	fmt.Println(fault.KindOf(<-ended))
	// Output:
	// Spiders of ann have eight legs.
	// AI_FAILED
}
