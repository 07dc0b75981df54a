// Package storetest is the conformance suite of the durable record: every engine passes it, and what it does not say
// of a port is not promised.
//
// Invariant: it knows the ports and nothing of an engine. Refuses: to skip.
package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"reflect"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// Store is every port of the compartments in one, and the inventory.
type Store interface {
	SignInStore
	heldStore
	Close() error
	Ping(ctx context.Context) error
	IsEmpty(ctx context.Context) (bool, error)
	Finalize(ctx context.Context, ref bulkhead.CertificateRef, der []byte, ev bulkhead.Evidence) error
	PrecertificateByOrder(ctx context.Context, orderID string) (bulkhead.Certificate, []byte, error)
	Precertificate(ctx context.Context, ref bulkhead.CertificateRef) ([]byte, error)

	Authority(ctx context.Context, id bulkhead.AuthorityID) (bulkhead.Authority, error)
	Authorities(ctx context.Context) ([]bulkhead.Authority, error)
	PutAuthority(ctx context.Context, a bulkhead.Authority, ev ...bulkhead.Evidence) error
	Succeed(ctx context.Context, successor, predecessor bulkhead.Authority, ev ...bulkhead.Evidence) error
	BlockedKeys(ctx context.Context, hashes ...bulkhead.Hash) ([]bulkhead.BlockedKey, error)
	BlockKey(ctx context.Context, k bulkhead.BlockedKey, ev ...bulkhead.Evidence) error
	Delegates(ctx context.Context, issuer bulkhead.AuthorityID) ([]bulkhead.Delegate, error)
	PutDelegate(ctx context.Context, d bulkhead.Delegate, ev ...bulkhead.Evidence) error
	DropDelegate(ctx context.Context, issuer bulkhead.AuthorityID, keyURI string) error
	Prepared(ctx context.Context, issuer bulkhead.AuthorityID) ([]bulkhead.Prepared, error)
	PutPrepared(ctx context.Context, items []bulkhead.Prepared, ev ...bulkhead.Evidence) error

	SignatureCounters(ctx context.Context) (head int64, counters []bulkhead.SignatureCounter, err error)
	SignedRange(ctx context.Context, issuers []bulkhead.AuthorityID, seq, through int64) iter.Seq2[*bulkhead.SignedRow, error]
	ValidationRange(ctx context.Context) iter.Seq2[*bulkhead.Validation, error]
	PrunedAfter(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, limit int) ([]bulkhead.Serial, error)
	PrepareImport(items []bulkhead.Imported) (commit func(ctx context.Context, ev ...bulkhead.Evidence) ([]bulkhead.ImportResult, error), err error)
	HeldCertificates(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, limit int) ([]bulkhead.Status, error)
	Restate(ctx context.Context, items []bulkhead.Restated) (int, error)
	BlockKeys(ctx context.Context, keys []bulkhead.BlockedKey, ev []bulkhead.Evidence) ([]bulkhead.Hash, error)
	CTMonitors(ctx context.Context) ([]bulkhead.CTMonitor, error)
	PutCTMonitor(ctx context.Context, m bulkhead.CTMonitor, ev bulkhead.Evidence) error
	AlarmsOf(ctx context.Context, detector string, limit int) ([]bulkhead.Alarm, error)

	Reserve(ctx context.Context, items []bulkhead.Reservation) (seqs []int64, errs []error, err error)
	Complete(ctx context.Context, items []bulkhead.Completion) (seqs []int64, errs []error, err error)
	Abandon(ctx context.Context, items []bulkhead.CertificateRef, ev []bulkhead.Evidence) error
	OpenReservations(ctx context.Context, before time.Time, limit int) ([]bulkhead.Certificate, error)
	MarkReplaced(ctx context.Context, old, new bulkhead.CertificateRef) error

	Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error)
	CertificateDER(ctx context.Context, ref bulkhead.CertificateRef) ([]byte, error)
	CertificateByOrder(ctx context.Context, orderID string) (bulkhead.Certificate, []byte, error)
	CertificatesByKey(ctx context.Context, key bulkhead.Hash, t time.Time) ([]bulkhead.Certificate, error)
	Certificates(ctx context.Context, f bulkhead.CertificateFilter) (rows []bulkhead.Certificate, next string, err error)
	Counts(ctx context.Context) (map[bulkhead.AuthorityID]map[bulkhead.CertificateState]int64, error)
	Statuses(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Status, error)
	StatusPage(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, from time.Time, limit int) ([]bulkhead.Status, error)
	StatusSince(ctx context.Context, issuer bulkhead.AuthorityID, seq int64, limit int) ([]bulkhead.Status, error)
	Revoked(ctx context.Context, issuer bulkhead.AuthorityID, shard int, keepFrom time.Time) iter.Seq2[bulkhead.Status, error]
	MovedSince(ctx context.Context, issuer bulkhead.AuthorityID, shard int, head uint64, except string) iter.Seq2[bulkhead.Status, error]

	CreateAccount(ctx context.Context, a bulkhead.Account, ev ...bulkhead.Evidence) error
	Account(ctx context.Context, id string) (bulkhead.Account, error)
	AccountByThumbprint(ctx context.Context, thumbprint string) (bulkhead.Account, error)
	AccountByToken(ctx context.Context, tokenHash bulkhead.Hash) (bulkhead.Account, error)
	UpdateAccount(ctx context.Context, a bulkhead.Account, expect bulkhead.AccountState, ev ...bulkhead.Evidence) error
	CreateOrder(ctx context.Context, o bulkhead.Order, fresh []bulkhead.Authorization) error
	Order(ctx context.Context, id string) (bulkhead.Order, error)
	OrdersByAccount(ctx context.Context, accountID, after string, limit int) ([]string, error)
	EndOrder(ctx context.Context, o bulkhead.Order) error
	UpdateOrder(ctx context.Context, o bulkhead.Order, expect bulkhead.OrderState, ev ...bulkhead.Evidence) error
	ProcessOrder(ctx context.Context, o bulkhead.Order, checks []bulkhead.CAACheck, until <-chan struct{}, ev ...bulkhead.Evidence) error
	OrdersInState(ctx context.Context, s bulkhead.OrderState, limit int) ([]bulkhead.Order, error)
	OrdersByAuthorization(ctx context.Context, authorizationID string) ([]bulkhead.Order, error)
	Authorization(ctx context.Context, id string) (bulkhead.Authorization, error)
	UpdateAuthorization(ctx context.Context, a bulkhead.Authorization, expect bulkhead.AuthorizationState, v *bulkhead.Validation, ev ...bulkhead.Evidence) error
	Authorizations(ctx context.Context, ids ...string) ([]bulkhead.Authorization, error)
	ConcludeAuthorization(ctx context.Context, a bulkhead.Authorization, v bulkhead.Validation, thumbprint string, ev ...bulkhead.Evidence) error
	PlaceOrder(ctx context.Context, o bulkhead.Order, fresh []bulkhead.Authorization, validations []bulkhead.Validation, checks []bulkhead.CAACheck, ev ...bulkhead.Evidence) error
	ReusableAuthorizations(ctx context.Context, accountID string, ids []bulkhead.Identifier, t time.Time) ([]bulkhead.Authorization, error)
	HoldsAuthorizations(ctx context.Context, accountID string, ids []bulkhead.Identifier, t time.Time) (bool, error)
	PutCAAChecks(ctx context.Context, checks []bulkhead.CAACheck, ev ...bulkhead.Evidence) error
	OrderEvidence(ctx context.Context, orderID string) ([]bulkhead.Validation, []bulkhead.CAACheck, error)
	OrdersEvidence(ctx context.Context, orders ...string) (map[string]*bulkhead.OrderEvidence, error)

	OpenOrdersByAccount(ctx context.Context, accountID string, limit int) ([]bulkhead.Order, error)
	CreateExternalKey(ctx context.Context, k bulkhead.ExternalKey, ev ...bulkhead.Evidence) error
	ExternalKey(ctx context.Context, id string) (bulkhead.ExternalKey, error)
	ExternalKeys(ctx context.Context, limit int) ([]bulkhead.ExternalKey, error)
	RevokeExternalKey(ctx context.Context, id string, now time.Time, ev ...bulkhead.Evidence) error
	CreateBoundAccount(ctx context.Context, a bulkhead.Account, keyID string, ev ...bulkhead.Evidence) error
	TallyAuthorizations(ctx context.Context, f bulkhead.AuthorizationFilter) (bulkhead.AuthorizationTally, error)
	SelectAuthorizations(ctx context.Context, f bulkhead.AuthorizationFilter, limit int) ([]bulkhead.Authorization, error)
	RevokeAuthorizations(ctx context.Context, ids []string, ev []bulkhead.Evidence) (int, error)
	TakeRate(ctx context.Context, now time.Time, charges []bulkhead.RateCharge) (*bulkhead.RateRefusal, error)
	PeekRate(ctx context.Context, now time.Time, charges []bulkhead.RateCharge) (*bulkhead.RateRefusal, error)
	ForgetRates(ctx context.Context, now time.Time) error

	CreateChange(ctx context.Context, c bulkhead.Change, items []bulkhead.ChangeItem, ev ...bulkhead.Evidence) error
	Change(ctx context.Context, id string) (bulkhead.Change, error)
	Changes(ctx context.Context, limit int, states ...bulkhead.ChangeState) ([]bulkhead.Change, error)
	ChangeItems(ctx context.Context, id string, after bulkhead.CertificateRef, limit int) ([]bulkhead.ChangeItem, error)
	MoveChange(ctx context.Context, c bulkhead.Change, expect bulkhead.ChangeState, ev ...bulkhead.Evidence) error
	AddItems(ctx context.Context, id string, items []bulkhead.ChangeItem, most int) (int, error)
	ScopePage(ctx context.Context, scope bulkhead.Scope, t time.Time, after int64, limit int) ([]bulkhead.Certificate, int64, error)
	ScopeSize(ctx context.Context, scope bulkhead.Scope, t time.Time) (int64, error)
	Affected(ctx context.Context, change string, issuer bulkhead.AuthorityID) iter.Seq2[bulkhead.AffectedStatus, error]
	BlockedItems(ctx context.Context, change string) (items, keys int, err error)
	ChangeEvidence(ctx context.Context, id string) ([]bulkhead.EvidenceRow, error)
	WithNewestHead(ctx context.Context, f func(bulkhead.HeadRecord) error) error
	HoldChange(ctx context.Context, id string, until time.Time) error
	EndPlanned(ctx context.Context, c bulkhead.Change, ev ...bulkhead.Evidence) error
	Locate(ctx context.Context, change string) error
	Activate(ctx context.Context, c bulkhead.Change, head bulkhead.HeadRecord, crls []bulkhead.CRLRecord, ev ...bulkhead.Evidence) error
	Head(ctx context.Context) (bulkhead.HeadRecord, error)
	PutHead(ctx context.Context, head bulkhead.HeadRecord, crls []bulkhead.CRLRecord) error
	NextCRLNumber(ctx context.Context, issuer bulkhead.AuthorityID, shard int) (int64, error)
	CRLs(ctx context.Context) ([]bulkhead.CRLRecord, error)

	AuthorityCertificates(ctx context.Context) ([]bulkhead.IssuedCertificate, error)
	CertificatesBySerial(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Certificate, error)
	Twins(ctx context.Context, keys []bulkhead.Hash, t time.Time, limit int) ([]bulkhead.Certificate, error)
	Products(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time, samples int) ([]bulkhead.Product, error)
	CountProducts(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time) (map[string]int64, error)

	PutOperator(ctx context.Context, o bulkhead.Operator, ev ...bulkhead.Evidence) error
	Operators(ctx context.Context) ([]bulkhead.Operator, error)
	CreateRequest(ctx context.Context, r bulkhead.ApprovalRequest, ev ...bulkhead.Evidence) error
	Request(ctx context.Context, id string) (bulkhead.ApprovalRequest, error)
	Requests(ctx context.Context, limit int, states ...bulkhead.RequestState) ([]bulkhead.ApprovalRequest, error)
	ActionRequests(ctx context.Context, actions ...string) ([]bulkhead.ApprovalRequest, error)
	AddApproval(ctx context.Context, a bulkhead.Approval, ev ...bulkhead.Evidence) error
	MoveRequest(ctx context.Context, id string, expect, to bulkhead.RequestState, ev ...bulkhead.Evidence) error

	RaiseAlarm(ctx context.Context, a bulkhead.Alarm, ev bulkhead.Evidence) (fresh bool, err error)
	Alarms(ctx context.Context, limit int) ([]bulkhead.Alarm, error)
	Alarm(ctx context.Context, id int64) (bulkhead.Alarm, error)
	AckAlarm(ctx context.Context, id int64, at time.Time, by, reason string, ev bulkhead.Evidence) error
	DueDeliveries(ctx context.Context, receiver string, severities []bulkhead.Severity, now time.Time, limit int) ([]bulkhead.AlarmDelivery, error)
	FailedDeliveries(ctx context.Context, limit int) ([]bulkhead.AlarmDelivery, error)
	PutDelivery(ctx context.Context, d bulkhead.AlarmDelivery, ev ...bulkhead.Evidence) error
	CertificateChanges(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.CertificateChange, error)

	ClaimReply(ctx context.Context, r bulkhead.Reply, now time.Time) (bulkhead.Reply, error)
	FinishReply(ctx context.Context, keyHash bulkhead.Hash, holder string, status int, body []byte) error
	ReleaseReply(ctx context.Context, keyHash bulkhead.Hash, holder string) error
	ForgetReplies(ctx context.Context, now time.Time) error

	PutProfileVersion(ctx context.Context, v bulkhead.ProfileVersion, ev ...bulkhead.Evidence) error
	ProfileVersions(ctx context.Context, after int64) ([]bulkhead.ProfileVersion, error)

	PutCheck(ctx context.Context, id bulkhead.Hash, body []byte, now, expires time.Time) error
	Check(ctx context.Context, id bulkhead.Hash, now time.Time) ([]byte, error)

	lookStore
	Expiring(ctx context.Context, f bulkhead.ExpiringFilter) ([]bulkhead.Expiring, error)
	Told(ctx context.Context, channel bulkhead.NoticeChannel, ref bulkhead.CertificateRef, threshold time.Duration) ([]string, error)
	PutNotices(ctx context.Context, notices []bulkhead.ExpiryNotice) error
	Prunable(ctx context.Context, p bulkhead.Prune) (bulkhead.Pruned, error)
	Prune(ctx context.Context, p bulkhead.Prune, limit int, leaf func(bulkhead.Pruned) bulkhead.Evidence) (bulkhead.Pruned, error)
	Pruned(ctx context.Context, ref bulkhead.CertificateRef) (bool, error)

	incidentStore
	campaignStore
	campaignRoundStore
	tellingStore
	PutStop(ctx context.Context, x bulkhead.Stop, ev ...bulkhead.Evidence) error
	EndStop(ctx context.Context, x bulkhead.Stop, ev ...bulkhead.Evidence) error
	Stops(ctx context.Context) (bulkhead.Stops, error)
	Stop(ctx context.Context, id string) (bulkhead.Stop, error)
	StopHistory(ctx context.Context, limit int) ([]bulkhead.Stop, error)
	StopsEndedSince(ctx context.Context, t time.Time) ([]bulkhead.Stop, error)
	Standing(ctx context.Context, accountID string) (bulkhead.Standing, error)
	PutCompromise(ctx context.Context, c bulkhead.Compromise, ev ...bulkhead.Evidence) error
	UpdateCompromise(ctx context.Context, c bulkhead.Compromise, ev ...bulkhead.Evidence) error
	Compromise(ctx context.Context, key bulkhead.Hash) (bulkhead.Compromise, error)
	Compromises(ctx context.Context, limit int) ([]bulkhead.Compromise, error)
	UnsettledCompromises(ctx context.Context, t time.Time) ([]bulkhead.Compromise, error)
	KeyHolders(ctx context.Context, key bulkhead.Hash, t time.Time, limit int, except ...bulkhead.AuthorityID) ([]bulkhead.Certificate, error)
	CountKeyHolders(ctx context.Context, key bulkhead.Hash, t time.Time) (int, error)
	KillTokens(ctx context.Context, limit int, leaf func(bulkhead.Account) bulkhead.Evidence) (int, error)
	KillExternalKeys(ctx context.Context, partner string, now time.Time, limit int, leaf func(bulkhead.ExternalKey) bulkhead.Evidence) (int, error)
	KillPeople(ctx context.Context, partner string, now time.Time, limit int, leaf func(bulkhead.PartnerPerson) bulkhead.Evidence) (int, error)
	RollAccounts(ctx context.Context, now time.Time, limit int, leaf func(bulkhead.Account) bulkhead.Evidence) (int, error)
	ReviewOperator(ctx context.Context, name string, at time.Time, ev ...bulkhead.Evidence) error

	CreatePartner(ctx context.Context, p bulkhead.Partner, ev ...bulkhead.Evidence) error
	UpdatePartner(ctx context.Context, p bulkhead.Partner, expect bulkhead.PartnerState, stops []bulkhead.Stop, ev ...bulkhead.Evidence) error
	Partner(ctx context.Context, id string) (bulkhead.Partner, error)
	Partners(ctx context.Context) ([]bulkhead.Partner, error)
	PutPerson(ctx context.Context, p bulkhead.PartnerPerson, ev ...bulkhead.Evidence) error
	People(ctx context.Context, partner string) ([]bulkhead.PartnerPerson, error)
	PersonByToken(ctx context.Context, tokenHash bulkhead.Hash) (bulkhead.PartnerPerson, bulkhead.Partner, error)
	PartnerAccounts(ctx context.Context, partner string, limit int) ([]bulkhead.Account, error)
	PartnerOrders(ctx context.Context, partner string, before int64, limit int) ([]bulkhead.Order, int64, error)
	PartnerUse(ctx context.Context, partner string, since time.Time) ([]bulkhead.PartnerUse, error)
	PartnerKnows(ctx context.Context, partner, domain string, t time.Time) (bool, error)
	PutSecondApproval(ctx context.Context, a bulkhead.SecondApproval, ev ...bulkhead.Evidence) error
	SecondApprovals(ctx context.Context, orderID string) ([]bulkhead.SecondApproval, error)
	ceremonyStore
	owedStore
	seenStore

	AppendEvidence(ctx context.Context, ev ...bulkhead.Evidence) ([]int64, error)
	EvidenceAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.EvidenceRow, error)
	EvidenceRange(ctx context.Context, seq, through int64) iter.Seq2[*bulkhead.EvidenceRow, error]
	EvidenceHead(ctx context.Context) (seq int64, chain bulkhead.Hash, err error)
}

// Hook stands in for the commit of a write transaction; nil commits.
type Hook func(op string, commit func() error) error

// Open opens a handle on one database, as a process of its own would. It fails the test when it cannot.
type Open func(t testing.TB, hook Hook) Store

// Fresh makes an empty database and returns how to open it. It removes the database at the end of the test.
type Fresh func(t testing.TB) Open

// Run runs the suite over an engine.
func Run(t *testing.T, fresh Fresh) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, open Open)
	}{
		{"Evidence", testEvidence},
		{"Authorities", testAuthorities},
		{"Succeed", testSucceed},
		{"Issue", testIssue},
		{"IssueRefusals", testIssueRefusals},
		{"IssueTwice", testIssueTwice},
		{"Abandon", testAbandon},
		{"Precertificate", testPrecertificate},
		{"LargeBatch", testLargeBatch},
		{"Inventory", testInventory},
		{"Names", testNames},
		{"Search", testSearch},
		{"Paging", testPaging},
		{"Replies", testReplies},
		{"Notices", testNotices},
		{"Checks", testChecks},
		{"Profiles", testProfiles},
		{"Looks", testLooks},
		{"Estate", testEstate},
		{"Prune", testPrune},
		{"Status", testStatus},
		{"Products", testProducts},
		{"Twins", testTwins},
		{"Accounts", testAccounts},
		{"Orders", testOrders},
		{"Replaces", testReplaces},
		{"Authorizations", testAuthorizations},
		{"Conclude", testConclude},
		{"Place", testPlace},
		{"OrderEvidence", testOrderEvidence},
		{"ExternalKeys", testExternalKeys},
		{"RevokedAuthorizations", testRevokedAuthorizations},
		{"Rates", testRates},
		{"Changes", testChanges},
		{"Draft", testDraft},
		{"Activate", testActivate},
		{"ActivateRefusals", testActivateRefusals},
		{"Locate", testLocate},
		{"Held", testHeld},
		{"TakeBack", testTakeBack},
		{"ChangeEvidence", testChangeEvidence},
		{"NewestHead", testNewestHead},
		{"Heads", testHeads},
		{"Quorum", testQuorum},
		{"SecurityKeys", testSecurityKeys},
		{"SignIn", testSignIn},
		{"Alarms", testAlarms},
		{"Proof", testProof},
		{"CT", testCT},
		{"Imported", testImported},
		{"ImportedAlike", testImportedAlike},
		{"Restated", testRestated},
		{"BlockKeys", testBlockKeys},
		{"Incidents", testIncidents},
		{"Telling", testTelling},
		{"ScopeByValidation", testScopeByValidation},
		{"Campaigns", testCampaigns},
		{"CampaignRound", testCampaignRound},
		{"CampaignStretch", testCampaignStretch},
		{"Tickets", testTickets},
		{"Stops", testStops},
		{"Compromises", testCompromises},
		{"KilledCredentials", testKilledCredentials},
		{"Partners", testPartners},
		{"PartnerVolume", testPartnerVolume},
		{"AlarmsTaken", testAlarmsTaken},
		{"AlarmDeliveries", testAlarmDeliveries},
		{"CertificateChanges", testCertificateChanges},
		{"Ceremonies", testCeremonies},
		{"Owed", testOwed},
		{"CRLsSeen", testCRLsSeen},
		{"HeldScopes", testHeldScopes},
		{"EvidenceTogether", testEvidenceTogether},
		{"RaceReserve", testRaceReserve},
		{"RaceBlock", testRaceBlock},
		{"RaceActivate", testRaceActivate},
		{"RaceCRLNumber", testRaceCRLNumber},
		{"RaceEvidence", testRaceEvidence},
		{"Reopen", testReopen},
		{"CommitLost", testCommitLost},
		{"AcknowledgementLost", testAcknowledgementLost},
		{"StrangeText", testStrangeText},
		{"Closed", testClosed},
		{"Cancelled", testCancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, fresh(t)) })
	}
}

// start is the time of the suite's world.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

const issuer bulkhead.AuthorityID = "issuing-p256"

// serial is a 16-octet serial that n determines and that does not lie in the order of n.
func serial(n int) bulkhead.Serial {
	h := digest("serial", n)
	h[0] = h[0]&0x7f | 1
	s, err := bulkhead.SerialFromBytes(h[:16])
	if err != nil {
		panic(err)
	}
	return s
}

func digest(what string, n int) bulkhead.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(what), uint64(n)))
}

func ref(n int) bulkhead.CertificateRef {
	return bulkhead.CertificateRef{Issuer: issuer, Serial: serial(n)}
}

// der stands for a certificate; the record does not parse it.
func der(n int) []byte { h := digest("der", n); return append([]byte("certificate "), h[:]...) }

func event(detail string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvStart, At: start, Actor: "role:test", Detail: detail}
}

func reservation(n int) bulkhead.Reservation {
	d := digest("tbs", n)
	return bulkhead.Reservation{
		Certificate: bulkhead.Certificate{
			CertificateRef: ref(n), Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved, Profile: "tls-server",
			Names:   []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "www.example.com"}},
			Subject: "CN=www.example.com", KeyHash: digest("key", n), NotBefore: at(0), NotAfter: at(1000), Shard: n % 4,
			ReservedAt: at(n % 60),
		},
		Intent: bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: start, Actor: "role:signer", Authority: issuer,
			Serial: serial(n), KeyHash: digest("key", n), Signer: digest("signer", 0), Digest: d},
	}
}

func completion(n int) bulkhead.Completion {
	return bulkhead.Completion{CertificateRef: ref(n), DER: der(n), Outcome: bulkhead.Evidence{
		Kind: bulkhead.EvCertificateOutcome, At: start, Actor: "role:signer", Authority: issuer, Serial: serial(n),
		Signer: digest("signer", 0), Digest: bulkhead.Digest(der(n)), Link: digest("tbs", n)}}
}

func numbers(from, to int) []int {
	var out []int
	for n := from; n < to; n++ {
		out = append(out, n)
	}
	return out
}

func each[T any](ns []int, f func(int) T) []T {
	out := make([]T, len(ns))
	for i, n := range ns {
		out[i] = f(n)
	}
	return out
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func value[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		ok(t, err)
		return v
	}
}

func wantKind(t testing.TB, err error, kind bulkhead.Kind) {
	t.Helper()
	if got := bulkhead.KindOf(err); got != kind {
		t.Fatalf("error of kind %q, want %q: %v", got, kind, err)
	}
}

func equal[T any](t testing.TB, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got\n%+v\nwant\n%+v", got, want)
	}
}

// reserve and complete fail the test when any item fails.
func reserve(t testing.TB, s Store, ns ...int) []int64 {
	t.Helper()
	seqs, errs, err := s.Reserve(t.Context(), each(ns, reservation))
	return settled(t, seqs, errs, err, len(ns))
}

func complete(t testing.TB, s Store, ns ...int) []int64 {
	t.Helper()
	seqs, errs, err := s.Complete(t.Context(), each(ns, completion))
	return settled(t, seqs, errs, err, len(ns))
}

func settled(t testing.TB, seqs []int64, errs []error, err error, n int) []int64 {
	t.Helper()
	ok(t, err)
	if len(seqs) != n || len(errs) != n {
		t.Fatalf("%d seqs and %d errors for %d items", len(seqs), len(errs), n)
	}
	for _, e := range errs {
		ok(t, e)
	}
	return seqs
}

func issue(t testing.TB, s Store, ns ...int) {
	t.Helper()
	reserve(t, s, ns...)
	complete(t, s, ns...)
}

func state(t testing.TB, s Store, n int) bulkhead.CertificateState {
	t.Helper()
	c, _, err := s.Certificate(t.Context(), ref(n))
	ok(t, err)
	return c.State
}

// checkEvidence reads the whole record of evidence, proves that it has no gaps and that its chain holds, and returns
// it decoded.
func checkEvidence(t testing.TB, s Store) []bulkhead.Evidence {
	t.Helper()
	var out []bulkhead.Evidence
	var chain bulkhead.Hash
	var seq int64
	for {
		rows, err := s.EvidenceAfter(t.Context(), seq, 7)
		ok(t, err)
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			seq++
			chain = tlog.Chain(chain, r.Leaf)
			if r.Seq != seq || r.Chain != chain {
				t.Fatalf("evidence row %d with chain %s, want %d with %s", r.Seq, r.Chain, seq, chain)
			}
			e, err := tlog.Parse(r.Leaf)
			ok(t, err)
			out = append(out, e)
		}
	}
	head, headChain, err := s.EvidenceHead(t.Context())
	ok(t, err)
	if head != seq || headChain != chain {
		t.Fatalf("evidence head %d %s, want %d %s", head, headChain, seq, chain)
	}
	return out
}
