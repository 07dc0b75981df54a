package bulkhead

import (
	"iter"
	"sort"
	"time"
)

// AffectedList is the certificates of one change under one issuer, in serial order: what a change of a million holds in
// memory while it is staged. It keeps 72 octets for each and nothing that the garbage collector has to follow. The zero
// value is empty, once it has its Issuer.
type AffectedList struct {
	Issuer AuthorityID
	blocks [][]affectedRow
	n      int
}

// affectedBlock is how many rows lie together: the list grows without moving what it has.
const affectedBlock = 4096

// affectedRow has times as seconds since 1970, 0 for none: what the record keeps.
type affectedRow struct {
	serial                                  [MaxSerialOctets]byte
	state                                   uint8
	reason, itemReason, wasReason           uint8
	shard                                   int32
	revokedAt, notAfter, seq, itemAt, wasAt int64
}

// affectedStates are the states by the number that stands for them in a row.
var affectedStates = [...]CertificateState{Reserved, Issued, Revoked, Abandoned}

func affectedState(s CertificateState) uint8 {
	for i, x := range affectedStates {
		if x == s {
			return uint8(i)
		}
	}
	return 0 // in no state that answers are given for
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func ofSeconds(v int64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(v, 0).UTC()
}

// Append adds a certificate, whose serial is above all before it. Times are kept in whole seconds.
func (l *AffectedList) Append(a AffectedStatus) {
	if l.n%affectedBlock == 0 {
		l.blocks = append(l.blocks, make([]affectedRow, 0, affectedBlock))
	}
	last := &l.blocks[len(l.blocks)-1]
	*last = append(*last, affectedRow{serial: a.Serial.b, state: affectedState(a.State), reason: uint8(a.Reason), itemReason: uint8(a.Item.Reason), wasReason: uint8(a.Item.WasReason),
		shard: int32(a.Shard), revokedAt: seconds(a.RevokedAt), notAfter: seconds(a.NotAfter), seq: a.Seq, itemAt: seconds(a.Item.RevokedAt), wasAt: seconds(a.Item.WasRevokedAt)})
	l.n++
}

// Len is the number of certificates.
func (l *AffectedList) Len() int { return l.n }

// At is certificate i.
func (l *AffectedList) At(i int) AffectedStatus {
	r := &l.blocks[i/affectedBlock][i%affectedBlock]
	ref := CertificateRef{Issuer: l.Issuer, Serial: Serial{r.serial}}
	return AffectedStatus{
		Status: Status{CertificateRef: ref, State: affectedStates[r.state], RevokedAt: ofSeconds(r.revokedAt), Reason: Reason(r.reason), NotAfter: ofSeconds(r.notAfter), Shard: int(r.shard), Seq: r.seq},
		Item:   ChangeItem{CertificateRef: ref, Reason: Reason(r.itemReason), RevokedAt: ofSeconds(r.itemAt), WasReason: Reason(r.wasReason), WasRevokedAt: ofSeconds(r.wasAt)},
	}
}

// Serial is the serial of certificate i.
func (l *AffectedList) Serial(i int) Serial {
	return Serial{l.blocks[i/affectedBlock][i%affectedBlock].serial}
}

// Find returns the certificate of a serial, when the list has it.
func (l *AffectedList) Find(serial Serial) (AffectedStatus, bool) {
	return l.Cursor().Find(serial)
}

// All goes through the certificates in order.
func (l *AffectedList) All() iter.Seq[AffectedStatus] {
	return func(yield func(AffectedStatus) bool) {
		for i := range l.n {
			if !yield(l.At(i)) {
				return
			}
		}
	}
}

// AffectedCursor finds serials that come in ascending order, which a walk through a list finds at once; any other order
// costs a search each. The zero value finds nothing.
type AffectedCursor struct {
	list *AffectedList
	next int
}

// Cursor begins a walk.
func (l *AffectedList) Cursor() *AffectedCursor { return &AffectedCursor{list: l} }

// Find returns the certificate of a serial, when the list has it.
func (c *AffectedCursor) Find(serial Serial) (AffectedStatus, bool) {
	l := c.list
	if l == nil || l.n == 0 {
		return AffectedStatus{}, false
	}
	if c.next == l.n || l.Serial(c.next) != serial {
		c.next = sort.Search(l.n, func(i int) bool { return l.Serial(i).Compare(serial) >= 0 })
		if c.next == l.n || l.Serial(c.next) != serial {
			return AffectedStatus{}, false
		}
	}
	c.next++
	return l.At(c.next - 1), true
}

// Index is where what Find found last stands.
func (c *AffectedCursor) Index() int { return c.next - 1 }
