package proof

import (
	"fmt"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// Answers of a negative.
const (
	NotFound = "not found"
	Found    = "found"
	Unproved = "software cannot prove it; nothing was found in what was examined"
)

// negatives gives the six answers.
func (p *prover) negatives() []Negative {
	out := []Negative{p.rogue(), p.customerData(), p.rootKey(), p.infrastructure(), p.issuingKey(), p.registration()}
	for i := range out {
		n := &out[i]
		for _, f := range p.report.Findings {
			if f.Negative == n.ID {
				n.Findings++
			}
		}
		if n.Findings > 0 {
			n.Answer = Found
		}
		n.Evidence = append([]string{fmt.Sprintf("checkpoint of %s over %d leaves, root %s", p.out.Log.Origin, p.out.Log.Size, p.out.Log.Root)}, n.Evidence...)
	}
	return out
}

// kinds are the numbers of some kinds of leaves, and where the newest of each stands.
func (p *prover) kinds(kinds ...bulkhead.EvidenceKind) (numbers []Number, where []string) {
	for _, k := range kinds {
		n, last := int64(0), int64(0)
		if of := p.cfg.Book.kinds; int(k) < len(of) {
			n, last = of[k].n, of[k].last
		}
		numbers = append(numbers, Number{"leaves of kind " + tlog.KindName(k), n})
		if n > 0 {
			where = append(where, fmt.Sprintf("newest %s: leaf %d", tlog.KindName(k), last-1))
		}
	}
	return numbers, where
}

func (p *prover) rogue() Negative {
	var rows int64
	for _, n := range p.rows {
		rows += n
	}
	leads := int64(0)
	for _, l := range p.report.Leads {
		if l.Detector == "D1" {
			leads++
		}
	}
	_, where := p.kinds(bulkhead.EvCertificateIntent, bulkhead.EvCertificateOutcome)
	read, ours, notCovered := p.transparency()
	return Negative{ID: RogueCertificates, Question: "Did one of our keys sign a certificate that we do not know of?", Answer: NotFound,
		Examined: "every leaf of the log, every row of the record with the digest of its certificate, every answer and list that is public, the serials that strangers asked for, the transparency logs that are read, and the certificates brought from outside",
		Numbers: []Number{{"certificates in the record", rows}, {"issued, with intent and outcome in the log", p.issued}, {"of them revoked", p.revoked}, {"certificates parsed whole, as a sample", p.parsed}, {"imported from other houses", p.foreign},
			{"serials abandoned; nobody received them", p.dead}, {"serials whose rows went with age", p.pruned}, {"signed or being signed while this was made", p.open}, {"answers that are public", p.answers},
			{"certificates brought from outside", int64(len(p.out.Brought))}, {"serials asked for that were never issued", leads},
			{"entries of transparency logs that were read", read}, {"of them by authorities of this house", ours}},
		Evidence:   where,
		NotCovered: append(notCovered, "a certificate that was signed outside the signer, never shown to anybody whom we hear of, and whose status nobody asks for here")}
}

// transparency counts what was read of transparency logs, and says what was not.
func (p *prover) transparency() (read, ours int64, notCovered []string) {
	if len(p.out.CT) == 0 {
		return 0, 0, []string{"transparency logs: none is read (ct.monitor)"}
	}
	for _, l := range p.out.CT {
		read, ours = read+l.Read-l.First, ours+l.Ours
		switch {
		case l.Size == 0:
			notCovered = append(notCovered, "transparency log "+l.Name+": not read yet")
		case l.First > 0 || l.Read < l.Size:
			notCovered = append(notCovered, fmt.Sprintf("transparency log %s: entries outside %d to %d, as of %s", l.Name, l.First, l.Read-1, l.At.Format(time.RFC3339)))
		default:
			notCovered = append(notCovered, fmt.Sprintf("transparency log %s: what it took after %s", l.Name, l.At.Format(time.RFC3339)))
		}
	}
	return read, ours, append(notCovered, "transparency logs that are not named in ct.monitor")
}

func (p *prover) customerData() Negative {
	numbers, where := p.kinds(bulkhead.EvAccount, bulkhead.EvCredential, bulkhead.EvAccessReview, bulkhead.EvTicketRedeemed)
	return Negative{ID: CustomerData, Question: "Did customers' data leave?", Answer: Unproved,
		Examined: "what changed at accounts and credentials, who looked after operators' rights, and codes that were redeemed",
		Numbers:  numbers, Evidence: where,
		NotCovered: []string{"software cannot prove that customer data never left: reading leaves no leaf; whoever reads the database, its backups or the disk below it is not seen here",
			"what an account or an operator with the right to read was shown"}}
}

func (p *prover) rootKey() Negative {
	var roots, online, under int64
	var where []string
	for _, a := range p.cfg.Authorities {
		if a.Kind != bulkhead.RootAuthority {
			continue
		}
		roots++
		if a.KeyURI != "" {
			online++
		}
		for ref, e := range p.cfg.Book.of(a.ID) {
			if e.outcomeSeq > 0 {
				under++
				if len(where) < 20 {
					where = append(where, fmt.Sprintf("certificate %s: leaves %d and %d", ref, e.intentSeq-1, e.outcomeSeq-1))
				}
			}
		}
	}
	n := Negative{ID: RootKey, Question: "Was the root's key, or its HSM, used by anybody else?", Answer: NotFound,
		Examined: "every certificate under a root that the log knows, and those brought from outside that a root signed",
		Numbers:  []Number{{"roots", roots}, {"roots whose key this house can reach", online}, {"certificates that roots signed, by the log", under}}, Evidence: where,
		NotCovered: []string{"what an offline key signed that was never brought here: hold the ceremony's transcripts (bulkhead-root transcript) and the device's own counter against these numbers",
			"lists and delegates that a ceremony prepared are in its transcript, not in these numbers"}}
	if online > 0 {
		n.NotCovered = append(n.NotCovered, "a root's key is online in this house, so all that is said of the issuing keys holds for it")
	}
	if roots == 0 {
		n.Answer = Unproved
		n.NotCovered = append(n.NotCovered, "this house has no root of its own: ask the house above")
	}
	return n
}

func (p *prover) infrastructure() Negative {
	numbers, where := p.kinds(bulkhead.EvStart, bulkhead.EvOperator, bulkhead.EvApproval, bulkhead.EvChangeActivated, bulkhead.EvAlarm)
	numbers = append([]Number{{"rows of evidence, hash-chained and equal to the log", p.out.Rows}, {"of them not yet under a checkpoint", p.out.Uncovered}}, numbers...)
	rewritten := "whoever holds the log's key and all rows can rewrite both from the beginning; only a checkpoint kept by somebody else shows it (bulkhead-verify consistency --old)"
	if w := p.out.Witnessed; w != nil {
		numbers = append(numbers, Number{"leaves cosigned by " + w.Quorum + " outside witnesses", w.Size})
		for _, by := range w.By {
			where = append(where, fmt.Sprintf("cosigned by %s at %s", by.Witness, by.At.Format(time.RFC3339)))
		}
		rewritten = fmt.Sprintf("whoever holds the log's key and all rows can rewrite what is above leaf %d; below it he needs %s witnesses", w.Size, w.Quorum)
	}
	return Negative{ID: Infrastructure, Question: "Was the authority's infrastructure changed behind our back?", Answer: NotFound,
		Examined: "every row of evidence against its leaf, its chain and the signed checkpoint; the rules over intents and outcomes; who was made operator and what was approved",
		Numbers:  numbers, Evidence: where,
		NotCovered: []string{"machines, networks and people: what an intruder did without touching a key, a row or the log leaves no leaf",
			rewritten}}
}

func (p *prover) issuingKey() Negative {
	var keys, made, counted int64
	var where []string
	hardware := false
	for _, k := range p.report.Keys {
		keys, made = keys+1, made+k.Made
		if k.Counter != nil {
			counted++
		}
		hardware = hardware || k.Hardware != nil
		if len(where) < 20 {
			where = append(where, fmt.Sprintf("key %s: leaves %d to %d", k.Key, k.FirstLeaf, k.LastLeaf))
		}
	}
	n := Negative{ID: IssuingKey, Question: "Was an issuing key, or its HSM, used by anybody else?", Answer: NotFound,
		Examined: "for each key the signatures that leaves announce and report, a batch counting as many as it has, and the counter that moved in the same transactions",
		Numbers:  []Number{{"keys that signed", keys}, {"signatures made", made}, {"keys with a counter", counted}}, Evidence: where,
		NotCovered: []string{"the counter is kept by the record and not by the device: a copy of a key that is used elsewhere moves neither"}}
	if !hardware {
		n.NotCovered = append(n.NotCovered, "no device reported a counter of its own: the keys are files, or the token does not count")
	}
	return n
}

func (p *prover) registration() Negative {
	numbers, where := p.kinds(bulkhead.EvValidation, bulkhead.EvCAA, bulkhead.EvPartner, bulkhead.EvPartnerRefused, bulkhead.EvSecondApproval, bulkhead.EvOrderRefused)
	leads := int64(0)
	for _, l := range p.report.Leads {
		if l.Detector == "D10" {
			leads++
		}
	}
	numbers = append([]Number{{"certificates of orders, each with a CAA check of its order in the log before its outcome", p.checked}, {"alarms about partners' behaviour", leads}}, numbers...)
	return Negative{ID: Registration, Question: "Was a registration authority taken over?", Answer: NotFound,
		Examined: "for every certificate of an order the check that was recorded before it was signed, what partners were refused, and who approved high-value names",
		Numbers:  numbers, Evidence: where,
		NotCovered: []string{"a partner whose stolen credential orders only names that the thief really controls looks like any customer; see the alarms about its behaviour"}}
}

// Text is the report for a person: words first.
func (r Report) Text() string {
	var b strings.Builder
	if r.OK {
		b.WriteString("Everything reconciles: six times \"not found\", each with what it does not cover.\n")
	} else {
		fmt.Fprintf(&b, "It does not reconcile: %d findings. Keep the data directory as it is and open an incident.\n", len(r.Findings)+r.Omitted)
	}
	fmt.Fprintf(&b, "Issuers %s; %d rows of evidence, %d under the checkpoint with root %s.\n", joined(r.Issuers), r.Rows, r.Checkpoint.Size, r.Checkpoint.Root)
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\nFOUND %s\n  %s\n", f.Rule, f.Message)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(&b, "\nand %d findings more\n", r.Omitted)
	}
	for i, n := range r.Negatives {
		fmt.Fprintf(&b, "\n%d. %s\n   %s\n   examined: %s\n", i+1, n.Question, n.Answer, n.Examined)
		for _, x := range n.Numbers {
			fmt.Fprintf(&b, "   %8d  %s\n", x.N, x.What)
		}
		for _, e := range n.Evidence {
			fmt.Fprintf(&b, "   in evidence: %s\n", e)
		}
		for _, x := range n.NotCovered {
			fmt.Fprintf(&b, "   not covered: %s\n", x)
		}
	}
	if len(r.Leads) > 0 {
		fmt.Fprintf(&b, "\nWhat asks for a person and proves nothing by itself: %d\n", len(r.Leads))
	}
	for _, l := range r.Leads {
		fmt.Fprintf(&b, "  %s, %d times since %s: %s\n", l.Detector, l.Count, l.At.Format("2006-01-02 15:04:05Z"), l.Message)
	}
	return strings.TrimRight(b.String(), "\n")
}

func joined(ids []bulkhead.AuthorityID) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return strings.Join(out, ", ")
}
