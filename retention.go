package bulkhead

import "time"

// Prune says what of the record is old enough to go.
type Prune struct {
	Before time.Time // certificates that ended, orders and authorisations that ran out before this time
	// CRLFrom: a revoked row goes only when the current CRL of its shard was made at this time or later, and so has left
	// it out.
	CRLFrom time.Time
}

// Pruned counts rows that went, or would.
type Pruned struct {
	Certificates   int64
	Orders         int64
	Authorizations int64
	Replies        int64
}

// Add adds counts.
func (p Pruned) Add(q Pruned) Pruned {
	return Pruned{p.Certificates + q.Certificates, p.Orders + q.Orders, p.Authorizations + q.Authorizations, p.Replies + q.Replies}
}

// Total is how many rows it is in all.
func (p Pruned) Total() int64 { return p.Certificates + p.Orders + p.Authorizations + p.Replies }

// NoticeChannel is a way on which people are told.
type NoticeChannel string

// Channels.
const (
	NoticeMail    NoticeChannel = "mail"
	NoticeWebhook NoticeChannel = "webhook"
)

// Expiring is a certificate that ends soon, with the contacts of its account.
type Expiring struct {
	Certificate
	Contacts []string // URIs (RFC 8555 section 7.1.2)
}

// ExpiryNotice is that somebody was told that a certificate expires.
type ExpiryNotice struct {
	CertificateRef
	Channel   NoticeChannel
	Recipient string        // "" for everybody on the channel
	Threshold time.Duration // how long before the end; stands for every longer one too
	At        time.Time
}

// ExpiringFilter selects certificates that nobody was told of: leaves that are issued, not revoked and not replaced, and
// live at least three times as long as the threshold (whoever renews at two thirds of the life was not late before).
type ExpiringFilter struct {
	Channel   NoticeChannel
	Threshold time.Duration
	From, To  time.Time // notAfter is after From and not after To
	After     int64     // IntentSeq of the last row of the page before
	Limit     int       // 0 means 100
}
