package boot

import (
	"net"
	"net/http"
	"net/netip"
	"time"

	"parley/adapters/identity"
	"parley/domain/access"
)

// developmentUser is the user that the page and the banner's token belong to in
// development mode.
const developmentUser = "dev"

// developmentSession is how long a session of the page lasts in development mode.
const developmentSession = 30 * 24 * time.Hour

// developmentSignIn signs a browser that opens the page in as the development user. It
// is for development mode only, where the secret protects nothing, and does so
// only for a browser on this machine that asked for an address of this machine:
// the name that another site may have given this address does not count, and
// neither does a request that came through a proxy.
type developmentSignIn struct {
	next    http.Handler
	callers *identity.Authenticator
	secret  string
}

func (s developmentSignIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || r.URL.Path != "/" || !isLocal(r) || s.signedIn(r) {
		s.next.ServeHTTP(w, r)
		return
	}
	// The cookies of localhost are those of every app that is developed there: a
	// session of ours would replace the app's.
	if host, port, _ := net.SplitHostPort(r.Host); host == "localhost" {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if address, err := netip.ParseAddrPort(local.String()); err == nil {
			r.Pattern = "/"
			w.Header().Set("Cache-Control", "no-store")
			//nolint:gosec // to the address of this machine that the request came to
			http.Redirect(w, r, "http://"+net.JoinHostPort(address.Addr().Unmap().String(), port)+r.URL.RequestURI(), http.StatusTemporaryRedirect)
			return
		}
	}
	value, err := identity.MintCookie(s.secret, identity.CookieV5, identity.Grant{UserID: developmentUser, TTL: developmentSession, Now: time.Now()})
	if err == nil {
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // development mode has no TLS
			Name: identity.CookieV5, Value: value, Path: "/", MaxAge: int(developmentSession.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
		})
		// A copy that is still current is answered without its headers by some caches.
		r.Header.Del("If-None-Match")
	}
	s.next.ServeHTTP(w, r)
}

func (s developmentSignIn) signedIn(r *http.Request) bool {
	var c access.Credential
	for _, cookie := range r.Cookies() {
		c.Cookies = append(c.Cookies, access.Cookie{Name: cookie.Name, Value: cookie.Value})
	}
	_, err := s.callers.Identify(r.Context(), c)
	return err == nil
}

// isLocal reports whether a request comes from this machine, without a proxy,
// and names an address of this machine as its host.
func isLocal(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if len(r.Header.Values(name)) > 0 {
			return false
		}
	}
	return loopback(r.RemoteAddr) && loopback(r.Host)
}
