package rest

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"parley/adapters/httpapi"
	"parley/domain/chat"
)

// TestAppendJSON_IsWhatEncodingJSONWrites compares messages with each field at
// its zero value and at another one: a field that is added without being written
// fails it.
func TestAppendJSON_IsWhatEncodingJSONWrites(t *testing.T) {
	full := messageOf(chat.Message{
		ID: "conv/own", UserID: "ann", ConversationID: "conv", ParentID: "conv/before", Role: chat.Assistant, Content: "a <b> & \"c\"\n\u2028 é",
		Parts: []chat.Part{{Kind: chat.TextPart, Text: "x"}, {Kind: chat.FilePart, ID: "f", Name: "<n>", Size: 3}}, Metadata: json.RawMessage(`{"k":[1.50,"<& é"]}`),
		CreatedAt: time.Unix(1, 5e6), Siblings: []string{"conv/own", "other"}, Feedback: &chat.Feedback{Rating: "up", Reason: "\"well\""},
	})
	full.ContentHTML = httpapi.Optional("<p>a</p>")
	empty := messageJSON{}
	variants := []messageJSON{full, empty, {Metadata: httpapi.Object(`{"a":"b"}`), Siblings: []string{}, ContentHTML: new(string)}}
	for i := range reflect.TypeFor[messageJSON]().NumField() {
		field := reflect.TypeFor[messageJSON]().Field(i)
		if reflect.ValueOf(full).Field(i).IsZero() {
			t.Errorf("%s has no value in this test", field.Name)
		}
		one, all := empty, full
		reflect.ValueOf(&one).Elem().Field(i).Set(reflect.ValueOf(full).Field(i))
		reflect.ValueOf(&all).Elem().Field(i).SetZero()
		variants = append(variants, one, all)
	}
	check := func(v httpapi.JSONAppender, of any) {
		t.Helper()
		want, err := json.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.AppendJSON(nil); err != nil || string(got) != string(want) {
			t.Errorf("got  %s\nwant %s\n%v", got, want, err)
		}
	}
	for _, m := range variants {
		check(&m, m)
		check(sentJSON{m, full}, sentJSON{m, full})
	}
	check(messagesJSON{variants, paginationJSON{Limit: 1, Before: "b"}}, messagesJSON{variants, paginationJSON{Limit: 1, Before: "b"}})
	check(messagesJSON{[]messageJSON{}, paginationJSON{}}, messagesJSON{[]messageJSON{}, paginationJSON{}})
}
