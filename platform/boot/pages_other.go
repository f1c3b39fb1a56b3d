//go:build !linux

package boot

func releaseExecutable() {}
