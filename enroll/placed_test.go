package enroll_test

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPlaced: ids of orders, their authorisations and validations follow the time, so that what is written at one time stands together in each
// of their indexes; none of them can be guessed from another.
func TestPlaced(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	seen := map[string]bool{}
	var orders, authorizations, validations []string
	for range 6 {
		h.shift.Add(int64(7 * time.Millisecond))
		o := h.ready(acct, "www"+string(rune('a'+len(orders)))+".site.test")
		rows, _, err := h.store.OrderEvidence(t.Context(), o.ID)
		ok(t, err)
		orders, authorizations, validations = append(orders, o.ID), append(authorizations, o.Authorizations[0]), append(validations, rows[0].ID)
	}
	for _, list := range [][]string{orders, authorizations, validations} {
		if !slices.IsSorted(list) {
			t.Errorf("not in the order of their time: %q", list)
		}
		for _, id := range list {
			if len(id) != 26 || strings.Trim(id, "0123456789abcdefghijklmnopqrstuv") != "" || seen[id[10:]] { // beyond the time
				t.Errorf("%q is no id", id)
			}
			seen[id[10:]] = true
		}
	}
}
