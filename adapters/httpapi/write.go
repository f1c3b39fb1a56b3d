package httpapi

import (
	"net/http"
	"strconv"
	"time"
)

// requestID is the header in which a request's id travels, in both directions.
const requestID = "X-Request-Id"

// validRequestID accepts what is safe to repeat in headers and logs.
func validRequestID(id string) bool {
	if len(id) < 8 || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// writer remembers whether an answer has begun, and gives each write a
// deadline: a client that does not read is dropped.
type writer struct {
	http.ResponseWriter
	timeout time.Duration
	wrote   bool
}

// Unwrap lets http.ResponseController through.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(status int) {
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	w.wrote = true
	// Not every writer has deadlines (a test's recorder has none).
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout))
	return w.ResponseWriter.Write(p)
}

// write sends a whole body.
func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone, and nobody is left to tell
}
