package boot

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// releaseExecutable unmaps the executable's pages of code and constants from this
// process. They come from the file again when they are used. A failure changes
// nothing.
func releaseExecutable() {
	program, err := os.Executable()
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	var start, end uint64 // of the mapping whose lines are read; both 0: it is none of those
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 6 && strings.Contains(fields[0], "-"): // address perms offset dev inode path
			start, end = 0, 0
			if fields[5] == program && strings.HasPrefix(fields[1], "r-") {
				start, end = addresses(fields[0])
			}
		case len(fields) > 1 && fields[0] == "Anonymous:" && start < end:
			// A page that was written, such as constants that the loader has relocated, is
			// nowhere else and would be lost.
			if fields[1] == "0" {
				syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), syscall.MADV_DONTNEED) //nolint:errcheck // best effort
			}
		}
	}
}

// addresses reads a range of /proc/self/smaps; both are 0 if it is none.
func addresses(s string) (start, end uint64) {
	from, to, _ := strings.Cut(s, "-")
	start, errStart := strconv.ParseUint(from, 16, 64)
	end, errEnd := strconv.ParseUint(to, 16, 64)
	if errStart != nil || errEnd != nil {
		return 0, 0
	}
	return start, end
}
