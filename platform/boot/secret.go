package boot

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"parley/platform/config"
)

// secrets returns the secrets that tokens are signed and verified with, the
// signing one first. In development mode one is generated and kept in DATA_DIR;
// made reports that it was generated now.
func secrets(c config.Config) (list []string, made bool, err error) {
	if c.Development() {
		secret, made, err := developmentSecret(c.Store.DataDir)
		return []string{secret}, made, err
	}
	for _, s := range c.Auth.AuthSecret {
		list = append(list, strings.TrimSpace(s.Reveal()))
	}
	return list, false, nil
}

func secretFile(dir string) string { return filepath.Join(dir, "auth_secret") }

func developmentSecret(dir string) (secret string, made bool, err error) {
	secret, err = readSecret(secretFile(dir))
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, false, err
	}
	if err := makeDataDir(dir); err != nil {
		return "", false, err
	}
	if made, err = makeSecret(dir); err != nil {
		return "", false, fmt.Errorf("keep a development secret in DATA_DIR: %w", err)
	}
	secret, err = readSecret(secretFile(dir))
	return secret, made, err
}

func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read the development secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", usageError{fmt.Errorf("others can read %s; run: chmod 600 %s", path, path)}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the development secret: %w", err)
	}
	secret := strings.TrimSpace(string(raw))
	if secret == "" {
		return "", usageError{fmt.Errorf("%s is empty; remove it, and a new secret is generated", path)}
	}
	return secret, nil
}

// makeSecret writes a temporary file and links it, so that two processes that
// start at once read the same, complete secret.
func makeSecret(dir string) (made bool, err error) {
	aside, err := os.CreateTemp(dir, ".auth_secret-*") // mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(aside.Name())
	defer aside.Close()
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	if _, err := aside.WriteString(base64.StdEncoding.EncodeToString(key[:]) + "\n"); err != nil {
		return false, err
	}
	err = os.Link(aside.Name(), secretFile(dir))
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make DATA_DIR: %w", err)
	}
	return nil
}

// minSecretBytes is the least length of a secret that keys are derived from.
const minSecretBytes = 32

const makeSecretCommand = "openssl rand -base64 33" //nolint:gosec // a command, not a secret

// weakSecrets returns one error for each secret that can be guessed.
// Development mode makes its own. Later entries of AUDIT_KEY only open what was
// wrapped with them, so that a weak key can be replaced.
func weakSecrets(c config.Config) (weak []error) {
	if c.Development() {
		return nil
	}
	check := func(name string, secrets []config.Secret) {
		for i, s := range secrets {
			if problem := secretWeakness(strings.TrimSpace(s.Reveal())); problem != "" {
				which := name
				if len(secrets) > 1 {
					which = fmt.Sprintf("entry %d of %s", i+1, name)
				}
				weak = append(weak, fmt.Errorf("%s %s; make a secret with: %s", which, problem, makeSecretCommand))
			}
		}
	}
	check("AUTH_SECRET", c.Auth.AuthSecret)
	check("AUDIT_KEY", c.Store.AuditKey[:min(len(c.Store.AuditKey), 1)])
	return weak
}

// secretWeakness returns why a secret can be guessed, or "".
func secretWeakness(s string) string {
	switch {
	case isPlaceholder(s):
		return "is a placeholder"
	case len(s) < minSecretBytes:
		return fmt.Sprintf("has %d bytes; it must have at least %d", len(s), minSecretBytes)
	case isRepetitive(s):
		return "repeats the same characters"
	}
	return ""
}

// placeholders are parts of the secrets that documentation and templates show,
// without case, spaces and punctuation. In random text of base64 each is found less
// than once in a hundred million.
var placeholders = []string{
	"changeme", "changethis", "changeit", "bechanged", "replaceme", "replacethis", "replacewith", "insertyour", "putyour", "enteryour",
	"yoursecret", "yourauthsecret", "yournextauthsecret", "yourjwtsecret", "yoursuper", "your256bit", "your32", "yourown",
	"supersecret", "secrethere", "keyhere", "placeholder", "opensslrand", "generatea", "atleast32", "min32char", "atleast256", "longrandomstring",
}

// placeholderWords are refused as the whole of a secret.
var placeholderWords = []string{
	"secret", "password", "passwort", "default", "example", "test", "testing", "development", "dev", "todo", "fixme", "none", "null", "key",
	"0123456789abcdef0123456789abcdef", "authsecret", "nextauthsecret", "auditkey", "token", "admin", "parley",
}

func isPlaceholder(s string) bool {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return -1
	}, s)
	for _, p := range placeholders {
		if strings.Contains(plain, p) {
			return true
		}
	}
	return slices.Contains(placeholderWords, plain) || strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") || strings.HasPrefix(s, "${")
}

// isRepetitive reports whether a text has few different characters, repeats a
// short one, or counts through the alphabet.
func isRepetitive(s string) bool {
	different := map[byte]bool{}
	runs := 0
	for i := range len(s) {
		different[s[i]] = true
		if i > 0 && (s[i] == s[i-1] || s[i] == s[i-1]+1 || s[i]+1 == s[i-1]) {
			runs++
		}
	}
	if len(different) < 6 || runs*10 >= len(s)*9 {
		return true
	}
	for period := 1; period <= len(s)/3; period++ {
		if strings.HasPrefix(s, s[period:]) {
			return true
		}
	}
	return false
}

// requireSecretForPublicBind refuses addresses that other machines can reach in
// development mode, whose secret is not meant to protect anything.
func requireSecretForPublicBind(c config.Config) error {
	if !c.Development() {
		return nil
	}
	for name, addr := range map[string]string{"ADDR": c.Server.Addr, "ADMIN_ADDR": c.Server.AdminAddr} {
		if !loopback(addr) {
			return usageError{fmt.Errorf("AUTH_SECRET is not set, and %s would let other machines in: "+
				"set AUTH_SECRET to your app's secret, or let %s begin with 127.0.0.1", name, name)}
		}
	}
	return nil
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
