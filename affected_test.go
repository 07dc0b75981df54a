package bulkhead

import (
	"encoding/binary"
	"testing"
	"time"
	"unsafe"
)

func affectedAt(t testing.TB, n int) AffectedStatus {
	t.Helper()
	serial, err := SerialFromBytes(binary.BigEndian.AppendUint32([]byte{1}, uint32(2*n)))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_800_000_000+int64(n), 0).UTC()
	ref := CertificateRef{Issuer: "a", Serial: serial}
	a := AffectedStatus{Status: Status{CertificateRef: ref, State: Issued, NotAfter: at, Shard: n % 3, Seq: int64(n)}, Item: ChangeItem{CertificateRef: ref, Reason: Superseded, RevokedAt: at}}
	if n%2 == 1 {
		a.State, a.Reason, a.RevokedAt = Revoked, KeyCompromise, at
		a.Item.WasReason, a.Item.WasRevokedAt = Superseded, at
	}
	return a
}

// TestAffectedList: what goes in comes out, over the bounds of blocks, and nothing of it is a pointer.
func TestAffectedList(t *testing.T) {
	if n := unsafe.Sizeof(affectedRow{}); n != 72 {
		t.Errorf("a row takes %d octets", n)
	}
	l := AffectedList{Issuer: "a"}
	const n = 2*affectedBlock + 3
	for i := range n {
		l.Append(affectedAt(t, i))
	}
	i := 0
	for a := range l.All() {
		if a != affectedAt(t, i) {
			t.Fatalf("row %d is %+v", i, a)
		}
		i++
	}
	if i != n || l.Len() != n {
		t.Fatalf("%d rows of %d", i, l.Len())
	}
	walk, back := l.Cursor(), l.Cursor()
	for i := range n {
		if a, ok := walk.Find(l.Serial(i)); !ok || a != affectedAt(t, i) {
			t.Fatalf("row %d is not found", i)
		}
		if a, ok := back.Find(l.Serial(n - 1 - i)); !ok || a != affectedAt(t, n-1-i) {
			t.Fatalf("row %d is not found from the end", i)
		}
	}
	between, err := SerialFromBytes([]byte{1, 0, 0, 0, 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := l.Find(between); ok {
		t.Error("a serial between two is found")
	}
	if _, ok := (&AffectedList{}).Find(between); ok {
		t.Error("an empty list finds something")
	}
}
