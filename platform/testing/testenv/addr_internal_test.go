package testenv

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

const askFrom = "ASK_FOR_A_PORT_FROM"

// Neither this process nor another one gets a port again, and one that a server
// listens on is passed over.
func TestFreeAddr(t *testing.T) {
	if from, err := strconv.Atoi(os.Getenv(askFrom)); err == nil {
		freePort() // opens the file
		given.next = from - firstPort
		fmt.Println("got", freePort())
		return
	}
	t.Parallel()
	first := freePort()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+(first-firstPort+1)%ports))
	if err == nil { // else a server listens there already
		defer l.Close()
	}
	second := freePort()
	if second == first || l != nil && second == l.Addr().(*net.TCPAddr).Port {
		t.Errorf("%d, then %d", first, second)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFreeAddr$")
	cmd.Env = append(os.Environ(), fmt.Sprint(askFrom, "=", first), EndAtOnce)
	out, err := cmd.Output()
	var got int
	if _, scan := fmt.Sscanf(string(out), "got %d", &got); err != nil || scan != nil || got == first || got == second || got < firstPort || got >= firstPort+ports {
		t.Errorf("beside %d and %d another process got %d: %v, %v, %s", first, second, got, err, scan, out)
	}
}
