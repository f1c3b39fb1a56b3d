//go:build !notelemetry

package observe

const telemetryOff = false
