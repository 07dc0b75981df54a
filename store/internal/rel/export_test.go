package rel

import (
	"maps"
	"slices"
	"strings"
)

// SetSearchWindow makes one search go back n evidence numbers.
func SetSearchWindow(s *Store, n int64) { s.window = n }

// SetBulkItems has changes of so many items read page by page.
func SetBulkItems(s *Store, n int64) { s.bulkItems = n }

// PreviewQueries are the statements of a preview that must not read the record through, with what the plan must say.
var PreviewQueries = map[string]string{
	firstProfile: "USING COVERING INDEX certificates_product (issuer=?)", nextProfile: "USING COVERING INDEX certificates_product (issuer=? AND profile>?)",
	samplesOf: "USING INDEX certificates_product (issuer=? AND profile=? AND not_after>?)", countProducts: "USING COVERING INDEX certificates_product (issuer=?)",
	authorityCertificates: "USING INDEX certificates_ca",
	revokeAlike:           "SEARCH certificates USING INTEGER PRIMARY KEY (rowid=?)",
	revokeRun:             "SEARCH certificates USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
	rowsOfItems:           "USING COVERING INDEX certificates_ref (issuer=? AND serial=?)", neighbours: "USING COVERING INDEX certificates_issuer (issuer=? AND intent_seq>? AND intent_seq<?)", nextIssuer: "USING PRIMARY KEY (change_seq=? AND issuer>?)",
}

// CampaignQueries are the statements of a campaign's work that read what they name and no more, whatever the campaign has.
var CampaignQueries = map[string]string{
	(&Dialect{IndexedBy: true}).moveItem("($13" + strings.Repeat(", $13", 511) + ")"): "USING INDEX campaign_items_intent (campaign_seq=? AND intent_seq=?)", campaignWork: "SEARCH i USING PRIMARY KEY (campaign_seq=? AND ordinal>? AND ordinal<?)",
	membershipOf: "SEARCH i USING INDEX campaign_items_intent (campaign_seq=? AND intent_seq=?)", windowOf: "SEARCH i USING INDEX campaign_items_intent (campaign_seq=? AND intent_seq=?)",
	knownKey: "SEARCH k USING PRIMARY KEY (key_hash=? AND campaign_seq=?)", campaignsOfKey: "SEARCH k USING PRIMARY KEY (key_hash=?)", changeOutside: "SEARCH y USING",
	moveStretch: "SEARCH campaign_items USING PRIMARY KEY (campaign_seq=? AND ordinal>? AND ordinal<?)", itemsToTell: "SEARCH i USING PRIMARY KEY (campaign_seq=? AND ordinal>? AND ordinal<?)",
	nextJob: "SEARCH x USING INDEX campaign_jobs_due (campaign_seq=? AND generation=? AND due_at<?)",
}

// OrderQueries are statements of orders that find what they look for by an index.
var OrderQueries = map[string]string{ordersInState: "SEARCH orders USING INDEX orders_state (state=?)", moveOrder: "SEARCH orders USING INDEX sqlite_autoindex_orders_1 (id=?)"}

// ListQueries are the statements from which a list of a shard is made: the one reads an index alone, the other what moved and nothing else.
var ListQueries = map[string]string{revokedOfShard: "SEARCH certificates USING COVERING INDEX certificates_revoked (issuer=? AND shard=?)",
	movedSince: "SEARCH x USING INDEX changes_epoch (epoch>?); SEARCH i USING PRIMARY KEY (change_seq=? AND issuer=?); SEARCH c USING INDEX certificates_ref (issuer=? AND serial=?)"}

// WritesItems are the statements that write many items of a campaign.
var WritesItems = []string{moveStretch, putItem.each, putItem.group}

// WritesCertificates are the statements that write certificates one by one: those for many differ in their number of rows.
var WritesCertificates = []string{insertCertificate.each, insertForeign.each, completeCertificate.each, revokeImported.each}

// Waiting is how many writes wait for a transaction.
func Waiting(s *Store) int {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	return len(s.group.queue)
}

// WaitingKeyed is how many writes by key wait for a transaction.
func WaitingKeyed(s *Store) int {
	s.brisk.mu.Lock()
	defer s.brisk.mu.Unlock()
	return len(s.brisk.queue)
}

// Texts are the statements that a store has prepared.
func Texts(s *Store) (out []string) {
	for _, p := range s.pools() {
		p.mu.RLock()
		for text := range p.stmts {
			out = append(out, text)
		}
		p.mu.RUnlock()
	}
	if s.group.lane != nil {
		out = slices.AppendSeq(out, maps.Keys(s.group.lane.stmts))
	}
	return out
}

// Remembering is how many answers a store remembers.
func Remembering(s *Store) int {
	s.memo.mu.RLock()
	defer s.memo.mu.RUnlock()
	return len(s.memo.kept)
}

// Writes names the first remembered table of those that are remembered with the one that a statement writes.
func Writes(text string) string {
	of := new(memo).runs(text, 0).of
	for _, name := range slices.Sorted(maps.Keys(tablesOf)) {
		if of == tablesOf[name] {
			return name
		}
	}
	return ""
}

// Recent is how many rows a store remembers, and their octets.
func Recent(s *Store) (rows, octets int) {
	r := &s.memo.recent
	s.memo.mu.RLock()
	defer s.memo.mu.RUnlock()
	for _, all := range []map[rowKey]row{r.young, r.old} {
		for _, v := range all {
			rows, octets = rows+1, octets+v.octets()
		}
	}
	return rows, octets
}

// BetweenCommitAndLook has f run after each commit, before the store looks whether it was alone.
func BetweenCommitAndLook(s *Store, f func()) { s.memo.sole = meddled{s.memo.sole, f} }

type meddled struct {
	Sole
	before func()
}

func (m meddled) Release(failed bool, foreign func()) {
	m.before()
	m.Sole.Release(failed, foreign)
}
