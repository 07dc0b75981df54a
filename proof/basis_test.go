package proof

import (
	"context"
	"iter"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// one is a record with one certificate, and what was validated.
type one struct {
	empty
	row         bulkhead.SignedRow
	validations []bulkhead.Validation
}

func (o one) SignedRange(_ context.Context, _ []bulkhead.AuthorityID, after, through int64) iter.Seq2[*bulkhead.SignedRow, error] {
	return func(yield func(*bulkhead.SignedRow, error) bool) {
		if row := o.row; row.IntentSeq > after && (through == 0 || row.IntentSeq <= through) {
			yield(&row, nil)
		}
	}
}

func (o one) ValidationRange(context.Context) iter.Seq2[*bulkhead.Validation, error] {
	return func(yield func(*bulkhead.Validation, error) bool) {
		for i := range o.validations {
			if !yield(&o.validations[i], nil) {
				return
			}
		}
	}
}

// TestBasis is D11 in a proof: each way in which a certificate may lack what it rests on is that finding, and none without.
func TestBasis(t *testing.T) {
	at, der := time.Unix(1e9, 0), []byte("certificate")
	serial, err := bulkhead.ParseSerial("0a")
	if err != nil {
		t.Fatal(err)
	}
	key, tbs := bulkhead.Digest([]byte("key")), bulkhead.Digest([]byte("tbs"))
	type world struct {
		one
		leaves []bulkhead.Evidence
	}
	make := func() *world {
		w := &world{}
		ref := bulkhead.CertificateRef{Issuer: "ca", Serial: serial}
		w.leaves = []bulkhead.Evidence{
			{Kind: bulkhead.EvAccount, Ref: "acct", Actor: "account:acct", Detail: "made"},
			{Kind: bulkhead.EvValidation, Ref: "authz", Actor: "account:acct", Detail: "dns a.test by http-01: valid: seen"},
			{Kind: bulkhead.EvCAA, Ref: "order", Actor: "account:acct"},
			{Kind: bulkhead.EvCertificateIntent, Ref: "order", Authority: "ca", Serial: serial, KeyHash: key, Signer: key, Digest: tbs},
			{Kind: bulkhead.EvCertificateOutcome, Ref: "order", Authority: "ca", Serial: serial, KeyHash: key, Signer: key, Digest: bulkhead.Digest(der), Link: tbs},
		}
		w.row = bulkhead.SignedRow{CertificateRef: ref, Kind: bulkhead.LeafCertificate, State: bulkhead.Issued, KeyHash: key, IntentDigest: tbs, Fingerprint: bulkhead.Digest(der),
			OrderID: "order", AccountID: "acct", Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "a.test"}}, IntentSeq: 4, OutcomeSeq: 5, Sum: bulkhead.Digest(der)}
		w.validations = []bulkhead.Validation{{AuthorizationID: "authz", AccountID: "acct", Identifier: w.row.Names[0], Method: bulkhead.HTTP01, At: at.Add(-time.Hour), ReuseUntil: at.Add(time.Hour)}}
		return w
	}
	for name, c := range map[string]struct {
		change func(w *world)
		found  string
	}{
		"nothing wrong": {func(*world) {}, ""},
		"another name":  {func(w *world) { w.row.Names[0].Value = "b.test" }, RuleUnfounded},
		"a second name": {func(w *world) {
			w.row.Names = append(w.row.Names, bulkhead.Identifier{Type: bulkhead.DNS, Value: "b.test"})
		}, RuleUnfounded},
		"no validation":      {func(w *world) { w.validations = nil }, RuleUnfounded},
		"of another account": {func(w *world) { w.validations[0].AccountID = "other" }, RuleUnfounded},
		"too old":            {func(w *world) { w.validations[0].ReuseUntil = at.Add(-time.Minute) }, RuleUnfounded},
		"later":              {func(w *world) { w.validations[0].At = at.Add(time.Minute) }, RuleUnfounded},
		"renewed since": {func(w *world) {
			v := w.validations[0]
			v.At, v.ReuseUntil = at.Add(time.Hour), at.Add(2*time.Hour)
			w.validations = append(w.validations, v)
		}, ""},
		"a row without leaf":  {func(w *world) { w.leaves[1].Ref = "other" }, RuleUnfounded},
		"a leaf of a failure": {func(w *world) { w.leaves[1].Detail = "dns a.test by http-01: refused: valid" }, RuleUnfounded},
		"leaf after the intent": {func(w *world) {
			l := w.leaves
			w.leaves = []bulkhead.Evidence{l[0], l[2], l[3], l[1], l[4]}
			w.row.IntentSeq = 3
		}, RuleUnfounded},
		"look beside the intent": {func(w *world) {
			l := w.leaves
			w.leaves = []bulkhead.Evidence{l[0], l[1], l[3], l[2], l[4]}
			w.row.IntentSeq = 3
		}, ""},
		"look after the outcome": {func(w *world) {
			l := w.leaves
			w.leaves = []bulkhead.Evidence{l[0], l[1], l[3], l[4], l[2]}
			w.row.IntentSeq, w.row.OutcomeSeq = 3, 4
		}, RuleUnchecked},
		"no look":            {func(w *world) { w.leaves[2].Ref = "other" }, RuleUnchecked},
		"wildcard by a host": {func(w *world) { w.row.Names = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "*.a.test"}} }, RuleUnfounded},
		"wildcard": {func(w *world) {
			w.row.Names = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "*.a.test"}}
			w.validations[0].Wildcard = true
		}, ""},
		"no account":              {func(w *world) { w.leaves[0].Ref = "other" }, RuleUnfounded},
		"a word that nobody gave": {func(w *world) { w.validations[0].Method = bulkhead.OperatorApproval }, RuleUnfounded},
		"an operator's word": {func(w *world) {
			w.validations[0].Method = bulkhead.OperatorApproval
			w.leaves[1].Actor = "operator:ann"
		}, ""},
		"the standing word of who made the account": {func(w *world) {
			w.validations[0].Method = bulkhead.OperatorApproval
			w.leaves[0].Actor, w.leaves[0].Detail = "operator:ann", "created for the API, for the house's own names"
		}, ""},
		"an account for names that it validates": {func(w *world) {
			w.validations[0].Method = bulkhead.OperatorApproval
			w.leaves[0].Actor, w.leaves[0].Detail = "operator:ann", "created for the API, for names that it validates"
		}, RuleUnfounded},
		"of no order": {func(w *world) { w.row.OrderID, w.validations = "", nil }, ""},
	} {
		w := make()
		c.change(w)
		book := NewBook(int64(len(w.leaves)), []bulkhead.SignatureCounter{{Key: key, Announced: 1, Made: 1, Since: 1}})
		for i, e := range w.leaves {
			e.At = at
			leaf, err := tlog.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if e, err = tlog.Parse(leaf); err != nil {
				t.Fatal(err)
			}
			book.Add(int64(i+1), e)
		}
		r, err := Prove(t.Context(), Config{Store: w.one, Book: book, Authorities: []bulkhead.Authority{{ID: "ca", Kind: bulkhead.IssuingAuthority}}, Issuers: []bulkhead.AuthorityID{"ca"}, Now: at}, Outside{})
		if err != nil {
			t.Fatal(err)
		}
		if (c.found == "") != r.OK || c.found != "" && (len(r.Findings) != 1 || r.Findings[0].Rule != c.found || r.Findings[0].Negative != Registration) {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
}
