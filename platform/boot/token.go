package boot

import (
	"fmt"
	"strings"
	"time"

	"parley/adapters/identity"
	"parley/domain/access"
)

type tokenCommand struct {
	User   string        `required:"" help:"Id of the user, as your app knows it."`
	Tier   string        `default:"authenticated" placeholder:"TIER" help:"One of anonymous, authenticated, api_key, admin, webhook."`
	TTL    time.Duration `default:"24h" help:"How long the token is good for."`
	Cookie bool          `help:"Print an Auth.js v5 session cookie (name=value) instead of a bearer token."`
	Secure bool          `help:"With --cookie: the one that browsers send over https."`
}

// Run prints the token and nothing else on standard output.
func (t tokenCommand) Run(p Process) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	tier, ok := access.ParseTier(t.Tier)
	if !ok {
		return usageError{fmt.Errorf("--tier must be %s", tierNames())}
	}
	if t.Cookie && tier != access.Authenticated {
		return usageError{fmt.Errorf("--cookie cannot have a --tier: a session is always %s", access.Authenticated)}
	}
	list, made, err := secrets(c)
	if err != nil {
		return err
	}
	if made {
		fmt.Fprintln(p.Stderr, "AUTH_SECRET is not set: made a development secret in "+secretFile(c.Store.DataDir))
	}
	token, err := t.mint(list[0], tier)
	if err != nil {
		return usageError{err}
	}
	_, err = fmt.Fprintln(p.Stdout, token)
	return err
}

func (t tokenCommand) mint(secret string, tier access.Tier) (string, error) {
	grant := identity.Grant{UserID: t.User, Tier: tier, TTL: t.TTL, Now: time.Now()}
	if !t.Cookie {
		return identity.Mint(secret, grant)
	}
	name := identity.CookieV5
	if t.Secure {
		name = identity.CookieV5Secure
	}
	value, err := identity.MintCookie(secret, name, grant)
	return name + "=" + value, err
}

func tierNames() string {
	names := make([]string, len(access.Tiers))
	for i, t := range access.Tiers {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}
