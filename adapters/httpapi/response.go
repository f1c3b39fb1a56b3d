package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"parley/domain/fault"
)

// requestID is the header in which a request's id travels, in both directions.
const requestID = "X-Request-Id"

// RunID is the header that names the reply where an answer cannot.
const RunID = "X-Run-Id"

// responseWriter remembers whether an answer has begun, and gives each write a
// deadline: a client that does not read is dropped.
type responseWriter struct {
	http.ResponseWriter
	timeout time.Duration
	wrote   bool
}

// Unwrap lets http.ResponseController through.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *responseWriter) WriteHeader(status int) {
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.wrote = true
	// Not every writer has deadlines (a test's recorder has none).
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout))
	return w.ResponseWriter.Write(p)
}

// Response writes the answer to one request.
type Response struct {
	http.ResponseWriter
	api     *API
	request *request
}

// Unwrap lets http.ResponseController through.
func (w *Response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// JSON writes v as a complete answer.
func (w *Response) JSON(status int, v any) error {
	return w.json(v, func(body []byte) {
		w.Header().Set("Content-Type", MediaJSON)
		w.Body(status, body)
	})
}

// json calls write with v as JSON, which write must not keep.
func (w *Response) json(v any, write func(body []byte)) error {
	var raw []byte
	var err error
	if a, ok := v.(JSONAppender); ok {
		buffer := buffers.Get().(*[]byte)
		raw, err = a.AppendJSON((*buffer)[:0])
		if cap(raw) <= maxBuffer {
			defer func() { *buffer = raw; buffers.Put(buffer) }()
		}
	} else {
		raw, err = json.Marshal(v)
	}
	if err != nil {
		return fault.Wrap(err, fault.Internal, "Internal server error")
	}
	write(raw)
	return nil
}

// Body writes a complete body.
func (w *Response) Body(status int, body []byte) { writeBody(w, status, body) }

func writeBody(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the client has gone
}
