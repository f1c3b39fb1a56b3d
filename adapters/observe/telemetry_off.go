//go:build muted

package observe

// telemetryOff is true in a build without logs, metrics and traces of requests:
// platform/testing/bench compares with it to measure what telemetry costs.
const telemetryOff = true
