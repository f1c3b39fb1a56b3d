package boot

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"parley/adapters/sqlstore"
	appaudit "parley/app/audit"
	"parley/domain/audit"
	"parley/platform/config"
	"parley/ports"
)

type auditCommand struct {
	Verify auditVerify `cmd:"" help:"Check the audit log against its chain; exit code 1 if anything does not fit."`
}

type auditVerify struct {
	Heads string `type:"path" placeholder:"FILE" help:"File of exported heads; more than one may be put together in it. Without: the file that AUDIT_HEADS names."`
}

// Run prints every finding, without content, and a summary.
func (v auditVerify) Run(ctx context.Context, p Process) error {
	return withStore(ctx, p, func(c config.Config, store *sqlstore.Store) error {
		heads, unreadable, err := v.heads(c)
		if err != nil {
			return err
		}
		auditor, err := newAuditor(c, store, nil, ports.NopObserver{})
		if err != nil {
			return err
		}
		report, err := auditor.Verify(ctx, heads, func(f appaudit.Finding) {
			line := string(f.Kind)
			if f.Seq != 0 {
				line += fmt.Sprintf(" seq=%d", f.Seq)
			}
			if f.EntryID != "" {
				line += fmt.Sprintf(" entry=%q", f.EntryID)
			}
			fmt.Fprintln(p.Stdout, line)
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(p.Stdout, "%d links, %d heads compared, %d entries waiting to be sealed, %d findings\n",
			report.Links, report.Heads, report.Waiting, report.Findings)
		if report.Links > 0 {
			fmt.Fprintf(p.Stdout, "the chain ends with %x; heads are signed with the ed25519 key %s\n",
				report.Last.Hash, base64.StdEncoding.EncodeToString(report.HeadKey))
		}
		if unreadable > 0 {
			fmt.Fprintf(p.Stderr, "%d lines of the heads cannot be read\n", unreadable)
		}
		switch {
		case report.Findings > 0:
			return fmt.Errorf("the audit log is not what was sealed")
		case report.Heads == 0 && v.path(c) != "":
			return fmt.Errorf("the file holds no heads: whether the chain is complete cannot be verified")
		case report.Heads == 0:
			fmt.Fprintln(p.Stderr, "no heads to compare with: a chain whose end was cut off would look like this one")
		}
		return nil
	})
}

// path returns the file that heads are read from, "" for none.
func (v auditVerify) path(c config.Config) string {
	if target := c.Store.AuditHeads.Reveal(); v.Heads == "" && !remote(target) {
		return target
	}
	return v.Heads
}

func (v auditVerify) heads(c config.Config) ([]audit.Head, int, error) {
	path := v.path(c)
	if path == "" {
		return nil, 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("read heads: %w", err)
	}
	defer f.Close()
	return appaudit.ReadHeads(f)
}

// newAuditor makes the service that seals and verifies the audit log and erases
// users. b are the backends that hold copies of a user's data; nil: none.
func newAuditor(c config.Config, store *sqlstore.Store, b *backends, observer ports.Observer) (*appaudit.Service, error) {
	var list []string
	for _, s := range c.Store.AuditKey {
		list = append(list, strings.TrimSpace(s.Reveal()))
	}
	sessions, _, err := secrets(c)
	if err != nil {
		return nil, err
	}
	deps := appaudit.Deps{
		Ledger: store, Eraser: store, Secrets: append(list, sessions...), Export: headExport(c.Store.AuditHeads.Reveal()),
		Observer: observer, Now: time.Now,
	}
	if b != nil {
		deps.Feed, deps.UserCaches = b.feed, []ports.UserForgetter{b.feed, b.cache}
	}
	return appaudit.New(deps, appaudit.Options{}), nil
}

func remote(target string) bool { return strings.Contains(target, "://") }

func headExport(target string) func(context.Context, audit.Head) error {
	switch {
	case target == "":
		return nil
	case remote(target):
		return func(ctx context.Context, h audit.Head) error { return putHead(ctx, target, h) }
	}
	return func(_ context.Context, h audit.Head) error { return appendHead(target, h) }
}

// appendHead appends a line to a file, which is created again if it was moved.
func appendHead(path string, h audit.Head) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line := append(appaudit.FormatHead(h), '\n')
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var end [1]byte // a device or a pipe has none
	if n, _ := f.ReadAt(end[:], info.Size()-1); n == 1 && end[0] != '\n' {
		line = append([]byte{'\n'}, line...) // a power cut left half a line
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	return f.Sync()
}

// putHead creates an object named by the number of the link. One that exists is
// not replaced: another instance exported the head first.
func putHead(ctx context.Context, target string, h audit.Head) error {
	u, err := url.Parse(target)
	if err != nil {
		return errors.New("AUDIT_HEADS is not a URL")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.JoinPath(fmt.Sprintf("%020d.json", h.Seq)).String(),
		bytes.NewReader(append(appaudit.FormatHead(h), '\n')))
	if err != nil {
		return errors.New("AUDIT_HEADS is not a URL")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("If-None-Match", "*")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return config.WithoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 && resp.StatusCode != http.StatusPreconditionFailed {
		return fmt.Errorf("the object store answered %d", resp.StatusCode)
	}
	return nil
}
