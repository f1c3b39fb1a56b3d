package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
)

// Secret is text that must not be shown. Printed, encoded or logged it is a
// placeholder; only Reveal returns the value.
type Secret string

const redacted = "[secret]"

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }

// Set reports whether there is a value.
func (s Secret) Set() bool { return s != "" }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString keeps the value out of %#v.
func (s Secret) GoString() string { return s.String() }

// Format keeps the value out of every other verb, wrong ones included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText keeps the value out of JSON and other text encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue keeps the value out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// WithoutURL removes the URL, which may hold a password, from an error of an HTTP
// request.
func WithoutURL(err error) error {
	var because *url.Error
	if errors.As(err, &because) {
		return because.Err
	}
	return err
}
