package audit

import (
	"context"
	"fmt"
	"time"

	"parley/domain/access"
	"parley/ports"
)

// Tasks as BackgroundFailed names them.
const (
	taskSeal  = "audit_seal"
	taskHead  = "audit_head"
	taskErase = "audit_erase"
)

// retryAfter is the pause after a failure: a database that is away is not
// asked any sooner.
const retryAfter = 2 * time.Second

// Serve seals until ctx is done, and then once more, so that an orderly end
// leaves nothing unsealed and no link without a head.
func (s *Service) Serve(ctx context.Context) {
	b := beat{Service: s}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			pause := s.opt.Interval
			if !b.round(ctx, false) {
				pause = max(pause, retryAfter)
			}
			timer.Reset(pause)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
			defer cancel()
			b.round(last, true)
			return
		}
	}
}

// beat is what Serve remembers from round to round.
type beat struct {
	*Service
	seen     int64 // the longest chain seen
	exported int64 // the head that was exported last
	headAt   time.Time
	eraseAt  time.Time
}

// round seals what waits, and does what else is due. It reports whether
// everything went well.
func (b *beat) round(ctx context.Context, final bool) (ok bool) {
	err := b.seal(ctx)
	if err != nil && ctx.Err() == nil {
		b.failed(ctx, taskSeal, err)
	}
	now := b.Now()
	if b.Export != nil && (final || now.Sub(b.headAt) >= b.opt.HeadEvery) {
		b.headAt = now
		if err := b.export(ctx); err != nil && ctx.Err() == nil {
			b.failed(ctx, taskHead, err)
		}
	}
	if !final && now.Sub(b.eraseAt) >= b.opt.Resume {
		b.eraseAt = now
		if err := b.resumeErasures(ctx); err != nil && ctx.Err() == nil {
			b.failed(ctx, taskErase, err)
		}
	}
	return err == nil
}

// seal seals everything that waits, and states how far behind it had been.
func (b *beat) seal(ctx context.Context) error {
	lag, waiting, err := b.Ledger.Unsealed(ctx)
	if err != nil {
		return err
	}
	n := 0
	if waiting {
		n, err = b.sealAll(ctx)
	}
	b.Observer.Observe(ctx, ports.AuditSealed{Seq: b.seen, Links: n, Lag: max(lag, 0)})
	return err
}

func (b *beat) sealAll(ctx context.Context) (n int, err error) {
	for more := true; more && err == nil; {
		var sealed []access.Link
		sealed, more, err = b.sealBatch(ctx)
		if n += len(sealed); len(sealed) > 0 {
			b.seen = sealed[len(sealed)-1].Seq
		}
	}
	return n, err
}

// Seal seals everything that waits now and returns the number of new links. It
// returns 0 at once when another instance is at it.
func (s *Service) Seal(ctx context.Context) (int, error) {
	return (&beat{Service: s}).sealAll(ctx)
}

func (s *Service) sealBatch(ctx context.Context) (sealed []access.Link, more bool, err error) {
	keys, err := s.open(ctx)
	if err != nil {
		return nil, false, err
	}
	now := s.Now()
	return s.Ledger.Seal(ctx, s.opt.Batch, func(last access.Link, batch []access.Unsealed) []access.Link {
		links := make([]access.Link, 0, len(batch))
		for _, fact := range batch {
			l := access.Link{Subject: fact.Subject.ID, EntryID: fact.EntryID, Kind: fact.Kind, SealedAt: now}
			if fact.Line != nil { // else the link proves that there was one
				l.Digest = keys.Digest(fact.Subject, fact.Kind, *fact.Line)
			}
			last = keys.Append(last, l)
			links = append(links, last)
		}
		return links
	})
}

// export signs the end of the chain, whoever made it, unless that was done
// before. It signs nothing that it can see to be false.
func (b *beat) export(ctx context.Context) error {
	last, err := b.Ledger.LastLink(ctx)
	if err != nil || last.Seq == 0 && b.seen == 0 {
		return err
	}
	keys, err := b.open(ctx)
	if err != nil {
		return err
	}
	switch {
	case last.Seq < b.seen:
		return fmt.Errorf("the audit chain ends at %d, it had got to %d", last.Seq, b.seen)
	case !keys.Genuine(last):
		return fmt.Errorf("link %d of the audit chain is not genuine", last.Seq)
	case last.Seq == b.exported:
		return nil
	}
	if err := b.Export(ctx, keys.Sign(last, b.Now())); err != nil {
		return err
	}
	b.seen, b.exported = last.Seq, last.Seq
	return nil
}
