package main

import (
	"io"
	"net"
	"net/http"
)

// startCollector starts a collector of traces that takes every span and keeps none.
func startCollector() (url string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{ReadHeaderTimeout: readyTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	})}
	go s.Serve(l)
	return "http://" + l.Addr().String(), s.Close, nil
}
