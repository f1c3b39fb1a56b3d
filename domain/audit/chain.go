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

// The audit log is sealed into a chain: one link per fact about one entry,
// numbered without a gap, each with a keyed hash over the link before it. The
// format below is version 1; a change of it is another version byte, since
// chains outlive releases.
const chainVersion = 1

// Sum is the size of every hash of the chain.
type Sum [sha256.Size]byte

// LinkKind says what a link states.
type LinkKind string

const (
	Opened LinkKind = "opened" // an entry was written while its action went on: the digest covers all but the outcome
	Closed LinkKind = "closed" // an entry is final: the digest covers all of it
	Erased LinkKind = "erased" // everything of the subject was erased on request; no digest
)

// Line is an entry as the log stores it, text for text; nil is absent. The
// digest is made of this and not of Entry, so that no other value in the table
// can stand for the same entry.
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

// Subject is whom the chain means by a user. It is kept beside the user's id
// and destroyed with it: then nothing leads from a link to a person, and no
// digest of the person's entries can be made again.
type Subject struct {
	ID   string
	Salt []byte // makes the key of the digests, together with the deployment's
}

// NewSubject returns a subject for a user who has none.
func NewSubject() Subject {
	s := Subject{ID: rand.Text(), Salt: make([]byte, sha256.Size)}
	_, _ = rand.Read(s.Salt) // never fails
	return s
}

// Unsealed is a fact that waits for its place in the chain. Line is nil when
// the entry is not in the log any more.
type Unsealed struct {
	Kind    LinkKind
	EntryID string
	Subject Subject
	Line    *Line
}

// ChainKeys are the deployment's keys. Without them nobody can make a digest, a
// link, a head or a user's hash.
type ChainKeys struct {
	entries []byte // with a subject's salt: the key of the subject's digests
	links   []byte
	users   []byte // of erased users' hashes
	heads   ed25519.PrivateKey
}

// NewChainKeys derives the keys from the secret of the chain.
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

// UserHash is what an erased user is remembered by: it says whether an id is one
// of an erased user, and nothing to anybody who does not have the keys.
func (k *ChainKeys) UserHash(user string) string {
	sum := mac(k.users, []byte(user))
	return hex.EncodeToString(sum[:])
}

// Digest is the keyed digest of an entry for a link of the kind.
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

// Append returns l as the link behind last; the zero Link stands before the first.
func (k *ChainKeys) Append(last, l Link) Link {
	l.Seq, l.Prev = last.Seq+1, last.Hash
	l.SealedAt = l.SealedAt.UTC().Truncate(time.Microsecond)
	l.Hash = k.hash(l)
	return l
}

// Genuine reports whether a link is one that Append made, as far as it can be
// told from the link alone.
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

// Head is a signed statement of how far the chain had got. Kept where whoever
// can write the database cannot, it proves that nothing before it was cut off.
type Head struct {
	Seq       int64
	Hash      Sum
	Time      time.Time // whole seconds
	Signature []byte
}

// Sign returns the head of a chain that ends with last.
func (k *ChainKeys) Sign(last Link, now time.Time) Head {
	h := Head{Seq: last.Seq, Hash: last.Hash, Time: now.UTC().Truncate(time.Second)}
	h.Signature = ed25519.Sign(k.heads, h.signed())
	return h
}

// HeadKey is what others verify heads with.
func (k *ChainKeys) HeadKey() ed25519.PublicKey { return k.heads.Public().(ed25519.PublicKey) }

// Signed reports whether the owner of the key signed the head.
func (h Head) Signed(key ed25519.PublicKey) bool { return ed25519.Verify(key, h.signed(), h.Signature) }

func (h Head) signed() []byte {
	b := append([]byte("parley audit head"), chainVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Seq))
	b = append(b, h.Hash[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(h.Time.Unix()))
}

// appendText writes the length first, so that no two lists of texts are the
// same bytes.
func appendText(b []byte, text string) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(text)))
	return append(b, text...)
}

// appendMaybe keeps apart what is absent and what is empty.
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
