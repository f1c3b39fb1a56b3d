package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Revalidation is part of the wire of a route whose answer has an ETag.
type Revalidation struct {
	IfNoneMatch string `header:"If-None-Match"`
}

// Matches reports whether the value of an If-None-Match header names an ETag.
func Matches(ifNoneMatch, etag string) bool {
	for given := range strings.SplitSeq(ifNoneMatch, ",") {
		given = strings.TrimSpace(given)
		if given == "*" || strings.TrimPrefix(given, "W/") == etag {
			return true
		}
	}
	return false
}

// RevalidatedEncoder is JSONEncoder with status 200 for a route with Revalidation.
// The answer has an ETag of its content, and is 304 without a body if the client
// has it already. It is computed either way: what is saved is its way to the
// client. It is still not to be stored where others could read it.
func RevalidatedEncoder[Out, JSON any](convert func(Out) JSON) Encoder[Out] {
	return Encoder[Out]{
		[]Answer{JSONAnswer[JSON](http.StatusOK), {Status: http.StatusNotModified}},
		func(_ context.Context, w *Response, out Out) error {
			return w.json(convert(out), func(body []byte) {
				etag := `"` + strconv.FormatUint(xxhash.Sum64(body), 36) + `"`
				w.Header().Set("ETag", etag)
				if Matches(w.request.Header.Get("If-None-Match"), etag) {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				w.Header().Set("Content-Type", MediaJSON)
				w.Body(http.StatusOK, body)
			})
		},
	}
}
