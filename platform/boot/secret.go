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
	"strings"

	"parley/platform/config"
)

// secrets returns what tokens are made and verified with, the current one
// first. In development one is made and kept in the data directory; made says
// that this has just happened.
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
		return "", usageError{fmt.Errorf("%s is empty; remove it, and a new secret is made", path)}
	}
	return secret, nil
}

// makeSecret writes aside and links, so that of two processes that start
// together neither sees half a secret, and both see the same one.
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

// refuseExposure keeps development mode on this machine: its secret protects
// nothing that matters, and its profiles are open.
func refuseExposure(c config.Config) error {
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
