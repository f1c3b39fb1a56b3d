package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// slot is an instance's place: its addresses and its proxies stay, the
// processes in it come and go.
type slot struct {
	letter      string
	addr, admin string
	pg, redis   *proxy
	bin         string
	env         []string
	log         *os.File

	mu        sync.Mutex
	proc      *proc
	processes []*proc
}

// proc is one process in a slot.
type proc struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{}

	mu              sync.Mutex
	ready           time.Time
	dead            time.Time
	endRequested    bool // it was asked to end by itself
	drained         bool // and did so, with code 0
	unexpectedExits string
}

// start starts a process, which may carry a failpoint, and waits until it is
// ready or dead.
func (s *slot) start(failpoint string) (*proc, error) {
	p, err := s.launch(failpoint)
	if err != nil {
		return nil, fmt.Errorf("start parley: %w", err)
	}
	return p, s.awaitReady(p)
}

func (s *slot) launch(failpoint string) (*proc, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &proc{name: fmt.Sprintf("%s-%d", s.letter, len(s.processes)+1), exited: make(chan struct{})}
	p.cmd = exec.Command(s.bin, "serve")
	p.cmd.Env = append(append([]string{}, s.env...), "INSTANCE="+p.name, "ADDR="+s.addr, "ADMIN_ADDR="+s.admin, "PARLEY_FAILPOINT="+failpoint)
	p.cmd.Stdout, p.cmd.Stderr = s.log, s.log
	// It must not outlive us, however we go.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	fmt.Fprintf(s.log, "--- %s %s\n", p.name, failpoint)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	s.proc = p
	s.processes = append(s.processes, p)
	go p.wait()
	return p, nil
}

func (p *proc) wait() {
	err := p.cmd.Wait()
	p.mu.Lock()
	if p.dead.IsZero() {
		p.dead = time.Now()
	}
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled() && status.Signal() == syscall.SIGKILL:
	case p.endRequested && err == nil:
		p.drained = true
	default:
		p.unexpectedExits = p.cmd.ProcessState.String()
	}
	p.mu.Unlock()
	close(p.exited)
}

func (p *proc) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// kill ends the process at once.
func (p *proc) kill() {
	p.mark()
	syscall.Kill(p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// mark notes that the process counts as dead from now on.
func (p *proc) mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead.IsZero() {
		p.dead = time.Now()
	}
}

// freeze stops the process for a while; if that is longer than its lease, its
// runs belong to other instances.
func (p *proc) freeze(d time.Duration) error {
	if err := syscall.Kill(p.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(d)
	return syscall.Kill(p.cmd.Process.Pid, syscall.SIGCONT)
}

// tell asks the process to end.
func (p *proc) requestEnd() {
	p.mu.Lock()
	p.endRequested = true
	p.mu.Unlock()
	syscall.Kill(p.cmd.Process.Pid, syscall.SIGTERM)
}

// drainedWell reports whether the process ended by itself, with code 0, after
// it had been asked to.
func (p *proc) drainSucceeded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drained
}

// terminate asks the process to end and waits for it.
func (p *proc) terminate(replyTimeout time.Duration) error {
	p.requestEnd()
	select {
	case <-p.exited:
		return nil
	case <-time.After(replyTimeout):
		p.kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", p.name, replyTimeout)
	}
}

var admin = &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// errDied says that a process ended while we waited for it.
var errDied = errors.New("the process ended")

func (s *slot) awaitReady(p *proc) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if p.gone() {
			return errDied
		}
		if s.probe("readyz") {
			p.mu.Lock()
			p.ready = time.Now()
			p.mu.Unlock()
			return nil
		}
	}
	return fmt.Errorf("%s is not ready after 30 s", p.name)
}

func (s *slot) probe(path string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+s.admin+"/"+path, nil)
	resp, err := admin.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// gauges are what an instance holds.
type gauges struct{ goroutines, fds, inUse float64 }

func (g gauges) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, %.0f connections in use", g.goroutines, g.fds, g.inUse)
}

func (s *slot) measure() (gauges, error) {
	resp, err := admin.Get("http://" + s.admin + "/metrics")
	if err != nil {
		return gauges{}, err
	}
	defer resp.Body.Close()
	return readGauges(resp.Body)
}

// dump keeps what the instance's goroutines are doing, for those who wonder.
func (s *slot) dump(file string) {
	resp, err := admin.Get("http://" + s.admin + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	_ = os.WriteFile(file, b, 0o644) // the violation stands without it
}

// readGauges reads the text format of Prometheus.
func readGauges(r io.Reader) (gauges, error) {
	var g gauges
	found := map[string]bool{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		into := map[string]*float64{
			"go_goroutines": &g.goroutines, "process_open_fds": &g.fds, "go_sql_in_use_connections": &g.inUse,
		}
		name, _, _ = strings.Cut(name, "{")
		if at := into[name]; at != nil {
			n, err := strconv.ParseFloat(strings.TrimSpace(value[strings.LastIndexByte(value, ' ')+1:]), 64)
			if err != nil {
				return g, fmt.Errorf("read metric %s: %w", name, err)
			}
			*at += n
			found[name] = true
		}
	}
	if len(found) != 3 {
		return g, fmt.Errorf("metrics lack some of goroutines, descriptors and pool: found %v", found)
	}
	return g, lines.Err()
}

// past returns when each process was up, when it died, and how, if it ended in
// a way that the harness did not cause.
func (s *slot) lifetimes() (up []span, deaths []death, unexpectedExits []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		p.mu.Lock()
		if !p.ready.IsZero() {
			up = append(up, span{p.ready, p.dead})
		}
		if !p.dead.IsZero() {
			deaths = append(deaths, death{p.name, p.dead})
		}
		if p.unexpectedExits != "" {
			unexpectedExits = append(unexpectedExits, p.name+": "+p.unexpectedExits)
		}
		p.mu.Unlock()
	}
	return up, deaths, unexpectedExits
}

// current is the process that runs in the slot, or ran last.
func (s *slot) current() *proc {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}
