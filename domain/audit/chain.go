// Package audit holds audit entries and the arithmetic of the chain over them:
// how a link is hashed, digested and signed. It does no I/O.
package audit

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// The audit log is sealed into a chain: one link for each fact about an entry,
// numbered without a gap, each with a keyed hash over the link before it. The
// format below is version 1. A change needs another version byte, since chains
// outlive releases.
const chainVersion = 1

// Sum is a SHA-256 hash or HMAC of the chain.
type Sum [sha256.Size]byte

// LinkKind says what a link states.
type LinkKind string

const (
	Opened LinkKind = "opened" // an entry was written as pending; the digest covers all but the outcome
	Closed LinkKind = "closed" // an entry is final; the digest covers all of it
	Erased LinkKind = "erased" // everything of the subject was erased on request; no digest
)

// Line is an entry as the log stores it, column by column as text; nil is NULL.
// The digest is made of this and not of Entry, so that no two values of a column
// have one digest.
type Line struct {
	UserID, ID, Action, Resource               string
	ResourceID, Metadata, IPAddress, UserAgent *string
	Status                                     string
	Error                                      *string
	CreatedAt, UpdatedAt                       string
}

// Link is one row of the chain. It holds no personal data: Subject is random.
type Link struct {
	Seq      int64 // from 1
	Subject  string
	EntryID  string // "" in an Erased link
	Kind     LinkKind
	Digest   Sum
	Prev     Sum // the Hash of the link before; zero in the first one
	Hash     Sum
	SealedAt time.Time // whole microseconds
}

// Subject is the pseudonym of a user in the chain. It is stored with the user's
// id and destroyed with it: then nothing leads from a link to a person, and no
// digest of the person's entries can be computed again.
type Subject struct {
	ID   string
	Salt []byte // with the deployment's key, makes the key of the digests
}

// NewSubject returns a random subject.
func NewSubject() Subject {
	s := Subject{ID: rand.Text(), Salt: make([]byte, sha256.Size)}
	_, _ = rand.Read(s.Salt) // never fails
	return s
}

// Unsealed is a fact that is not in the chain yet. Line is nil when the entry is
// not in the log any more.
type Unsealed struct {
	Kind    LinkKind
	EntryID string
	Subject Subject
	Line    *Line
}

// ChainKeys are the deployment's keys. They are needed to make a digest, a link,
// a head or a user's hash.
type ChainKeys struct {
	entries []byte // with a subject's salt: the key of the subject's digests
	links   []byte
	users   []byte // of erased users' hashes
	heads   ed25519.PrivateKey
}

// NewChainKeys derives the keys from the root of the chain.
func NewChainKeys(root []byte) (*ChainKeys, error) {
	if len(root) < rootSize {
		return nil, fmt.Errorf("audit chain: the root has %d bytes", len(root))
	}
	var err error
	derive := func(info string) []byte {
		key, failed := hkdf.Key(sha256.New, root, nil, info, sha256.Size)
		if failed != nil {
			err = fmt.Errorf("audit chain: derive key: %w", failed)
		}
		return key
	}
	k := &ChainKeys{entries: derive("Parley Audit Entries"), links: derive("Parley Audit Links"), users: derive("Parley Erased Users")}
	if seed := derive("Parley Audit Heads"); err == nil {
		k.heads = ed25519.NewKeyFromSeed(seed)
	}
	return k, err
}

// UserHash returns the HMAC of a user's id under which an erased user is
// remembered. Without the keys it cannot be compared with any id.
func (k *ChainKeys) UserHash(user string) string {
	sum := mac(k.users, []byte(user))
	return hex.EncodeToString(sum[:])
}

// Digest returns the keyed digest of an entry, for a link of the given kind.
func (k *ChainKeys) Digest(s Subject, kind LinkKind, l Line) Sum {
	key := mac(k.entries, s.Salt)
	b := []byte{chainVersion}
	b = appendText(b, string(kind))
	for _, text := range []string{l.UserID, l.ID, l.Action, l.Resource, l.CreatedAt} {
		b = appendText(b, text)
	}
	for _, text := range []*string{l.ResourceID, l.Metadata, l.IPAddress, l.UserAgent} {
		b = appendMaybe(b, text)
	}
	if kind == Closed {
		b = appendText(b, l.Status)
		b = appendText(b, l.UpdatedAt)
		b = appendMaybe(b, l.Error)
	}
	return mac(key[:], b)
}

// Append returns l as the link after last; the zero Link comes before the first.
func (k *ChainKeys) Append(last, l Link) Link {
	l.Seq, l.Prev = last.Seq+1, last.Hash
	l.SealedAt = l.SealedAt.UTC().Truncate(time.Microsecond)
	l.Hash = k.hash(l)
	return l
}

// Genuine reports whether the hash of a link is the one that Append gives it. It
// does not compare the link with others.
func (k *ChainKeys) Genuine(l Link) bool {
	hash := k.hash(l)
	return hmac.Equal(hash[:], l.Hash[:])
}

func (k *ChainKeys) hash(l Link) Sum {
	b := append([]byte{chainVersion}, l.Prev[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Seq))
	b = appendText(b, l.Subject)
	b = appendText(b, l.EntryID)
	b = appendText(b, string(l.Kind))
	b = append(b, l.Digest[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(l.SealedAt.UnixMicro()))
	return mac(k.links, b)
}

// Head is a signed statement of the chain's last link. Stored where it cannot be
// changed by an attacker who can write the database, it proves that nothing up to
// that link was cut off.
type Head struct {
	Seq       int64
	Hash      Sum
	Time      time.Time // whole seconds
	Signature []byte
}

// Sign returns the signed head of a chain whose last link is last.
func (k *ChainKeys) Sign(last Link, now time.Time) Head {
	h := Head{Seq: last.Seq, Hash: last.Hash, Time: now.UTC().Truncate(time.Second)}
	h.Signature = ed25519.Sign(k.heads, h.signed())
	return h
}

// HeadKey returns the public key that verifies heads.
func (k *ChainKeys) HeadKey() ed25519.PublicKey { return k.heads.Public().(ed25519.PublicKey) }

// Signed reports whether the head was signed with the private key of key.
func (h Head) Signed(key ed25519.PublicKey) bool { return ed25519.Verify(key, h.signed(), h.Signature) }

func (h Head) signed() []byte {
	b := append([]byte("parley audit head"), chainVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Seq))
	b = append(b, h.Hash[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(h.Time.Unix()))
}

// appendText writes the length first, so that no two lists of texts give the same
// bytes.
func appendText(b []byte, text string) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(text)))
	return append(b, text...)
}

// appendMaybe writes a text that may be absent, which differs from an empty one.
func appendMaybe(b []byte, text *string) []byte {
	if text == nil {
		return append(b, 0)
	}
	return appendText(append(b, 1), *text)
}

func mac(key, message []byte) (sum Sum) {
	m := hmac.New(sha256.New, key)
	m.Write(message)
	m.Sum(sum[:0])
	return sum
}
