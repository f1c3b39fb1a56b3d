package httpapi

import (
	"context"
	"time"

	kitendpoint "github.com/go-kit/kit/endpoint"

	"parley/domain/access"
	"parley/domain/fault"
	"parley/ports"
)

// authenticate finds out who calls. Every answer to a known caller is private.
func (a *API) authenticate(next kitendpoint.Endpoint) kitendpoint.Endpoint {
	return middleware(next, func(ctx context.Context, req *request) (err error) {
		req.header.Set("Cache-Control", "no-store")
		if req.credential, err = credentialOf(req.Request); err != nil {
			a.Observer.Observe(ctx, ports.Refused{Kind: fault.KindOf(err), Tier: access.Anonymous})
			return err
		}
		req.Principal, err = a.Gate.Authenticate(ctx, req.credential, req.Caller)
		return err
	})
}

// checkOrigin refuses requests that a foreign page makes with the user's cookie.
func (a *API) checkOrigin(next kitendpoint.Endpoint) kitendpoint.Endpoint {
	return middleware(next, func(ctx context.Context, req *request) error {
		if req.Principal.Via != access.ViaCookie || a.csrf.Check(req.Request) == nil {
			return nil
		}
		a.Gate.Refuse(ctx, req.Principal, req.Caller, req.route.Label(), fault.Forbidden)
		return fault.New(fault.Forbidden, "Cross-origin requests with a session cookie are refused")
	})
}

// checkRequest applies the kill switch and the coarse limit.
func (a *API) checkRequest(next kitendpoint.Endpoint) kitendpoint.Endpoint {
	return middleware(next, func(ctx context.Context, req *request) error {
		_, err := a.Gate.CheckRequest(ctx, req.Principal)
		return err
	})
}

// checkAddress applies the kill switch and the limit of the address to a request
// without a credential. What it answers is neither cached nor indexed by search
// engines: it can end at any time.
func (a *API) checkAddress(next kitendpoint.Endpoint) kitendpoint.Endpoint {
	return middleware(next, func(ctx context.Context, req *request) error {
		req.header.Set("Cache-Control", "no-store")
		req.header.Set("X-Robots-Tag", "noindex, nofollow, noarchive")
		return a.Gate.CheckAddress(ctx, req.Caller)
	})
}

// checkScope refuses a credential that does not cover the route. It comes
// behind the coarse limit, because each refusal is audited.
func (a *API) checkScope(next kitendpoint.Endpoint) kitendpoint.Endpoint {
	return middleware(next, func(ctx context.Context, req *request) error {
		if req.Principal.May(req.route.Access.scope()) {
			return nil
		}
		a.Gate.Refuse(ctx, req.Principal, req.Caller, req.route.Label(), fault.Forbidden)
		return fault.New(fault.Forbidden, "Insufficient scope")
	})
}

// consumeSend counts a request that asks for a reply against the tier's limit.
// One over the limit goes on, to be served only if it is a repeat.
func (a *API) consumeSend(next kitendpoint.Endpoint) kitendpoint.Endpoint {
	return middleware(next, func(ctx context.Context, req *request) error {
		if req.route.Access != Sends {
			return nil
		}
		d, err := a.Gate.ConsumeSend(ctx, req.Principal, req.Caller)
		if err != nil && !fault.Is(err, fault.Limited) {
			return err
		}
		req.ReplayOnlyReason = err
		wait := d.RetryAfter
		if d.Allowed {
			wait = d.Reset.Sub(a.Now())
		}
		setLimitHeaders(req.header, "send", d.Limit, d.Remaining, Timestamp(d.Reset), wait)
		return nil
	})
}

// limitStreams counts the stream that a request opens, from before its
// operation until it has been answered.
func (a *API) limitStreams(next kitendpoint.Endpoint) kitendpoint.Endpoint {
	return func(ctx context.Context, in any) (out any, err error) {
		req := in.(*request)
		if !req.opensStream() {
			return next(ctx, req)
		}
		closeStream, err := a.Gate.OpenStream(req.Principal)
		if err != nil {
			return nil, err
		}
		defer func() {
			if req.stream == nil { // an error or a panic: there is nothing to encode
				closeStream()
			}
		}()
		if out, err = next(ctx, req); err == nil {
			req.stream = closeStream
		}
		return out, err
	}
}

// instrument tells the observer of requests that fail behind it.
func (a *API) instrument(next kitendpoint.Endpoint) kitendpoint.Endpoint {
	return func(ctx context.Context, in any) (any, error) {
		out, err := next(ctx, in)
		if err != nil {
			a.observeFailure(ctx, in.(*request), err)
		}
		return out, err
	}
}

// recheck refuses the output of an operation that took so long that the
// credential may not be valid any more. Streams check it while they are open.
func (a *API) recheck(next kitendpoint.Endpoint) kitendpoint.Endpoint {
	return func(ctx context.Context, in any) (any, error) {
		req, began := in.(*request), time.Now()
		out, err := next(ctx, req)
		if err == nil && req.route.Access == Sends && time.Since(began) >= a.CheckInterval && !a.Gate.StillValid(ctx, req.credential, req.Principal) {
			return nil, fault.New(fault.Unauthenticated, SessionEnded)
		}
		return out, err
	}
}

// observeFailure states why a request was refused or failed.
func (a *API) observeFailure(ctx context.Context, req *request, err error) {
	if fault.KindOf(err) == fault.Canceled && ctx.Err() != nil {
		return // the client has gone
	}
	f, status := asFault(err)
	switch {
	case f.Kind == fault.AIFailed || f.Kind == fault.AIUnavailable || f.Kind == fault.Limited:
		// The first two are ends of runs, and the gate has told of the third.
	case f.Kind == fault.NotFound || f.Kind == fault.Forbidden:
		a.Gate.Refuse(ctx, req.Principal, req.Caller, req.route.Label(), f.Kind)
	case status < 500 || f.Kind == fault.QueueFull || f.Kind == fault.Overloaded || f.Kind == fault.Unavailable && f.Cause == nil:
		a.Observer.Observe(ctx, ports.Refused{Kind: f.Kind, Tier: req.Principal.Tier, UserID: req.Principal.UserID})
	default:
		a.Observer.Observe(ctx, ports.RequestFailed{Route: req.route.Label(), Sends: req.route.Access == Sends, Kind: f.Kind, Err: err})
	}
}
