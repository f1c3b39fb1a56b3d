package chat_test

import (
	"strings"
	"testing"

	"parley/domain/chat"
	"parley/domain/fault"
)

func TestCleanFileName(t *testing.T) {
	long := strings.Repeat("ü", 200)
	for given, want := range map[string]string{
		"report.pdf": "report.pdf", "Grüße an Ann.txt": "Grüße an Ann.txt", "日本.png": "日本.png",
		"../../etc/passwd": "passwd", `C:\Users\ann\x.txt`: "x.txt", "/": "file", "..": "file", ".": "file", "": "file", "   ": "file",
		"a\x00b\r\nSet-Cookie: x.txt": "ab Set-Cookie x.txt", "\u202egnp.exe": "gnp.exe", ".bashrc": "bashrc", "a  \t b.md": "a b.md",
		"x\xff.txt": "x\uFFFD.txt", `"quoted";.txt`: "quoted;.txt", "dir/": "dir", "con.": "con",
		long + ".pdf": strings.Repeat("ü", 98) + ".pdf", long: strings.Repeat("ü", 100), "x." + strings.Repeat("e", 300): "x." + strings.Repeat("e", 198),
	} {
		if got := chat.CleanFileName(given); got != want || len(got) > chat.MaxFileName {
			t.Errorf("%q becomes %q, want %q", given, got, want)
		}
	}
}

func TestCheckFileQuota(t *testing.T) {
	for _, c := range []struct {
		quota, used, size int64
		left              any // nil: it fits
	}{{0, 1 << 40, 1 << 40, nil}, {10, 0, 10, nil}, {10, 4, 6, nil}, {10, 4, 7, int64(6)}, {10, 12, 1, int64(0)}} {
		err := chat.CheckFileQuota(c.quota, c.used, c.size)
		if c.left == nil {
			if err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if f := fault.As(err); f == nil || f.Kind != fault.OverBudget || f.Details["remaining"] != c.left {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
