package httpapi

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"unicode"

	"parley/app/gate"
	"parley/domain/access"
	"parley/domain/fault"
	"parley/ports"
)

// call is what is known about a request once it has been let in.
type call struct {
	route     Route
	principal access.Principal
	caller    access.Caller
	// credential is what the principal was recognised by; a stream presents it
	// again at each heartbeat.
	credential access.Credential
	// onlyReplay is the refusal of a request over its limit: only if it turns
	// out to be the repeat of one that was let in is it served.
	onlyReplay error
	stream     *openStream
}

// openStream is the stream that a request may open.
type openStream struct{ closed func() }

// open counts the stream from now on, unless the caller has too many.
func (s *openStream) open(g *gate.Gate, p access.Principal) (err error) {
	s.closed, err = g.OpenStream(p)
	return err
}

// close stops counting it. It is called when the request has ended, however it
// did.
func (s *openStream) close() {
	if s.closed != nil {
		s.closed()
	}
}

type callKey struct{}

// callOf returns the call of a context; the zero call is let in nowhere.
func callOf(ctx context.Context) call {
	c, _ := ctx.Value(callKey{}).(call)
	return c
}

// admit stands before every route: who is it, may it come from there, is chat
// open, how often. The body is not looked at until all of that is settled.
func (a *API) admit(route Route, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		c := call{route: route, caller: a.caller(r)}
		if route.Access == Public {
			next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, callKey{}, c)))
			return
		}
		w.Header().Set("Cache-Control", "no-store")

		credential, err := credentialOf(r)
		if err != nil {
			a.Observer.Observe(ctx, ports.Refused{Kind: fault.KindOf(err), Tier: access.Anonymous})
			problem(w, err)
			return
		}
		c.credential = credential
		if c.principal, err = a.Gate.Authenticate(ctx, credential, c.caller); err != nil {
			problem(w, err)
			return
		}
		if c.principal.Via == access.ViaCookie && a.csrf.Check(r) != nil {
			a.Gate.Refuse(ctx, c.principal, c.caller, route.Label(), fault.Forbidden)
			problem(w, fault.New(fault.Forbidden, "Cross-origin requests with a session cookie are refused"))
			return
		}
		if _, err := a.Gate.Enter(ctx, c.principal); err != nil {
			problem(w, err)
			return
		}
		if !c.principal.May(route.Access.scope()) { // counted first: each one is audited
			a.Gate.Refuse(ctx, c.principal, c.caller, route.Label(), fault.Forbidden)
			problem(w, fault.New(fault.Forbidden, "This credential may not be used for that"))
			return
		}
		if route.Access == Sends {
			d, err := a.Gate.Spend(ctx, c.principal, c.caller)
			if err != nil && !fault.Is(err, fault.Limited) {
				problem(w, err)
				return
			}
			c.onlyReplay = err
			wait := d.RetryAfter
			if d.Allowed {
				wait = d.Reset.Sub(a.Now())
			}
			limitHeaders(w.Header(), "send", d.Limit, d.Remaining, timestamp(d.Reset), wait)
		}
		c.stream = &openStream{}
		defer c.stream.close()
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, callKey{}, c)))
	})
}

// credentialOf reads what the request presents. What is no bearer token does
// not count, so that a proxy's own Basic header does no harm.
func credentialOf(r *http.Request) (access.Credential, error) {
	var c access.Credential
	for _, cookie := range r.Cookies() {
		c.Cookies = append(c.Cookies, access.Cookie{Name: cookie.Name, Value: cookie.Value})
	}
	given := r.Header.Values("Authorization")
	if len(given) > 1 {
		return c, fault.New(fault.Invalid, "Authorization is given more than once")
	}
	if len(given) == 1 {
		scheme, token, _ := strings.Cut(strings.TrimSpace(given[0]), " ")
		if strings.EqualFold(scheme, "Bearer") {
			c.Bearer = strings.TrimSpace(token)
		}
	}
	return c, nil
}

// caller says where a request came from, for the audit.
func (a *API) caller(r *http.Request) access.Caller {
	const longest = 512
	agent := strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(r.UserAgent(), "\ufffd"))
	if len(agent) > longest {
		agent = strings.ToValidUTF8(agent[:longest], "")
	}
	return access.Caller{IP: a.Proxies.client(r), UserAgent: agent}
}

// client returns the address that the outermost of our proxies saw. Whatever
// stands further left in X-Forwarded-For the client may have written itself.
func (p Proxies) client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	peer, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	peer = peer.Unmap().WithZone("")
	if p.Hops <= 0 || !p.trusts(peer) {
		return peer.String()
	}
	seen := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	if len(seen) < p.Hops {
		return peer.String()
	}
	client, err := netip.ParseAddr(strings.TrimSpace(seen[len(seen)-p.Hops]))
	if err != nil {
		return peer.String()
	}
	return client.Unmap().WithZone("").String()
}

func (p Proxies) trusts(peer netip.Addr) bool {
	for _, prefix := range p.From {
		if prefix.Contains(peer) {
			return true
		}
	}
	return len(p.From) == 0
}
