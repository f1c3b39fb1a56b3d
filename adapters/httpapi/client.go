package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"unicode"

	"parley/domain/access"
	"parley/domain/fault"
)

// Proxies says how far X-Forwarded-For can be trusted.
type Proxies struct {
	Hops int            // number of our own proxies in front; 0 ignores the header
	From []netip.Prefix // whose header is read; none: anyone's
}

// credentialOf reads the credential of a request. Other schemes than Bearer are
// ignored, so that a proxy's own Basic header does no harm.
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

// caller returns where a request came from, for the audit.
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

// client returns the address that the outermost of our proxies saw. What is
// further left in X-Forwarded-For the client may have written itself.
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
