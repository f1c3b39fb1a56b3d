// Package gate decides which requests are let in: it authenticates callers,
// applies the kill switch and the limits, and records refusals.
package gate

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
	"parley/ports"
)

// Deps are what the gate depends on.
type Deps struct {
	Identity    ports.Identity
	Limiter     ports.Limiter
	Audit       ports.Audit
	Accounts    ports.Accounts
	Revocations ports.Revocations        // nil: none
	Switches    *Switches                // nil: nothing is ever disabled
	UserHash    func(user string) string // names erased users among the revocations; nil: there are none
	Observer    ports.Observer
	Now         ports.Clock
}

// Gate admits requests. It is safe for concurrent use.
type Gate struct {
	Deps
	limits  atomic.Pointer[access.Limits]
	budgets atomic.Pointer[access.Budgets]
	revoked revoked
	streams streams
}

// New returns a gate with the given limits.
func New(deps Deps, limits access.Limits) *Gate {
	g := &Gate{Deps: deps}
	g.SetLimits(limits)
	g.SetBudgets(nil)
	return g
}

// SetLimits changes the tiers' limits for requests from now on.
func (g *Gate) SetLimits(limits access.Limits) { g.limits.Store(&limits) }

// SetBudgets changes the tiers' budgets for messages from now on.
func (g *Gate) SetBudgets(budgets access.Budgets) { g.budgets.Store(&budgets) }

// Budget returns a tier's budget. The store holds it, in the transaction that
// admits a message.
func (g *Gate) Budget(t access.Tier) access.Budget { return (*g.budgets.Load())[t] }

// Account is the caller's usage, its budget, and what remains of it.
type Account struct {
	access.Usage
	Budget    access.Budget
	Remaining access.Remaining
	At        time.Time
}

// Usage returns the caller's account.
func (g *Gate) Usage(ctx context.Context, p access.Principal) (Account, error) {
	a := Account{Budget: g.Budget(p.Tier), At: g.Now()}
	var err error
	a.Usage, err = g.Accounts.Usage(ctx, p.UserID, a.At)
	a.Remaining = a.Budget.Remaining(a.Usage, a.At)
	return a, err
}

// Authenticate returns the principal that the credential belongs to. Failures
// are counted by address, so that guessing credentials is limited too.
func (g *Gate) Authenticate(ctx context.Context, c access.Credential, caller access.Caller) (access.Principal, error) {
	p, err := g.Identity.Identify(ctx, c)
	if err == nil && !g.isRevoked(p) {
		return p, nil
	}
	if err == nil {
		err = fault.New(fault.Unauthenticated, "Authentication required")
	}
	if fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Invalid) {
		_, limited := g.count(ctx, "coarse", "ip:"+caller.IP, access.Anonymous, access.CoarseFactor)
		if limited != nil {
			err = limited
		}
	}
	g.Observer.Observe(ctx, ports.Refused{Kind: fault.KindOf(err), Tier: access.Anonymous})
	return access.Principal{}, err
}

// CheckRequest applies the kill switch and the coarse limit, ten times the
// tier's, to a request of a known caller. It is called before the body is read.
func (g *Gate) CheckRequest(ctx context.Context, p access.Principal) (access.Decision, error) {
	if err := g.Open(); err != nil {
		g.Observer.Observe(ctx, ports.Refused{Kind: fault.KindOf(err), Tier: p.Tier, UserID: p.UserID})
		return access.Decision{}, err
	}
	d, err := g.count(ctx, "coarse", "all:"+p.UserID, p.Tier, access.CoarseFactor)
	if err != nil { // over the limit, or the client disconnected
		g.Observer.Observe(ctx, ports.Refused{Kind: fault.KindOf(err), Tier: p.Tier, UserID: p.UserID})
	}
	return d, err
}

// CheckAddress applies the kill switch, and the coarse limit of the tier anonymous
// by address, to a request without a credential.
func (g *Gate) CheckAddress(ctx context.Context, caller access.Caller) error {
	err := g.Open()
	if err == nil {
		_, err = g.count(ctx, "coarse", "public:"+caller.IP, access.Anonymous, access.CoarseFactor)
	}
	if err != nil {
		g.Observer.Observe(ctx, ports.Refused{Kind: fault.KindOf(err), Tier: access.Anonymous})
	}
	return err
}

// ConsumeSend counts a request that sends against the tier's limit. Its refusal is
// audited once per user and window.
func (g *Gate) ConsumeSend(ctx context.Context, p access.Principal, caller access.Caller) (access.Decision, error) {
	d, err := g.count(ctx, "send", "send:"+p.UserID, p.Tier, 1)
	if fault.Is(err, fault.Limited) {
		g.Observer.Observe(ctx, ports.Refused{Kind: fault.Limited, Tier: p.Tier, UserID: p.UserID})
		g.record(ctx, p, caller, audit.ActionRateLimitExceeded, "send", "RATE_LIMITED")
	}
	return d, err
}

// Refuse records that a request of a known caller was refused for a forbidden
// origin or scope, or for an id that is not the caller's. It is audited once per
// user, route and window.
func (g *Gate) Refuse(ctx context.Context, p access.Principal, caller access.Caller, route string, kind fault.Kind) {
	g.Observer.Observe(ctx, ports.Refused{Kind: kind, Tier: p.Tier, UserID: p.UserID})
	if p.Known() {
		g.record(ctx, p, caller, audit.ActionUnauthorizedAccess, route, string(kind))
	}
}

// record writes a refusal. The entry's id names the window, so that a flood
// leaves one row.
func (g *Gate) record(ctx context.Context, p access.Principal, caller access.Caller, action, route, code string) {
	now := g.Now()
	entry := audit.Entry{
		ID:     action + ":" + route + ":" + strconv.FormatInt(now.Truncate(access.Window).Unix(), 10),
		UserID: p.UserID, Action: action, Resource: audit.ResourceRoute, ResourceID: route,
		Metadata: map[string]any{"tier": string(p.Tier)}, Caller: caller,
		Status: audit.Failure, Error: code, CreatedAt: now, UpdatedAt: now,
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := g.Audit.Record(ctx, entry); err != nil {
		g.Observer.Observe(ctx, ports.BackgroundFailed{Task: "audit", Err: err})
	}
}

func (g *Gate) count(ctx context.Context, scope, key string, tier access.Tier, factor int) (access.Decision, error) {
	limit := g.limits.Load().Of(tier) * factor
	d, err := g.Limiter.Take(ctx, key, limit)
	if err != nil {
		return access.Decision{}, fault.Wrap(err, fault.Unavailable, "Service temporarily unavailable").After(time.Second)
	}
	g.Observer.Observe(ctx, ports.LimitDecided{Scope: scope, Tier: tier, Decision: d})
	if !d.Allowed {
		return d, fault.New(fault.Limited, "Rate limit exceeded. Please try again later.").
			After(d.RetryAfter).
			With("limit", d.Limit).
			With("reset", d.Reset.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	return d, nil
}
