package regress

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/asn1"
	"encoding/base32"
	"encoding/binary"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/tlog"
	"bulkhead/run"
)

var (
	// bulkSize is how many certificates the benchmarks of proof and restore work on.
	bulkSize = flag.Int("certificates", 20_000, "certificates in the benchmarks of proof and restore")
	// populationDir keeps a population for the next run: a million take minutes to make.
	populationDir = flag.String("population", "", "folder in which the house of -certificates certificates is kept, or made when it is absent")
)

// reuse is how many certificates rest on one validation: a name is renewed while its authorisation lasts.
const reuse = 10

// populated is the data directory of a house with n certificates that does not run: each signed by the issuing key, with its order,
// validation, look at CAA, leaves, answers and CRLs, and a log that covers every row.
func populated(t testing.TB, n int) string {
	t.Helper()
	kept := *populationDir
	if n != *bulkSize { // of a test
		kept = ""
	}
	if kept != "" {
		if _, err := os.Stat(kept); err == nil {
			return kept
		}
	}
	h := newHouse(t)
	acct, _, err := h.Enroll.NewTokenAccount(t.Context(), "operator:test", false)
	ok(t, err)
	a, err := h.Store.Authority(t.Context(), issuing)
	ok(t, err)
	h.stop()
	populate(t, h.dir, a, acct.ID, n)
	h.start()
	h.look()
	h.stop()
	cover(t, h.dir)
	if kept == "" {
		return h.dir
	}
	ok(t, os.MkdirAll(filepath.Dir(kept), 0o700))
	ok(t, os.Rename(h.dir, kept)) // -population on the file system of TMPDIR
	return kept
}

// made is one certificate with what its rows need.
type made struct {
	name, order string
	serial      bulkhead.Serial
	key         bulkhead.Hash
	tbs         bulkhead.Hash
	der         []byte
}

// model makes certificates that differ by serial, name and key from one that the library made, and signs each.
type model struct {
	tbs, alg         []byte
	serial, key      int   // where they stand in tbs
	names            []int // of the name, which may stand there twice
	signer           crypto.Signer
	csr              []byte
	notBefore, after time.Time
}

const modelName = "certificate-00000000.population.test"

func newModel(t testing.TB, dir string, a bulkhead.Authority) *model {
	t.Helper()
	ring, err := keys.OpenFileRing(keys.Config{Dir: filepath.Join(dir, "keys"), IdentityFile: filepath.Join(dir, "keys.identity")})
	ok(t, err)
	signer, err := ring.Open(t.Context(), a.KeyURI)
	ok(t, err)
	issuer, err := x509.ParseCertificate(a.Certificate)
	ok(t, err)
	key, mark, now := newKey(t), bytes.Repeat([]byte{0x5a}, 16), time.Now().UTC().Truncate(time.Second)
	m := &model{signer: signer, notBefore: now.Add(-time.Hour), after: now.Add(47 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: new(big.Int).SetBytes(mark), Subject: pkix.Name{CommonName: modelName}, DNSNames: []string{modelName},
		NotBefore: m.notBefore, NotAfter: m.after, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		CRLDistributionPoints: []string{"http://127.0.0.1:14080/crl/issuing-p256/0.crl"}, IssuingCertificateURL: []string{"http://127.0.0.1:14080/ca/issuing-p256.cer"}}, issuer, key.Public(), signer)
	ok(t, err)
	x, err := x509.ParseCertificate(der)
	ok(t, err)
	m.tbs = x.RawTBSCertificate
	point, err := key.Public().(*ecdsa.PublicKey).Bytes()
	ok(t, err)
	m.serial, m.key = bytes.Index(m.tbs, mark), bytes.Index(m.tbs, point)
	for at := 0; ; {
		i := bytes.Index(m.tbs[at:], []byte(modelName))
		if i < 0 {
			break
		}
		m.names, at = append(m.names, at+i), at+i+1
	}
	var outer struct {
		TBS, Alg asn1.RawValue
		Sig      asn1.BitString
	}
	_, err = asn1.Unmarshal(der, &outer)
	ok(t, err)
	m.alg = outer.Alg.FullBytes
	m.csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{modelName}}, key)
	ok(t, err)
	return m
}

var lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// id is an id as enrolment makes them, the same for the same words.
func id(what string, i int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", what, i))
	return lower.EncodeToString(sum[:16])
}

func populationName(i int) string { return fmt.Sprintf("certificate-%08d.population.test", i/reuse) }

// number signs certificate number i.
func (m *model) number(i int) (c made, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	tbs, sum := bytes.Clone(m.tbs), sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	sum[0] = sum[0]&0x3f | 0x40
	copy(tbs[m.serial:], sum[:16])
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return c, err
	}
	copy(tbs[m.key:], point)
	c.name, c.order = populationName(i), id("order", i)
	for _, at := range m.names {
		copy(tbs[at:], c.name)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return c, err
	}
	c.key, c.tbs = bulkhead.Digest(spki), bulkhead.Digest(tbs)
	if c.serial, err = bulkhead.SerialFromBytes(sum[:16]); err != nil {
		return c, err
	}
	sig, err := m.signer.Sign(rand.Reader, c.tbs[:], crypto.SHA256)
	if err != nil {
		return c, err
	}
	c.der, err = asn1.Marshal(struct {
		TBS, Alg asn1.RawValue
		Sig      asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, asn1.RawValue{FullBytes: m.alg}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	return c, err
}

// populate writes the rows of n certificates into a record that nobody has open: the same as enrolment and signer write, in one
// transaction, and the indexes afterwards. TestPopulation holds it against fsck and proof.
func populate(t testing.TB, dir string, a bulkhead.Authority, account string, n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "bulkhead.db")+"?_pragma=synchronous(OFF)&_pragma=cache_size(-400000)&_pragma=temp_store(MEMORY)&_pragma=foreign_keys(0)")
	ok(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, mode := range []string{"DELETE", "OFF"} { // nothing is written twice; the house puts its log back
		_, err := db.Exec("PRAGMA journal_mode = " + mode)
		ok(t, err)
	}
	indexes := dropIndexes(t, db)
	w := newRowWriter(t, db, a, account)
	m := newModel(t, dir, a)
	w.csr = m.csr
	const batch = 1024
	g, ctx := errgroup.WithContext(t.Context())
	parts := make([]chan []made, 2)
	for p := range parts {
		parts[p] = make(chan []made, 2)
		g.Go(func() error {
			defer close(parts[p])
			for from := p * batch; from < n; from += len(parts) * batch {
				list := make([]made, 0, batch)
				for i := from; i < min(n, from+batch); i++ {
					c, err := m.number(i)
					if err != nil {
						return err
					}
					list = append(list, c)
				}
				select {
				case parts[p] <- list:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	}
	for i, p := 0, 0; i < n; p++ {
		list, more := <-parts[p%len(parts)]
		if !more {
			ok(t, g.Wait())
			t.Fatal("the signers ended early")
		}
		for _, c := range list {
			w.certificate(i, c, m)
			i++
		}
	}
	ok(t, g.Wait())
	w.end(n)
	for _, text := range indexes {
		_, err := db.Exec(text)
		ok(t, err)
	}
	f, err := os.Open(filepath.Join(dir, "bulkhead.db"))
	ok(t, err)
	defer f.Close()
	ok(t, f.Sync())
}

// dropIndexes drops what can be made again faster at the end, and returns how.
func dropIndexes(t testing.TB, db *sql.DB) (again []string) {
	rows, err := db.Query(`SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ('certificates', 'orders', 'authorizations', 'order_authorizations', 'validations', 'caa_checks')`)
	ok(t, err)
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name, text string
		ok(t, rows.Scan(&name, &text))
		names, again = append(names, name), append(again, text)
	}
	ok(t, rows.Close())
	for _, name := range names {
		_, err := db.Exec("DROP INDEX " + name)
		ok(t, err)
	}
	return again
}

// rowWriter writes rows with their evidence.
type rowWriter struct {
	t       testing.TB
	tx      *sql.Tx
	inserts map[string]*sql.Stmt
	signer  bulkhead.Hash
	account string
	at      time.Time
	head    int64
	chain   bulkhead.Hash
	csr     []byte
}

func newRowWriter(t testing.TB, db *sql.DB, a bulkhead.Authority, account string) *rowWriter {
	tx, err := db.Begin()
	ok(t, err)
	w := &rowWriter{t: t, tx: tx, inserts: map[string]*sql.Stmt{}, signer: bulkhead.Digest(a.SPKI), account: account, at: time.Now().UTC().Truncate(time.Second)}
	var chain []byte
	ok(t, tx.QueryRow("SELECT seq, chain FROM evidence_head WHERE id = 1").Scan(&w.head, &chain))
	copy(w.chain[:], chain)
	return w
}

// row inserts into a table, columns named "a, b, c".
func (w *rowWriter) row(table, columns string, values ...any) {
	w.t.Helper()
	s := w.inserts[table]
	if s == nil {
		var err error
		s, err = w.tx.PrepareContext(context.Background(), "INSERT INTO "+table+" ("+columns+") VALUES (?"+strings.Repeat(", ?", len(values)-1)+")")
		ok(w.t, err)
		w.inserts[table] = s
	}
	_, err := s.Exec(values...)
	ok(w.t, err)
}

func (w *rowWriter) leaf(e bulkhead.Evidence) int64 {
	w.t.Helper()
	e.At = w.at
	leaf, err := tlog.Marshal(e)
	ok(w.t, err)
	w.head, w.chain = w.head+1, tlog.Chain(w.chain, leaf)
	w.row("evidence", "seq, leaf, chain", w.head, leaf, w.chain[:])
	return w.head
}

func (w *rowWriter) certificate(i int, c made, m *model) {
	at, names, authorization, none := w.at.Unix(), `[{"type":"dns","value":"`+c.name+`"}]`, id("authorization", i/reuse), []byte{}
	by := "account:" + w.account
	if i%reuse == 0 {
		w.row("authorizations", "id, account_id, name_type, name, wildcard, state, challenges, expires_at, created_at", authorization, w.account, "dns", c.name, 0, "valid",
			`[{"id":"`+id("challenge", i)+`","method":"http-01","token":"`+id("token", i)+`","state":"valid","validatedAt":`+fmt.Sprint(at)+`}]`, at+30*86400, at)
		w.row("validations", "id, authorization_id, account_id, name_type, name, wildcard, method, at, reuse_until, detail", id("validation", i), authorization, w.account, "dns", c.name, 0, "http-01", at, at+30*86400, "http-01 from 192.0.2.1:80")
		w.leaf(bulkhead.Evidence{Kind: bulkhead.EvValidation, Actor: by, Ref: authorization, Detail: "dns " + c.name + " by http-01: valid: http-01 from 192.0.2.1:80"})
	}
	serial := c.serial.Fixed()
	w.row("orders", "id, account_id, state, identifiers, authorizations, profile, authority, csr, issuer, serial, replaces_issuer, replaces_serial, problem, expires_at, created_at, processing_since",
		c.order, w.account, "valid", names, `["`+authorization+`"]`, "tls-server", string(issuing), w.csr, string(issuing), serial[:], "", none, "", at+7*86400, at, at)
	w.row("order_authorizations", "order_id, authorization_id", c.order, authorization)
	w.row("caa_checks", "order_id, name_type, name, at, valid_until, result, detail", c.order, "dns", c.name, at, at+8*3600, "permitted", "no CAA record up to the root")
	w.leaf(bulkhead.Evidence{Kind: bulkhead.EvCAA, Actor: by, Ref: c.order, Detail: "permitted: " + c.name + ": no CAA record up to the root"})
	e := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, Actor: "role:signer", Authority: issuing, Serial: c.serial, Ref: c.order, KeyHash: c.key, Signer: w.signer, Digest: c.tbs, Detail: "tls-server"}
	intent := w.leaf(e)
	e.Kind, e.Link, e.Digest, e.Detail = bulkhead.EvCertificateOutcome, c.tbs, bulkhead.Digest(c.der), ""
	outcome := w.leaf(e)
	w.row("certificates", "intent_seq, issuer, serial, kind, state, profile, names, subject, key_hash, intent_digest, fingerprint, account_id, order_id, not_before, not_after, shard, revoked_at, reason, reserved_at, replaces_issuer, replaces_serial, replaced_by_issuer, replaced_by_serial, outcome_seq",
		intent, string(issuing), serial[:], "leaf", "issued", "tls-server", names, "CN="+c.name, c.key[:], c.tbs[:], e.Digest[:], w.account, c.order, m.notBefore.Unix(), m.after.Unix(), i%8, 0, 0, at, "", none, "", none, outcome)
	w.row("certificate_ders", "intent_seq, der", intent, c.der)
	w.row("certificate_names", "reversed, intent_seq", reversed(c.name), intent)
}

func reversed(name string) string {
	b := []byte(name)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

// end moves head and counter, and commits.
func (w *rowWriter) end(n int) {
	w.t.Helper()
	_, err := w.tx.Exec("UPDATE evidence_head SET seq = ?, chain = ? WHERE id = 1", w.head, w.chain[:])
	ok(w.t, err)
	_, err = w.tx.Exec("UPDATE signature_counters SET announced = announced + ?1, made = made + ?1 WHERE key_hash = ?2", n, w.signer[:])
	ok(w.t, err)
	ok(w.t, w.tx.Commit())
}

// TestPopulation: what the benchmarks work on is a house without a fault, by both ways of looking, and its certificates are signed.
func TestPopulation(t *testing.T) {
	dir := populated(t, 250)
	r := proved(t, run.ProveOptions{Dir: dir})
	if !r.OK || r.Uncovered != 0 {
		t.Fatal(r.Text())
	}
	found, err := run.Fsck(t.Context(), dir)
	ok(t, err)
	for _, f := range found {
		if f.Level != "ok" {
			t.Errorf("fsck: %+v", f)
		}
	}
	if a, err := x509.ParseCertificate(sampleOf(t, dir)); err != nil || a.CheckSignatureFrom(issuerOf(t, dir)) != nil {
		t.Errorf("the certificates: %v", err)
	}
}

// sampleOf is one of the certificates.
func sampleOf(t testing.TB, dir string) (der []byte) {
	db, err := sql.Open("sqlite", filepath.Join(dir, "bulkhead.db"))
	ok(t, err)
	defer db.Close()
	ok(t, db.QueryRow("SELECT d.der FROM certificate_ders d JOIN certificates c ON c.intent_seq = d.intent_seq WHERE c.order_id <> '' ORDER BY d.intent_seq DESC LIMIT 1").Scan(&der))
	return der
}

func issuerOf(t testing.TB, dir string) *x509.Certificate {
	db, err := sql.Open("sqlite", filepath.Join(dir, "bulkhead.db"))
	ok(t, err)
	defer db.Close()
	var der []byte
	ok(t, db.QueryRow("SELECT certificate FROM authorities WHERE id = ?", string(issuing)).Scan(&der))
	x, err := x509.ParseCertificate(der)
	ok(t, err)
	return x
}
