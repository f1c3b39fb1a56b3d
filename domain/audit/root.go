package audit

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// The root of the chain, from which its keys are derived, is random and stored in
// the database, encrypted ("wrapped") with a secret of the operator's. So the
// operator's secret can be rotated, and the chain made under the former one
// still verifies.

const rootSize = 32

// ErrRootLocked says that none of the secrets opens the root.
var ErrRootLocked = errors.New("none of the secrets opens the audit chain's key; " +
	"add the former AUDIT_KEY, or the former AUTH_SECRET, to AUDIT_KEY; " +
	"if no secret was changed, the table audit_root was: restore it from a backup")

// NewRoot returns a random root for a new chain.
func NewRoot() []byte {
	root := make([]byte, rootSize)
	_, _ = rand.Read(root) // never fails
	return root
}

// WrapRoot encrypts the root with a secret, for storage in the database.
func WrapRoot(secret string, root []byte) ([]byte, error) {
	box, err := rootBox(secret)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, box.NonceSize())
	_, _ = rand.Read(nonce)
	return box.Seal(nonce, nonce, root, []byte{chainVersion}), nil
}

// UnwrapRoot tries every secret on every wrapped root and returns the root and
// the index of the secret that opened it. After a rotation of the secret there is
// more than one wrapped root; those that no secret opens are ignored.
// ErrRootLocked: no secret opens any.
func UnwrapRoot(secrets []string, wrapped ...[]byte) (root []byte, which int, err error) {
	for i, secret := range secrets {
		box, err := rootBox(secret)
		if err != nil {
			return nil, 0, err
		}
		for _, w := range wrapped {
			if len(w) < box.NonceSize() {
				continue
			}
			root, err := box.Open(nil, w[:box.NonceSize()], w[box.NonceSize():], []byte{chainVersion})
			if err == nil {
				return root, i, nil
			}
		}
	}
	return nil, 0, ErrRootLocked
}

func rootBox(secret string) (cipher.AEAD, error) {
	if secret == "" {
		return nil, errors.New("audit chain: empty secret")
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "Parley Audit Root", 32)
	if err != nil {
		return nil, fmt.Errorf("audit chain: derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("audit chain: %w", err)
	}
	return cipher.NewGCM(block)
}
