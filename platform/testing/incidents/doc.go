// Package incidents injects incidents into two instances of Parley behind the bundled
// proxy, with the bundled rules in a running Prometheus and Alertmanager, and tests
// which alert comes first, which pages come at all, and whether the first step of the
// alert's runbook, run as written, shows the cause. `make incidents` runs it.
//
// The windows and waits of the rules are divided by Factor, so that an hour passes in
// a minute.
package incidents
