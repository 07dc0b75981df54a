package bulkhead

import "time"

// EvidenceKind says what a leaf of the evidence log records. The number is part of the leaf format and never reused.
type EvidenceKind uint16

// Evidence kinds. pki/tlog documents what each kind puts into which field.
const (
	EvCertificateIntent  EvidenceKind = 1 // Digest: SHA-256 of the TBSCertificate; KeyHash: subject key; Signer: issuing key
	EvCertificateOutcome EvidenceKind = 2 // Digest: SHA-256 of the certificate; Link: the intent's Digest
	EvCertificateAbandon EvidenceKind = 3 // Link: the intent's Digest; Detail: why
	EvBatchIntent        EvidenceKind = 4 // Ref: batch id; Count; Digest: Merkle root over digests of the bytes to be signed; Detail: what
	EvBatchOutcome       EvidenceKind = 5 // Ref: batch id; Count; Digest: Merkle root over digests of signatures; Link: the intent's Digest
	EvLiveWindow         EvidenceKind = 6 // an edge may sign. Ref: window id; Signer: the delegate's key; Digest: the delegate's certificate; Count: most signatures
	EvLiveOutcome        EvidenceKind = 7 // Ref: window id; Digest: Merkle root over digests of the signatures made; Link: the window's Digest; Count
	EvValidation         EvidenceKind = 10
	EvCAA                EvidenceKind = 11
	EvAccount            EvidenceKind = 12
	EvOrderRefused       EvidenceKind = 13
	EvKeyBlocked         EvidenceKind = 20 // KeyHash
	EvChangePlanned      EvidenceKind = 30 // Ref: change id; Count
	EvChangePreviewed    EvidenceKind = 31 // Digest: preview hash
	EvChangeApproved     EvidenceKind = 32 // Digest: preview hash; Actor: who
	EvChangeStaged       EvidenceKind = 33
	EvChangeActivated    EvidenceKind = 34 // Count: head sequence
	EvChangePublished    EvidenceKind = 35
	EvChangeSettled      EvidenceKind = 36
	EvChangeRefused      EvidenceKind = 37
	EvRevocation         EvidenceKind = 38 // Authority, Serial, Detail: reason and time
	EvAuthority          EvidenceKind = 40 // Digest: certificate; Detail: what happened to the authority
	EvOperator           EvidenceKind = 50 // KeyHash: the operator's key
	EvApproval           EvidenceKind = 51 // Ref: request id; Digest: what was approved
	EvStop               EvidenceKind = 52 // Ref: stop id; Detail: scope and reason
	EvResume             EvidenceKind = 53 // Ref: stop id; Digest: what was approved; Detail: scope and reason
	EvCredential         EvidenceKind = 54 // a credential died or was replaced. Ref: account, key or person; Detail: what and why
	EvCompromise         EvidenceKind = 55 // KeyHash; Ref: change id, "" for the block; Count: certificates; Detail: what happened
	EvPartner            EvidenceKind = 56 // Ref: partner; Detail: what happened to it
	EvSecondApproval     EvidenceKind = 57 // Ref: order; Actor: who approved; Detail: names
	EvPartnerRefused     EvidenceKind = 58 // Ref: partner; Detail: order, kind and what was refused
	EvAccessReview       EvidenceKind = 59 // Ref: operator; Detail: outcome
	EvAlarm              EvidenceKind = 60 // Detail: detector and message
	EvStart              EvidenceKind = 61
	EvCeremony           EvidenceKind = 80  // Digest: signed transcript; Link: the one before; Signer: root certificate; Ref: change; Detail: title
	EvRehearsal          EvidenceKind = 81  // the same of a rehearsal; Count: seconds that it took
	EvKeyDestroyed       EvidenceKind = 82  // Authority; KeyHash; Digest: statement; Link: transcript, or the approved request; Detail: URI and witnesses
	EvKeyEnding          EvidenceKind = 135 // the last signatures of a key begin. Authority; KeyHash; Ref: request; Digest: what was approved; Detail: URI, who approved
	EvStatusSealed       EvidenceKind = 136 // status signed in advance. Authority; KeyHash; Ref: request; Count: CRLs; Digest: over them in order; Detail: until when
	EvStandby            EvidenceKind = 83  // Authority; Digest: certificate; Detail: laid ready
	EvChainSwitched      EvidenceKind = 84  // Authority; Digest: certificate now served; Link: certificate served before; Detail: until when that is offered
	EvPruned             EvidenceKind = 62  // Actor: who; Count: certificates; Detail: before which day, and the other counts
	EvAlarmAcknowledged  EvidenceKind = 63  // Actor: who; Ref: detector and key; Detail: why
	EvAlarmUndelivered   EvidenceKind = 64  // Ref: detector and key; Count: attempts; Detail: receiver and last error

	EvIncidentOpened  EvidenceKind = 90  // Ref: incident id; Detail: title, source, when we became aware
	EvIncidentNote    EvidenceKind = 91  // Ref: incident id; Detail: "[element] text"
	EvIncidentScope   EvidenceKind = 92  // Ref: incident id; Count: items; Digest: over the items; Link: the count before; Detail: why
	EvIncidentHold    EvidenceKind = 93  // Ref: incident id; Authority, Serial; Detail: by which order
	EvIncidentRelease EvidenceKind = 94  // Ref: incident id; Authority, Serial; Detail: why
	EvIncidentDelayed EvidenceKind = 95  // Ref: id of the record of the delay; Detail: incident, deadline and why
	EvIncidentClosed  EvidenceKind = 96  // Ref: incident id; Detail: why
	EvCampaignPlanned EvidenceKind = 100 // Ref: campaign id; Digest: plan; Link: the plan before; Count: items; Detail: incident
	EvCampaignStarted EvidenceKind = 101 // Ref: campaign id; Digest: plan; Detail: approval
	EvCampaignPaused  EvidenceKind = 102 // Ref: campaign id
	EvCampaignResumed EvidenceKind = 103 // Ref: campaign id
	EvCampaignClosed  EvidenceKind = 104 // Ref: campaign id; Detail: why
	EvCampaignItems   EvidenceKind = 105 // Ref: campaign id; Count; Digest: over the items; Authority, Serial when it is one; Detail: step and what was seen
	EvCampaignKeys    EvidenceKind = 106 // Ref: campaign id; Count: keys blocked with it; Digest: over the keys, sorted
	EvCampaignAttempt EvidenceKind = 107 // Ref: campaign id; KeyHash: the key that came back; Actor: whose request
	EvEstateLook      EvidenceKind = 130 // Ref: campaign id; Count: own endpoints looked at; Digest: over what is wrong; Detail: in words
	EvIncidentField   EvidenceKind = 140 // Ref: incident id; Digest: of the text; Detail: the field
	EvNoticesPlanned  EvidenceKind = 142 // Ref: incident id; Count: messages; Digest: of what is told; Detail: step and day
	EvNoticesSent     EvidenceKind = 143 // Ref: incident id; Count: messages; Detail: step
	EvNoticesBounced  EvidenceKind = 144 // Ref: incident id; Count: messages; Detail: step and why
	EvTicketIssued    EvidenceKind = 110 // Ref: campaign id, or ticket id outside one; Count; Digest: over the hashes of the codes
	EvTicketRedeemed  EvidenceKind = 111 // Ref: ticket id; Authority, Serial: what was issued
	EvChangeCanary    EvidenceKind = 70  // Ref: change id; Count: certificates looked at; Detail: what each verifier said of the staged copy
	EvChangeVerified  EvidenceKind = 71  // the same of what is public
	EvRollback        EvidenceKind = 72  // Ref: id of the change that takes back; Count: items; Detail: which change, incident and rule
	EvTakenBack       EvidenceKind = 73  // Ref: id of the change taken back; Count: items; Detail: by which change
	EvRestoration     EvidenceKind = 74  // Authority, Serial, Ref: change that takes back; Detail: what was said and what is said again
	EvCachesPurged    EvidenceKind = 75  // Ref: change id; Count: head sequence that was public before; Detail: what each tier said, in order
	EvCachesVerified  EvidenceKind = 76  // Ref: change id; Count: head sequence; Detail: what each node served
	EvChangeProblem   EvidenceKind = 77  // Ref: change id; Detail: why it does not go on

	EvSecurityKey EvidenceKind = 150 // Ref: operator; KeyHash; Digest: of the request; Detail: bound, or taken away and why
	EvSignIn      EvidenceKind = 151 // Actor: operator; Ref: operator; Link: of the session's token; Detail: by what, began or ended
	EvSignInNo    EvidenceKind = 152 // Ref: operator or subject; KeyHash; Detail: why somebody whom a key or a provider vouched for was not let in
	EvUnsigned    EvidenceKind = 153 // Ref: request or change that says approved; Digest; Detail: whose signatures verify
	EvInvited     EvidenceKind = 154 // Actor: operator; Ref: whom; Detail: until when

	EvImported            EvidenceKind = 155 // an import. Ref: import id; Authority; Digest: over its sources; Count: certificates that are new; Detail: counts
	EvImportedCertificate EvidenceKind = 156 // Authority, Serial; KeyHash; Digest: the certificate; Ref: import id; Detail: file and line
	EvProfile             EvidenceKind = 166 // a version of a profile came into force. Ref: profile; Count: version; Digest: of its text; Link: of the text before; Detail: request and what it grants
	EvPersonKey           EvidenceKind = 167 // a key was bound to a person at a partner. Ref: partner/name; KeyHash; Digest: of the request; Detail: request
	EvScopeHeld           EvidenceKind = 164 // the signer holds a registration partner to a scope. Ref: partner; Digest: of the scope; Detail: the request that people signed, and the scope
	EvCTRead              EvidenceKind = 158 // a transparency log was read. Ref: log; Digest: root; Count: entries read; Detail: how many are ours
	EvRevocations         EvidenceKind = 160 // many certificates of one change. Authority; Ref: change; Count; Detail: reason, time and their serials
	EvImportedRevocation  EvidenceKind = 157 // Authority, Serial; Ref: import id; Detail: reason, time and where that is said
	EvImportedRelease     EvidenceKind = 161 // the foreign authority ended its hold: good again. Authority, Serial; Digest: the CRL that says so; Count: its number; Ref: import id
	EvForeignDelegate     EvidenceKind = 163 // a foreign authority's delegate answers here. Authority; KeyHash; Digest: the certificate; Ref: import id; Detail: until when
)

// ValidatesItself ends the detail of an account's leaf when an operator made the account and no word of his is behind its orders: it has to
// show control of each name.
const ValidatesItself = "for names that it validates"

// OfChange reports whether a leaf of the kind tells the story of the change in its Ref; leaves about single certificates
// do not.
func (k EvidenceKind) OfChange() bool {
	return k >= EvChangePlanned && k <= EvChangeRefused || k >= EvChangeCanary && k <= EvChangeProblem && k != EvRestoration
}

// Evidence is one fact for the append-only log. It holds digests and identifiers, never DER and never a secret.
// Unused fields stay zero.
type Evidence struct {
	Kind      EvidenceKind
	At        time.Time   // millisecond precision, UTC
	Actor     string      // who: "operator:NAME", "account:ID", "role:NAME"
	Authority AuthorityID // whose issuing
	Serial    Serial
	Ref       string // id of the order, change, batch or request concerned
	KeyHash   Hash   // subject or operator key
	Signer    Hash   // SHA-256 of the SPKI of the key that signs; zero when nothing is signed
	Digest    Hash
	Link      Hash // digest of the leaf's predecessor in meaning, by kind
	Count     int64
	Detail    string // at most 4,096 bytes of UTF-8
}

// EvidenceRow is a leaf in the store: sequenced without gaps and hash-chained, committed in the transaction that it
// speaks of.
type EvidenceRow struct {
	Seq   int64 // from 1
	Leaf  []byte
	Chain Hash // SHA-256(previous Chain || SHA-256(Leaf)); the first row's predecessor is the zero hash
}
