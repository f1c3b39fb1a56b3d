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
	Deleted   Kind = "deleted"        // a link speaks of an entry that is gone, or links are missing
	Inserted  Kind = "inserted"       // an entry that is neither sealed nor waiting to be
	Reordered Kind = "reordered"      // a link does not follow the one before it
	Truncated Kind = "truncated"      // the chain ends before a head that was exported
	Unsealed  Kind = "unsealed"       // an entry waits too long, or an erasure is not finished
	Keyless   Kind = "key missing"    // a user's key is gone without an erasure
	Forged    Kind = "forged erasure" // a user was erased by somebody who does not have the chain's key
	BadHead   Kind = "head mismatch"  // a head that is not signed with our key, or not of this chain
)

// Finding is one thing that is wrong. It holds no content.
type Finding struct {
	Kind    Kind
	Seq     int64  // of the link or head; 0 when there is none
	EntryID string // "" when there is none
}

// Report sums a verification up.
type Report struct {
	Links    int64
	Last     audit.Link // the end of the chain
	Heads    int        // compared with the chain
	Waiting  int        // entries that will be sealed in a moment
	Findings int
	HeadKey  []byte // what heads are signed with; nil when there is no chain yet
}

// How long something may be on its way before that is a finding.
const (
	sealingMay = time.Minute
	erasingMay = time.Hour
)

// Verify compares the chain, the log and exported heads, and tells found every
// thing that does not fit. It changes nothing, and entries that are just being
// written are no finding. The error says that it could not be done.
func (s *Service) Verify(ctx context.Context, heads []audit.Head, found func(Finding)) (Report, error) {
	v := verifier{keys: func() (*audit.ChainKeys, error) { return s.peek(ctx) }, heads: slices.Clone(heads), found: found}
	err := s.Ledger.Inspect(ctx, v.visit)
	if err == nil {
		err = v.end()
	}
	return v.report, err
}

// peek returns the keys, nil when no chain was begun.
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

// verifier walks along the chain once.
type verifier struct {
	keys   func() (*audit.ChainKeys, error)
	opened *audit.ChainKeys // with the first link: the chain may just be beginning
	found  func(Finding)
	heads  []audit.Head // once opened: ours, ahead of us, by number
	report Report
}

func (v *verifier) say(kind Kind, seq int64, entry string) {
	v.report.Findings++
	v.found(Finding{Kind: kind, Seq: seq, EntryID: entry})
}

// open gets the keys and sorts out heads that are not ours.
func (v *verifier) open() (err error) {
	if v.opened, err = v.keys(); err != nil {
		return err
	}
	ours := v.heads[:0]
	for _, h := range v.heads {
		if v.opened != nil && h.Signed(v.opened.HeadKey()) {
			ours = append(ours, h)
		} else {
			v.say(BadHead, h.Seq, "")
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
	case e.Subject != nil: // somebody puts entries under the name of one who is gone
		v.say(Inserted, e.Link.Seq, e.Link.EntryID)
	}
	return nil
}

// link holds a link to the one before it, and to the heads of its number.
func (v *verifier) link(l audit.Link) {
	last := v.report.Last
	v.report.Links++
	v.report.Last = l // what follows is held to what is there: one change, one finding
	if l.Seq != last.Seq+1 {
		v.say(Deleted, last.Seq+1, "") // from there to l
	} else if l.Prev != last.Hash {
		v.say(Reordered, l.Seq, l.EntryID)
	}
	switch {
	case v.opened.Genuine(l):
	case l.Kind == audit.Erased:
		v.say(Forged, l.Seq, l.EntryID)
	default:
		v.say(Edited, l.Seq, l.EntryID)
	}
	for len(v.heads) > 0 && v.heads[0].Seq <= l.Seq {
		v.report.Heads++
		if h := v.heads[0]; h.Seq != l.Seq || h.Hash != l.Hash {
			v.say(BadHead, h.Seq, "")
		}
		v.heads = v.heads[1:]
	}
}

// entry holds an entry to its link.
func (v *verifier) entry(e ports.InspectionItem) {
	switch l := e.Link; {
	case e.Subject == nil:
		v.say(Keyless, l.Seq, l.EntryID)
	case e.Line == nil:
		v.say(Deleted, l.Seq, l.EntryID)
	case v.opened.Digest(*e.Subject, l.Kind, *e.Line) != l.Digest,
		e.Line.Status == string(audit.Pending) && (e.Line.Error != nil || e.Line.UpdatedAt != e.Line.CreatedAt):
		v.say(Edited, l.Seq, l.EntryID)
	}
}

// line judges an entry that the chain does not know.
func (v *verifier) line(e ports.InspectionItem) {
	may := sealingMay
	if e.Erasing {
		may = erasingMay
	}
	switch {
	case !e.Queued && !e.Erasing:
		v.say(Inserted, 0, e.Line.ID)
	case e.Waited > may || e.Waited < -may: // a time in the future is no excuse
		v.say(Unsealed, 0, e.Line.ID)
	default:
		v.report.Waiting++
	}
}

// end says what the chain should have had besides.
func (v *verifier) end() error {
	if v.opened == nil { // there are no links
		if err := v.open(); err != nil {
			return err
		}
	}
	if n := len(v.heads); n > 0 {
		v.say(Truncated, v.heads[n-1].Seq, "")
	}
	return nil
}
