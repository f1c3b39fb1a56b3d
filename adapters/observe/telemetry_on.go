//go:build !muted

package observe

const telemetryOff = false
