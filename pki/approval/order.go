package approval

import (
	"crypto/ed25519"
	"slices"
	"strings"

	"bulkhead"
)

// BindPerson is the action that binds a key to a person at a registration partner, whose word for an order counts by it.
const BindPerson = "partner.person"

// PersonPayload is the payload of BindPerson.
type PersonPayload struct {
	Partner   string `json:"partner"`
	Name      string `json:"name"`
	PublicKey []byte `json:"public_key"` // Ed25519, 32 bytes
}

// OrderStatement is what a person at a partner signs to approve an order: who, which order, and every name in it.
func OrderStatement(partner, person, order string, names []bulkhead.Identifier) []byte {
	var lines []string
	for _, n := range names {
		lines = append(lines, string(n.Type)+":"+n.Value)
	}
	slices.Sort(lines)
	return []byte("bulkhead order approval v1\n" + partner + "/" + person + "\n" + order + "\n" + strings.Join(lines, "\n") + "\n")
}

// SignedOrder reports whether the key of the payload signed the approval of an order with exactly these names.
func (p PersonPayload) SignedOrder(order string, names []bulkhead.Identifier, signature []byte) bool {
	return len(p.PublicKey) == ed25519.PublicKeySize && ed25519.Verify(p.PublicKey, OrderStatement(p.Partner, p.Name, order, names), signature)
}
