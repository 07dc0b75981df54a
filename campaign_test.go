package bulkhead

import "testing"

// TestItemMoves holds every pair of states, with every set of needs, against what a campaign may do (S3-1): the steps in their order and
// none passed over that is asked for; the old certificate is revoked after the last step that is, by the deadline clock before it,
// and while a court has frozen it by nothing.
func TestItemMoves(t *testing.T) {
	line := []ItemState{ItemPlanned, ItemNotified, ItemPatched, ItemRekeyed, ItemReissued, ItemInstalled, ItemRevoked}
	for bits := range 8 {
		n := CampaignNeeds{Patch: bits&1 != 0, NewKey: bits&2 != 0, Installed: bits&4 != 0}
		asked := map[ItemState]bool{ItemPlanned: true, ItemNotified: true, ItemPatched: n.Patch, ItemRekeyed: n.NewKey, ItemReissued: true, ItemInstalled: n.Installed, ItemRevoked: true}
		at := map[ItemState]int{}
		for i, s := range line {
			at[s] = i
		}
		want := func(from, to ItemState, forced bool) bool {
			i, along := at[from]
			k, onto := at[to]
			switch {
			case from.Done():
				return false
			case to == ItemExpired:
				return true
			case to == ItemRevoked && forced:
				return from != ItemHeld
			case from == ItemHeld:
				return to == ItemPlanned
			case to == ItemHeld:
				return true
			case from == ItemReopened:
				return to == ItemNotified
			case to == ItemReopened:
				return from != ItemPlanned
			case !along || !onto || k <= i:
				return false
			}
			for _, between := range line[i+1 : k] {
				if asked[between] {
					return false
				}
			}
			return true
		}
		for _, from := range ItemStates {
			for _, to := range ItemStates {
				for _, forced := range []bool{false, true} {
					if got := n.CanMove(from, to, forced); got != want(from, to, forced) {
						t.Errorf("%+v: from %s to %s, forced %v: %v", n, from, to, forced, got)
					}
				}
			}
		}
	}
	all := CampaignNeeds{Patch: true, NewKey: true, Installed: true}
	for _, from := range line[:5] {
		if all.CanMove(from, ItemRevoked, false) || !all.CanMove(from, ItemRevoked, true) {
			t.Errorf("the old certificate of an item that is %s", from)
		}
	}
}
