//go:build !linux

package upstream

import "syscall"

func wakeAt(syscall.RawConn, int) {}
