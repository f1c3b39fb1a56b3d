package anthropic

import (
	"cmp"
	"io"
	"net/http"

	"github.com/tidwall/gjson"

	"parley/adapters/providers/upstream"
)

// decoder reads the events of one stream, or the one document of a server that
// does not stream.
type decoder struct {
	stopReason gjson.Result
}

// decode reads an event. Its type stands in the data and in the event's name;
// some gateways leave one of them out.
func (d *decoder) decode(event upstream.Event, r *upstream.Reply) error {
	e, err := event.JSON()
	if err != nil {
		return err
	}
	switch kind := cmp.Or(e.Get("type").Str, event.Name); kind {
	case "ping", "content_block_stop", "":
	case "message_start":
		return d.message(e.Get("message"), r)
	case "message":
		if err := d.message(e, r); err != nil {
			return err
		}
		return d.finish(r)
	case "content_block_start":
		return r.Content(upstream.ReadContent(e.Get("content_block")))
	case "content_block_delta":
		r.Begin() // whatever it is: a signature comes after reasoning that is not shown
		return r.Content(upstream.ReadContent(e.Get("delta")))
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
	return r.Content(upstream.ReadContent(m.Get("content")))
}

func (d *decoder) stop(reason gjson.Result) {
	if reason.Type != gjson.Null {
		d.stopReason = reason
	}
}

// finish ends the reply. Without a stop reason the end of the message is one.
func (d *decoder) finish(r *upstream.Reply) error {
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
