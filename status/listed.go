package status

import (
	"slices"
	"sort"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
)

// listed is what a CRL lists, in serial order, 32 octets an entry: the CRLs of a change of a million are held beside those
// before them.
type listed []listedEntry

type listedEntry struct {
	serial bulkhead.Serial
	reason uint8
	at     int64 // seconds since 1970
}

func compareListed(a, b listedEntry) int { return a.serial.Compare(b.serial) }

// listedOf parses a CRL. A serial that stands twice is listed once.
func listedOf(der []byte) (*crl.Parsed, listed, error) {
	var l listed
	parsed, err := crl.Parse(der, func(e crl.Entry) error {
		l = append(l, listedEntry{e.Serial, uint8(e.Reason), e.RevokedAt.Unix()})
		return nil
	})
	if !slices.IsSortedFunc(l, compareListed) {
		slices.SortStableFunc(l, compareListed)
	}
	return parsed, slices.CompactFunc(l, func(a, b listedEntry) bool { return a.serial == b.serial }), err
}

func (e listedEntry) entry() crl.Entry {
	return crl.Entry{Serial: e.serial, Reason: bulkhead.Reason(e.reason), RevokedAt: time.Unix(e.at, 0).UTC()}
}

// find returns the entry of a serial.
func (l listed) find(serial bulkhead.Serial) (crl.Entry, bool) {
	i := sort.Search(len(l), func(i int) bool { return l[i].serial.Compare(serial) >= 0 })
	if i == len(l) || l[i].serial != serial {
		return crl.Entry{Serial: serial}, false
	}
	return l[i].entry(), true
}

// finder is find for serials that come in ascending order.
func (l listed) finder() func(serial bulkhead.Serial) (crl.Entry, bool) {
	return func(serial bulkhead.Serial) (crl.Entry, bool) {
		for n := 0; len(l) > 0 && l[0].serial.Compare(serial) < 0; n++ {
			if n == 8 { // a long way off
				l = l[sort.Search(len(l), func(i int) bool { return l[i].serial.Compare(serial) >= 0 }):]
				break
			}
			l = l[1:]
		}
		if len(l) == 0 || l[0].serial != serial {
			return crl.Entry{Serial: serial}, false
		}
		return l[0].entry(), true
	}
}

// moved are the serials that two CRLs do not list alike, in order.
func moved(before, now listed) []bulkhead.Serial {
	var out []bulkhead.Serial
	for len(before) > 0 || len(now) > 0 {
		n := 0
		switch {
		case len(before) == 0:
			n = 1
		case len(now) == 0:
			n = -1
		default:
			n = before[0].serial.Compare(now[0].serial)
		}
		switch {
		case n > 0:
			out, now = append(out, now[0].serial), now[1:]
		case n < 0:
			out, before = append(out, before[0].serial), before[1:]
		default:
			if before[0] != now[0] {
				out = append(out, now[0].serial)
			}
			before, now = before[1:], now[1:]
		}
	}
	return out
}
