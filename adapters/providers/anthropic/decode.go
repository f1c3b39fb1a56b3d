package anthropic

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/tidwall/gjson"

	"parley/adapters/providers/upstream"
)

// decoder reads the events of one stream, or the one document of a server that
// does not stream.
type decoder struct {
	stopReason gjson.Result
	block      string          // the type of the block that is being read
	signature  strings.Builder // of its thinking
}

// decode reads an event. Its type stands in the data and in the event's name;
// some gateways leave one of them out.
func (d *decoder) decode(event upstream.Event, r *upstream.Reply) error {
	e, err := event.JSON()
	if err != nil {
		return err
	}
	switch kind := cmp.Or(e.Get("type").Str, event.Name); kind {
	case "ping", "":
	case "content_block_stop":
		d.endBlock(r)
	case "message_start":
		return d.message(e.Get("message"), r)
	case "message":
		if err := d.message(e, r); err != nil {
			return err
		}
		return d.finish(r)
	case "content_block_start":
		return d.beginBlock(e.Get("content_block"), r)
	case "content_block_delta":
		r.Begin() // whatever it is: a signature comes after reasoning that is not shown
		return d.delta(e.Get("delta"), r)
	case "message_delta":
		d.usage(e.Get("usage"), r)
		d.stop(e.Get("delta.stop_reason"))
	case "message_stop":
		d.usage(e.Get("usage"), r)
		return d.finish(r)
	case "error":
		return upstream.ParseRefusal(e, http.StatusOK, nil).Fault()
	default:
		for _, path := range []string{"text", "delta", "content", "content_block"} {
			if !upstream.ReadContent(e.Get(path)).Empty() {
				r.Unsupported(kind)
			}
		}
	}
	return nil
}

// message reads the members of a message, at the start of a stream or as a whole.
func (d *decoder) message(m gjson.Result, r *upstream.Reply) error {
	if model := m.Get("model").Str; model != "" {
		r.Model = model
	}
	d.usage(m.Get("usage"), r)
	d.stop(m.Get("stop_reason"))
	content := m.Get("content")
	if !content.IsArray() {
		return r.Content(upstream.ReadContent(content))
	}
	for _, block := range content.Array() {
		if err := d.beginBlock(block, r); err != nil {
			return err
		}
		d.endBlock(r)
	}
	return nil
}

// beginBlock reads the start of a block, which may be all of it.
func (d *decoder) beginBlock(block gjson.Result, r *upstream.Reply) error {
	d.endBlock(r)
	d.block = block.Get("type").Str
	switch d.block {
	case "thinking":
		d.sign(block.Get("signature").Str)
	case "redacted_thinking":
		d.state("redacted", block.Get("data").Str, r)
	}
	return r.Content(upstream.ReadContent(block))
}

// delta reads more of a block.
func (d *decoder) delta(delta gjson.Result, r *upstream.Reply) error {
	switch delta.Get("type").Str {
	case "signature_delta":
		d.sign(delta.Get("signature").Str)
	case "input_json_delta":
		if d.block == "server_tool_use" { // of a tool that Anthropic calls itself
			return nil
		}
	}
	return r.Content(upstream.ReadContent(delta))
}

// endBlock passes on the signature of the block that has ended.
func (d *decoder) endBlock(r *upstream.Reply) {
	d.state("signature", d.signature.String(), r)
	d.signature.Reset()
	d.block = ""
}

// maxSignature bounds the signature of one block, in bytes. A longer one is cut
// somewhere beyond that, and not passed on.
const maxSignature = 1 << 20

// sign adds a piece of the signature of the block.
func (d *decoder) sign(piece string) {
	if d.signature.Len() <= maxSignature {
		d.signature.WriteString(piece)
	}
}

// state passes on what Anthropic wants back with thinking: the signature of a
// block, or the data of one that is redacted.
//
//	{"signature": "..."}
//	{"redacted": "..."}
func (d *decoder) state(name, value string, r *upstream.Reply) {
	if value == "" || len(value) > maxSignature {
		return
	}
	state, err := json.Marshal(map[string]string{name: value})
	if err != nil { // a string always has a JSON form
		panic(err)
	}
	r.State(string(state))
}

func (d *decoder) stop(reason gjson.Result) {
	if reason.Type != gjson.Null {
		d.stopReason = reason
	}
}

// finish ends the reply. Without a stop reason the end of the message is one.
func (d *decoder) finish(r *upstream.Reply) error {
	d.endBlock(r)
	r.Finish(cmp.Or(d.stopReason.String(), "end_turn"))
	return io.EOF
}

// usage reads usage as Anthropic counts it: input excludes what a prompt cache
// gave or took. Later figures are cumulative.
func (d *decoder) usage(u gjson.Result, r *upstream.Reply) {
	if !u.IsObject() {
		return
	}
	r.InputExcludesCache()
	r.Usage(upstream.UsageReport{
		Input: u.Get("input_tokens"), Output: u.Get("output_tokens"),
		CacheRead: u.Get("cache_read_input_tokens"), CacheWrite: u.Get("cache_creation_input_tokens"),
		Reasoning: u.Get("output_tokens_details.thinking_tokens"),
	})
}
