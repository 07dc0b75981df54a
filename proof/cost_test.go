package proof

import (
	"encoding/binary"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// TestCost holds what a leaf costs in memory that is thrown away: its two texts, and the growth of what is remembered.
func TestCost(t *testing.T) {
	const certificates = 4000
	key, at := bulkhead.Digest([]byte("key")), time.Unix(1e9, 0)
	var leaves [][]byte
	for i := range certificates {
		serial, err := bulkhead.SerialFromBytes(binary.BigEndian.AppendUint64([]byte{1}, uint64(i)))
		if err != nil {
			t.Fatal(err)
		}
		e := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: at, Actor: "role:signer", Authority: "ca", Serial: serial, Ref: "b42gwxyx64qt7a44gha6tqyzra", KeyHash: key, Signer: key, Digest: key, Detail: "tls-server"}
		caa := bulkhead.Evidence{Kind: bulkhead.EvCAA, At: at, Actor: "account:b42gwxyx64qt7a44gha6tqyzra", Ref: serial.String() + "-an-order", Detail: "permitted: a.test"}
		done := e
		done.Kind, done.Link, done.Detail = bulkhead.EvCertificateOutcome, key, ""
		for _, e := range []bulkhead.Evidence{caa, e, done} {
			leaf, err := tlog.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leaf)
		}
	}
	each := testing.AllocsPerRun(3, func() {
		book, ledger, parser := NewBook(int64(len(leaves)), nil), tlog.NewLedger(), tlog.Parser{}
		for i, leaf := range leaves {
			e, err := parser.Parse(leaf)
			if err != nil {
				t.Fatal(err)
			}
			ledger.Add(int64(i), e)
			book.Add(int64(i+1), e)
		}
	}) / float64(len(leaves))
	if each > 2 {
		t.Errorf("%.2f allocations a leaf, at most 2 are wanted", each)
	}
}
