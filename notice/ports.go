// Package notice tells people that a certificate ends soon: by mail to the contacts of its account, and to one webhook.
//
// Invariant: who was told of which certificate, and how long before its end, is durable after the message was accepted
// and before the next one: a restart or a failure repeats at most the message that was under way, and loses none. One
// message goes to a recipient in a run, however many certificates it is about.
//
// Refuses: to tell anything but names, serials and dates; to follow a redirect; addresses that are not plain addresses.
package notice

import (
	"context"
	"time"

	"bulkhead"
)

// Store is the durable record as notices need it.
type Store interface {
	// Expiring returns certificates of which nobody was told for the threshold or a shorter one, in the order of IntentSeq.
	Expiring(ctx context.Context, f bulkhead.ExpiringFilter) ([]bulkhead.Expiring, error)
	// Told returns who was told of a certificate for the threshold or a shorter one.
	Told(ctx context.Context, channel bulkhead.NoticeChannel, ref bulkhead.CertificateRef, threshold time.Duration) ([]string, error)
	PutNotices(ctx context.Context, notices []bulkhead.ExpiryNotice) error
}

// Sender carries messages.
type Sender interface {
	Channel() bulkhead.NoticeChannel
	// Recipients are whom to tell of a certificate; none means that it is nobody's concern on this channel.
	Recipients(e bulkhead.Expiring) []string
	// Send returns when the message was accepted by the other side, or an error.
	Send(ctx context.Context, to string, m Message) error
}

// Message is about certificates, soonest end first.
type Message struct {
	House        string // name of the house
	Certificates []Item
}

// Item is what is told of one certificate.
type Item struct {
	Issuer   string    `json:"issuer"`
	Serial   string    `json:"serial"`
	Names    []string  `json:"names"`
	NotAfter time.Time `json:"not_after"`
	Product  string    `json:"product,omitempty"` // tls, smime, code-signing, ca
	// Replace is set in letters of a campaign.
	Replace *Replacement `json:"replace,omitempty"`
}

// Replacement is how a certificate of a campaign is to be replaced.
type Replacement struct {
	Order   string            `json:"order,omitempty"`
	Seen    map[string]string `json:"seen,omitempty"` // the steps by language, as far as looks at its names tell
	Code    string            `json:"-"`              // of the ticket, for its holder alone: the webhook is the house's own
	From    time.Time         `json:"from,omitzero"`  // zero: at once
	To      time.Time         `json:"to,omitzero"`
	Revoked time.Time         `json:"revoked,omitzero"` // when the old one is, at the latest
}
