package boot

import (
	"fmt"
	"time"

	"parley/adapters/identity"
	"parley/platform/config"
)

// printDevBanner prints the first request to try, with a token; so it is for
// development mode only.
func printDevBanner(p Process, c config.Config, addr, adminAddr, secret string) error {
	token, err := identity.Mint(secret, identity.Grant{UserID: developmentUser, TTL: 24 * time.Hour, Now: time.Now()})
	if err != nil {
		return err
	}
	page := ""
	if c.ServePage() {
		page = "\nOpen http://" + addr + " in a browser to chat.\n"
	}
	_, err = fmt.Fprintf(p.Stdout, `
Parley listens on http://%[1]s in development mode: AUTH_SECRET is not set,
so tokens are made with the secret in %[2]s, and only this machine can connect.
%[5]s
Send a message:

  curl -N http://%[1]s/api/chat/stream \
    -H 'Content-Type: application/json' \
    -H 'Authorization: Bearer %[3]s' \
    -d '{"content":"Hello!"}'

The token is valid for a day; parley token --user NAME makes another one.
Metrics and probes: http://%[4]s/metrics, /livez, /readyz.

`, addr, secretFile(c.Store.DataDir), token, adminAddr, page)
	return err
}
