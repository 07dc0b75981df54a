package main

import (
	"slices"
	"testing"

	"bulkhead"
	"bulkhead/console"
)

// TestToLookAt: a command looks at those whose next step is seen from outside, at no more than it was told, and says where to go on
// so that the next one begins with the first that was left.
func TestToLookAt(t *testing.T) {
	states := []bulkhead.ItemState{bulkhead.ItemRevoked, bulkhead.ItemNotified, bulkhead.ItemPlanned, bulkhead.ItemReissued, bulkhead.ItemHeld, bulkhead.ItemReopened, bulkhead.ItemExpired, bulkhead.ItemNotified, bulkhead.ItemRevoked}
	asked := 0
	page := func(after int64) (v console.CampaignItemList, err error) {
		asked++
		for n := after; n < int64(len(states)) && len(v.Items) < 2; n++ {
			serial, err := bulkhead.SerialFromBytes([]byte{1, byte(n + 1)})
			if err != nil {
				return v, err
			}
			v.Items = append(v.Items, console.CampaignItemView{Position: n + 1, Issuer: "a", Serial: serial, State: states[n]})
		}
		if len(v.Items) == 2 {
			v.Next = v.Items[1].Position
		}
		return v, nil
	}
	for _, limit := range []int{1, 2, 3, 4, 5} {
		var got []byte
		var after int64
		asked = 0
		for commands := 1; ; commands++ {
			some, next, err := toLookAt(after, limit, page)
			if err != nil || len(some) > limit {
				t.Fatalf("%d of %d: %v", len(some), limit, err)
			}
			for _, x := range some {
				b := x.Serial.Bytes()
				got = append(got, b[len(b)-1])
			}
			if next == 0 {
				if want := (4 + limit - 1) / limit; commands != want {
					t.Errorf("limit %d took %d commands, want %d", limit, commands, want)
				}
				break
			}
			if next <= after || commands > 10 {
				t.Fatalf("limit %d: from %d it goes on at %d", limit, after, next)
			}
			after = next
		}
		if !slices.Equal(got, []byte{2, 4, 6, 8}) {
			t.Errorf("limit %d looked at %v", limit, got)
		}
	}
}
