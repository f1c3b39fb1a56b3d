package audit

import (
	"cmp"
	"context"
	"slices"
	"time"

	"parley/domain/audit"
	"parley/ports"
)

// Kind is what a finding is about.
type Kind string

const (
	Edited    Kind = "edited"         // an entry, or a link, is not what it was when it was sealed
	Deleted   Kind = "deleted"        // a link refers to an entry that is gone, or links are missing
	Inserted  Kind = "inserted"       // an entry is neither sealed nor waiting
	Reordered Kind = "reordered"      // a link does not follow the one before it
	Truncated Kind = "truncated"      // the chain ends before a head that was exported
	Unsealed  Kind = "unsealed"       // an entry waits too long, or an erasure is not finished
	Keyless   Kind = "key missing"    // a user's key is gone without an erasure
	Forged    Kind = "forged erasure" // a user was erased without the chain's key
	BadHead   Kind = "head mismatch"  // a head is not signed with our key, or not of this chain
)

// Finding is one inconsistency. It holds no content.
type Finding struct {
	Kind    Kind
	Seq     int64  // of the link or head; 0 when there is none
	EntryID string // "" when there is none
}

// Report is the summary of a verification.
type Report struct {
	Links    int64
	Last     audit.Link // of the chain
	Heads    int        // compared with the chain
	Waiting  int        // entries that are about to be sealed
	Findings int
	HeadKey  []byte // public key of the heads; nil when there is no chain yet
}

// How long an entry may wait to be sealed, and an erasure may take.
const (
	sealingTimeout = time.Minute
	erasingTimeout = time.Hour
)

// Verify compares the chain, the log and exported heads, and calls found with each
// inconsistency. It changes nothing; entries that are being written meanwhile are
// no finding. An error means that the database could not be read or the root not
// be opened.
func (s *Service) Verify(ctx context.Context, heads []audit.Head, found func(Finding)) (Report, error) {
	v := verifier{keys: func() (*audit.ChainKeys, error) { return s.peek(ctx) }, heads: slices.Clone(heads), found: found}
	err := s.Ledger.Inspect(ctx, v.visit)
	if err == nil {
		err = v.end()
	}
	return v.report, err
}

// peek returns the keys, nil when there is no chain yet.
func (s *Service) peek(ctx context.Context) (*audit.ChainKeys, error) {
	wrapped, err := s.Ledger.AuditRoots(ctx)
	if err != nil || len(wrapped) == 0 {
		return nil, err
	}
	root, _, err := audit.UnwrapRoot(s.Secrets, wrapped...)
	if err != nil {
		return nil, err
	}
	return audit.NewChainKeys(root)
}

// verifier reads the chain once, in order.
type verifier struct {
	keys   func() (*audit.ChainKeys, error)
	opened *audit.ChainKeys // set with the first link: before, the chain may not have begun
	found  func(Finding)
	heads  []audit.Head // when opened: those with our signature that are not compared yet, by number
	report Report
}

func (v *verifier) add(kind Kind, seq int64, entry string) {
	v.report.Findings++
	v.found(Finding{Kind: kind, Seq: seq, EntryID: entry})
}

// open gets the keys and reports heads with other signatures.
func (v *verifier) open() (err error) {
	if v.opened, err = v.keys(); err != nil {
		return err
	}
	ours := v.heads[:0]
	for _, h := range v.heads {
		if v.opened != nil && h.Signed(v.opened.HeadKey()) {
			ours = append(ours, h)
		} else {
			v.add(BadHead, h.Seq, "")
		}
	}
	slices.SortFunc(ours, func(a, b audit.Head) int { return cmp.Compare(a.Seq, b.Seq) })
	if v.heads = ours; v.opened != nil {
		v.report.HeadKey = v.opened.HeadKey()
	}
	return nil
}

func (v *verifier) visit(e ports.InspectionItem) error {
	if e.Link == nil {
		v.line(e)
		return nil
	}
	if v.opened == nil {
		if err := v.open(); err != nil {
			return err
		}
		if v.opened == nil {
			return errNoRoot()
		}
	}
	v.link(*e.Link)
	switch {
	case !e.Erased:
		v.entry(e)
	case e.Subject != nil: // an entry was added under the subject of an erased user
		v.add(Inserted, e.Link.Seq, e.Link.EntryID)
	}
	return nil
}

// link compares a link with the one before it and with the heads of its number.
func (v *verifier) link(l audit.Link) {
	last := v.report.Last
	v.report.Links++
	v.report.Last = l // the next link is compared with this one, so one change is one finding
	if l.Seq != last.Seq+1 {
		v.add(Deleted, last.Seq+1, "") // from there to l
	} else if l.Prev != last.Hash {
		v.add(Reordered, l.Seq, l.EntryID)
	}
	switch {
	case v.opened.Genuine(l):
	case l.Kind == audit.Erased:
		v.add(Forged, l.Seq, l.EntryID)
	default:
		v.add(Edited, l.Seq, l.EntryID)
	}
	for len(v.heads) > 0 && v.heads[0].Seq <= l.Seq {
		v.report.Heads++
		if h := v.heads[0]; h.Seq != l.Seq || h.Hash != l.Hash {
			v.add(BadHead, h.Seq, "")
		}
		v.heads = v.heads[1:]
	}
}

// entry compares an entry with its link.
func (v *verifier) entry(e ports.InspectionItem) {
	switch l := e.Link; {
	case e.Subject == nil:
		v.add(Keyless, l.Seq, l.EntryID)
	case e.Line == nil:
		v.add(Deleted, l.Seq, l.EntryID)
	case v.opened.Digest(*e.Subject, l.Kind, *e.Line) != l.Digest,
		e.Line.Status == string(audit.Pending) && (e.Line.Error != nil || e.Line.UpdatedAt != e.Line.CreatedAt):
		v.add(Edited, l.Seq, l.EntryID)
	}
}

// line reports an entry without its link, unless it waits for one.
func (v *verifier) line(e ports.InspectionItem) {
	timeout := sealingTimeout
	if e.Erasing {
		timeout = erasingTimeout
	}
	switch {
	case !e.Queued && !e.Erasing:
		v.add(Inserted, 0, e.Line.ID)
	case e.Waited > timeout || e.Waited < -timeout: // a time in the future counts too
		v.add(Unsealed, 0, e.Line.ID)
	default:
		v.report.Waiting++
	}
}

// end reports heads of links that the chain does not have.
func (v *verifier) end() error {
	if v.opened == nil { // the chain has no links
		if err := v.open(); err != nil {
			return err
		}
	}
	if n := len(v.heads); n > 0 {
		v.add(Truncated, v.heads[n-1].Seq, "")
	}
	return nil
}
