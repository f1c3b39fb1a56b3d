package audit_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"parley/domain/audit"
)

// attacker may write everything, and knows everything but the secret.
type attacker struct {
	*bench
	*rand.Rand
	keys  *audit.ChainKeys // made up
	heads []audit.Head
}

// moves change something and say what; the first word names the move.
var moves = []func(*attacker) string{
	(*attacker).editEntry, (*attacker).deleteEntry, (*attacker).insertEntry, (*attacker).swapEntries, (*attacker).cutLog,
	(*attacker).editLink, (*attacker).deleteLink, (*attacker).closeGap, (*attacker).swapLinks, (*attacker).cutChain,
	(*attacker).cutBoth, (*attacker).cutStart, (*attacker).forgeLink, (*attacker).deleteKey, (*attacker).editSalt,
	(*attacker).swapKeys, (*attacker).forgeErasure, (*attacker).removeTraces, (*attacker).rewrite, (*attacker).resurrect,
	(*attacker).changeHead, (*attacker).changeRoot, (*attacker).swapUsers, (*attacker).reopen,
}

type row struct{ user, id string }

func (a *attacker) entries() (list []row) {
	for _, text := range a.texts("SELECT user_id || '/' || id FROM audit_logs ORDER BY user_id, id") {
		user, id, _ := strings.Cut(text, "/")
		list = append(list, row{user, id})
	}
	return list
}

func (a *attacker) last() int { return a.count("SELECT max(seq) FROM audit_chain") }

func (a *attacker) seq() int { return 1 + a.IntN(a.last()) }

func (a *attacker) editEntry() string {
	e := pick(a.Rand, a.entries())
	column := pick(a.Rand, []string{"user_id", "id", "action", "resource", "resource_id", "metadata", "ip_address", "user_agent", "status",
		"error_message", "created_at", "updated_at"})
	value := "COALESCE(" + column + ", '') || 'x'"
	switch column {
	case "resource_id", "ip_address", "user_agent", "error_message":
		if a.IntN(3) == 0 { // nothing for something, and something empty for nothing
			value = "CASE WHEN " + column + " IS NULL THEN '' ELSE NULL END"
		}
	case "metadata":
		value = pick(a.Rand, []string{`'{"n": "other"}'`, "'[]'", "'1'"})
	case "status":
		value = "CASE WHEN status = 'success' THEN 'failure' WHEN status = 'failure' THEN '" + pick(a.Rand, []string{"pending", "success"}) + "' ELSE 'success' END"
	case "created_at", "updated_at":
		value = "'2001-02-03 04:05:06.000007+00:00'"
		if a.postgres && a.IntN(2) == 0 {
			value = column + " + interval '1 microsecond'"
		}
	}
	a.exec("UPDATE audit_logs SET "+column+" = "+value+" WHERE user_id = $1 AND id = $2", e.user, e.id)
	return "edit " + column + " " + e.id
}

func (a *attacker) deleteEntry() string {
	e := pick(a.Rand, a.entries())
	a.exec("DELETE FROM audit_logs WHERE user_id = $1 AND id = $2", e.user, e.id)
	return "delete " + e.id
}

func (a *attacker) insertEntry() string {
	user := pick(a.Rand, []string{"ann", "bob", "mallory"})
	a.exec(`INSERT INTO audit_logs (user_id, id, action, resource, status, created_at, updated_at)
		SELECT $1, 'forged', action, resource, $2, created_at, updated_at FROM audit_logs LIMIT 1`, user, pick(a.Rand, []string{"success", "pending"}))
	if a.IntN(2) == 0 {
		subject := audit.NewSubject()
		if known := a.texts("SELECT subject FROM audit_keys WHERE user_id = $1", user); len(known) > 0 {
			subject.ID = known[0]
		} else {
			a.exec("INSERT INTO audit_keys (user_id, subject, salt) VALUES ($1, $2, $3)", user, subject.ID, subject.Salt)
		}
		for _, kind := range []audit.LinkKind{audit.Opened, audit.Closed} {
			a.append(audit.Link{Subject: subject.ID, EntryID: "forged", Kind: kind, SealedAt: time.Now()})
		}
	}
	return "insert for " + user
}

// append adds a link as good as it can be made without the secret.
func (a *attacker) append(l audit.Link) {
	last, err := a.store.LastLink(a.Context())
	if err != nil {
		a.Fatal(err)
	}
	l = a.keys.Append(last, l)
	a.exec("INSERT INTO audit_chain (seq, subject, entry_id, kind, digest, prev, hash, sealed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		l.Seq, l.Subject, l.EntryID, string(l.Kind), l.Digest[:], l.Prev[:], l.Hash[:], a.time(l.SealedAt))
}

func (a *attacker) swapEntries() string {
	list := a.entries()
	x := pick(a.Rand, list)
	y := pick(a.Rand, list)
	for x == y {
		y = pick(a.Rand, list)
	}
	column := pick(a.Rand, []string{"created_at", "id"})
	if column == "created_at" {
		a.exec(`UPDATE audit_logs SET created_at = (SELECT o.created_at FROM audit_logs AS o WHERE o.user_id = $1 AND o.id = $2) WHERE user_id = $3 AND id = $4`,
			x.user, x.id, y.user, y.id)
		return "swap the times of " + x.id + " and " + y.id
	}
	for _, step := range [][3]string{{x.user, x.id, "aside"}, {y.user, y.id, x.id}, {x.user, "aside", y.id}} {
		a.exec("UPDATE audit_logs SET id = $1 WHERE user_id = $2 AND id = $3", step[2], step[0], step[1])
	}
	return "swap the ids of " + x.id + " and " + y.id
}

func (a *attacker) swapUsers() string {
	list := a.entries()
	x := pick(a.Rand, list)
	y := pick(a.Rand, list)
	for x.user == y.user {
		y = pick(a.Rand, list)
	}
	a.exec("UPDATE audit_logs SET user_id = $1 WHERE user_id = $2 AND id = $3", y.user, x.user, x.id)
	a.exec("UPDATE audit_logs SET user_id = $1 WHERE user_id = $2 AND id = $3", x.user, y.user, y.id)
	return "users of " + x.id + " and " + y.id + " swapped"
}

// reopen makes a final entry pending again, so that its outcome can be rewritten.
func (a *attacker) reopen() string {
	final := a.texts("SELECT id FROM audit_logs WHERE status <> 'pending' ORDER BY id")
	id := pick(a.Rand, final)
	a.exec("UPDATE audit_logs SET status = 'pending', error_message = NULL, updated_at = created_at WHERE id = $1", id)
	return "reopen " + id
}

func (a *attacker) cutLog() string {
	n := 1 + a.IntN(10)
	a.exec("DELETE FROM audit_logs WHERE id IN (SELECT id FROM audit_logs ORDER BY id DESC LIMIT $1)", n)
	return fmt.Sprintf("cut-log by %d", n)
}

func (a *attacker) editLink() string {
	seq := a.seq()
	column := pick(a.Rand, []string{"seq", "subject", "entry_id", "kind", "digest", "prev", "hash", "sealed_at"})
	var value any
	set := column + " = $2"
	switch column {
	case "seq":
		value = a.last() + 1 + a.IntN(3)
	case "subject", "entry_id":
		value = "other"
	case "kind":
		set = "kind = CASE WHEN kind = $2 THEN '" + pick(a.Rand, []string{"opened", "erased"}) + "' ELSE 'closed' END"
		value = "closed"
	case "sealed_at":
		value = a.time(time.Now().Add(time.Hour))
	default:
		sum := make([]byte, pick(a.Rand, []int{32, 32, 32, 31, 0}))
		for i := range sum {
			sum[i] = byte(a.IntN(256))
		}
		value = sum
	}
	a.exec("UPDATE audit_chain SET "+set+" WHERE seq = $1", seq, value)
	return fmt.Sprintf("edit-link %s of %d", column, seq)
}

func (a *attacker) deleteLink() string {
	seq := a.seq()
	a.exec("DELETE FROM audit_chain WHERE seq = $1", seq)
	return fmt.Sprintf("delete-link %d", seq)
}

// closeGap deletes a link and moves up what follows, with hashes made anew.
func (a *attacker) closeGap() string {
	seq := a.seq()
	a.exec("DELETE FROM audit_chain WHERE seq = $1", seq)
	a.relink()
	return fmt.Sprintf("close-gap at %d", seq)
}

// relink numbers the chain again. Links keep what they say and their digests.
func (a *attacker) relink() {
	links := a.links()
	a.exec("DELETE FROM audit_chain")
	for _, l := range links {
		a.append(l)
	}
}

func (a *attacker) links() (list []audit.Link) {
	found, err := a.db.Query("SELECT subject, entry_id, kind, digest, sealed_at FROM audit_chain ORDER BY seq")
	if err != nil {
		a.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var l audit.Link
		var digest []byte
		if err := found.Scan(&l.Subject, &l.EntryID, &l.Kind, &digest, &l.SealedAt); err != nil {
			a.Fatal(err)
		}
		copy(l.Digest[:], digest)
		list = append(list, l)
	}
	if err := found.Err(); err != nil {
		a.Fatal(err)
	}
	return list
}

func (a *attacker) swapLinks() string {
	x, y := a.seq(), a.seq()
	for x == y {
		y = a.seq()
	}
	for _, step := range [][2]int{{x, -1}, {y, x}, {-1, y}} {
		a.exec("UPDATE audit_chain SET seq = $1 WHERE seq = $2", step[1], step[0])
	}
	return fmt.Sprintf("swap-links %d and %d", x, y)
}

func (a *attacker) cutChain() string {
	from := a.seq()
	a.exec("DELETE FROM audit_chain WHERE seq >= $1", from)
	return fmt.Sprintf("cut-chain at %d", from)
}

// cutBoth removes the end of the chain and the entries that only it knew.
func (a *attacker) cutBoth() string {
	from := a.seq()
	a.exec("DELETE FROM audit_chain WHERE seq >= $1", from)
	a.exec(`DELETE FROM audit_logs WHERE NOT EXISTS (SELECT 1 FROM audit_chain AS l JOIN audit_keys AS k ON k.subject = l.subject
		WHERE k.user_id = audit_logs.user_id AND l.entry_id = audit_logs.id AND (l.kind = 'closed' OR audit_logs.status = 'pending'))`)
	return fmt.Sprintf("cut-both at %d", from)
}

func (a *attacker) cutStart() string {
	n := a.seq()
	a.exec("DELETE FROM audit_chain WHERE seq <= $1", n)
	return fmt.Sprintf("cut-start up to %d", n)
}

func (a *attacker) forgeLink() string {
	subject := pick(a.Rand, a.texts("SELECT DISTINCT subject FROM audit_chain ORDER BY subject"))
	a.append(audit.Link{Subject: subject, EntryID: "forged", Kind: pick(a.Rand, []audit.LinkKind{audit.Closed, audit.Erased}), SealedAt: time.Now()})
	return "forge-link"
}

func (a *attacker) user() string {
	return pick(a.Rand, a.texts("SELECT user_id FROM audit_keys ORDER BY user_id"))
}

func (a *attacker) deleteKey() string {
	user := a.user()
	a.exec("DELETE FROM audit_keys WHERE user_id = $1", user)
	return "delete-key of " + user
}

func (a *attacker) editSalt() string {
	user := a.user()
	a.exec("UPDATE audit_keys SET salt = $1 WHERE user_id = $2", audit.NewSubject().Salt, user)
	return "edit-salt of " + user
}

func (a *attacker) swapKeys() string {
	x, y := a.user(), a.user()
	for x == y {
		y = a.user()
	}
	for _, step := range [][2]string{{x, "aside"}, {y, x}, {"aside", y}} {
		a.exec("UPDATE audit_keys SET user_id = $1 WHERE user_id = $2", step[1], step[0])
	}
	return "swap-keys of " + x + " and " + y
}

// forgeErasure removes a user as an erasure would.
func (a *attacker) forgeErasure() string {
	user := a.user()
	subject := a.texts("SELECT subject FROM audit_keys WHERE user_id = $1", user)[0]
	if a.IntN(2) == 0 {
		a.append(audit.Link{Subject: subject, Kind: audit.Erased, SealedAt: time.Now()})
	}
	a.exec("DELETE FROM audit_keys WHERE user_id = $1", user)
	a.exec("DELETE FROM audit_logs WHERE user_id = $1", user)
	return "forge-erasure of " + user
}

// removeTraces deletes an entry and what the chain says of it, and closes the gap.
func (a *attacker) removeTraces() string {
	e := pick(a.Rand, a.entries())
	a.exec("DELETE FROM audit_logs WHERE user_id = $1 AND id = $2", e.user, e.id)
	a.exec("DELETE FROM audit_chain WHERE entry_id = $1", e.id)
	if a.IntN(2) == 0 {
		a.relink()
	}
	return "remove-traces of " + e.id
}

// rewrite edits an entry and makes its digest and all links anew.
func (a *attacker) rewrite() string {
	e := pick(a.Rand, a.entries())
	a.exec("UPDATE audit_logs SET action = 'harmless' WHERE user_id = $1 AND id = $2", e.user, e.id)
	links := a.links()
	a.exec("DELETE FROM audit_chain")
	var subject audit.Subject
	if err := a.db.QueryRow("SELECT subject, salt FROM audit_keys WHERE user_id = $1", e.user).Scan(&subject.ID, &subject.Salt); err != nil {
		a.Fatal(err)
	}
	for _, l := range links {
		if l.EntryID == e.id {
			l.Digest = a.keys.Digest(subject, l.Kind, audit.Line{UserID: e.user, ID: e.id, Action: "harmless"})
		}
		a.append(l)
	}
	return "rewrite " + e.id
}

// resurrect puts an entry under the subject of an erased user.
func (a *attacker) resurrect() string {
	gone := a.texts("SELECT subject FROM audit_chain WHERE kind = 'erased'")[0]
	id := pick(a.Rand, a.texts("SELECT entry_id FROM audit_chain WHERE subject = $1 AND kind = 'closed'", gone))
	a.exec("INSERT INTO audit_keys (user_id, subject, salt) VALUES ('victim', $1, $2)", gone, audit.NewSubject().Salt)
	a.exec(`INSERT INTO audit_logs (user_id, id, action, resource, status, created_at, updated_at)
		SELECT 'victim', $1, action, resource, 'success', created_at, updated_at FROM audit_logs LIMIT 1`, id)
	return "resurrect " + id
}

func (a *attacker) changeHead() string {
	h := &a.heads[a.IntN(len(a.heads))]
	switch a.IntN(5) {
	case 0:
		h.Seq++
	case 1:
		h.Hash[a.IntN(len(h.Hash))]++
	case 2:
		h.Time = h.Time.Add(-time.Hour)
	case 3:
		h.Signature = h.Signature[1:]
	case 4:
		last, err := a.store.LastLink(a.Context())
		if err != nil {
			a.Fatal(err)
		}
		*h = a.keys.Sign(last, time.Now())
	}
	return "head changed"
}

// changeRoot makes the chain's secret one that the attacker knows.
func (a *attacker) changeRoot() string {
	if a.IntN(2) == 0 {
		a.exec("DELETE FROM audit_root")
		return "root deleted"
	}
	wrapped, err := audit.WrapRoot("the attacker's", audit.NewRoot())
	if err != nil {
		a.Fatal(err)
	}
	a.exec("UPDATE audit_root SET wrapped = $1", wrapped)
	return "root replaced"
}
