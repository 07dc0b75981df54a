package proof

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"bulkhead"
)

// id is an id of the record, shortened: a million of them are kept, without a pointer.
type id [16]byte

func idOf(parts ...string) (k id) {
	var room [128]byte
	b := room[:0]
	for _, p := range parts {
		b = append(append(b, p...), 0)
	}
	sum := sha256.Sum256(b)
	copy(k[:], sum[:])
	return k
}

// basis is what a subscriber's certificate rests on, by the leaves: D11. The rows of validations come later, from the record.
type basis struct {
	seen     map[id]vouched // authorization → its first leaf that says valid
	accounts map[id]opened  // account → its first leaf
	rows     []validated
	of       map[id]int32 // account and name → newest of rows, from 1
}

// opened is the first leaf of an account.
type opened struct {
	seq  int64
	word bool // an operator made it for the house's own names: his word is given with each of its orders
}

// vouched is the leaf of a validation.
type vouched struct {
	seq      int64
	operator bool // by a person's word
}

// validated is a row of a validation: at and until in seconds since 1970.
type validated struct {
	at, until int64
	leaf      vouched // seq 0 when there is none
	wildcard  bool
	approval  bool  // its method is an operator's word
	next      int32 // of the same account and name
}

func newBasis() basis {
	return basis{seen: map[id]vouched{}, accounts: map[id]opened{}, of: map[id]int32{}}
}

func (b *basis) add(seq int64, e bulkhead.Evidence) {
	k := idOf(e.Ref)
	switch e.Kind {
	case bulkhead.EvAccount:
		if b.accounts[k].seq == 0 {
			b.accounts[k] = opened{seq, strings.HasPrefix(e.Actor, "operator:") && !strings.HasSuffix(e.Detail, bulkhead.ValidatesItself)}
		}
	case bulkhead.EvValidation:
		if _, ok := b.seen[k]; !ok && strings.Contains(e.Detail, ": valid: ") {
			b.seen[k] = vouched{seq, strings.HasPrefix(e.Actor, "operator:")}
		}
	}
}

// readValidations takes every validation of the record. They are younger than the book, so none that a certificate of the book rests on
// is missing.
func (p *prover) readValidations(ctx context.Context) error {
	b := &p.cfg.Book.basis
	for v, err := range p.cfg.Store.ValidationRange(ctx) {
		if err != nil {
			return err
		}
		k := idOf(v.AccountID, string(v.Identifier.Type), v.Identifier.Value)
		b.rows = append(b.rows, validated{at: v.At.Unix(), until: v.ReuseUntil.Unix(), leaf: b.seen[idOf(v.AuthorizationID)], wildcard: v.Wildcard,
			approval: v.Method == bulkhead.OperatorApproval, next: b.of[k]})
		b.of[k] = int32(len(b.rows))
	}
	return nil
}

// slack is by how much times that are kept to the second may be apart.
const slack = 2

// founded holds an order's certificate against what it rests on: the account, and for each name a validation by that account that
// counted when the certificate was announced and was in the log before it.
func (p *prover) founded(r bulkhead.SignedRow, e *entry) {
	b := &p.cfg.Book.basis
	missing := func(format string, args ...any) {
		leaf := e.intentSeq - 1
		p.find(Finding{Rule: RuleUnfounded, Negative: Registration, Issuer: r.Issuer, Serial: r.Serial.String(), SHA256: r.Fingerprint, Leaf: &leaf,
			Message: fmt.Sprintf("certificate %s was signed for order %s of account %s, and ", r.CertificateRef, r.OrderID, r.AccountID) + fmt.Sprintf(format, args...)})
	}
	account := b.accounts[idOf(r.AccountID)]
	if account.seq == 0 || account.seq > e.intentSeq {
		missing("no leaf before it speaks of that account")
		return
	}
	when := time.UnixMilli(e.at).Unix()
	for _, n := range r.Names {
		base := n.Base()
		found, why := false, "no validation of it by that account counted then"
		for i := b.of[idOf(r.AccountID, string(base.Type), base.Value)]; i > 0 && !found; i = b.rows[i-1].next {
			switch v := b.rows[i-1]; {
			case v.at > when+slack || v.until <= when-slack || n.Wildcard() && !v.wildcard:
			case v.leaf.seq == 0 || v.leaf.seq > e.intentSeq:
				why = "its validation has no leaf in the log before it"
			case v.approval && !v.leaf.operator && !account.word:
				why = "its validation is an operator's word, and no operator gave it by the log"
			default:
				found = true
			}
		}
		if !found {
			missing("of its name %s: %s", n.Value, why)
			return
		}
	}
}
