//go:build !muted

package observe

const muted = false
