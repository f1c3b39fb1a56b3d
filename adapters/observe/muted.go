//go:build muted

package observe

// muted is true in a build that tells nothing: platform/testing/bench compares with it
// to say what telling costs.
const muted = true
