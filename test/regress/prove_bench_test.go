package regress

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/evidence"
	"bulkhead/pki/tlog"
	"bulkhead/run"
)

// stamped makes certificates that differ from one model by their serial alone: true in everything that a proof looks at, at
// the price of a copy.
type stamped struct {
	raw    []byte
	at     int // of the serial, 16 octets
	tbs    [2]int
	issuer bulkhead.AuthorityID
	key    bulkhead.Hash
}

func newStamped(t testing.TB, issuer bulkhead.AuthorityID) *stamped {
	t.Helper()
	key := newKey(t)
	mark := bytes.Repeat([]byte{0x5a}, 16)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: new(big.Int).SetBytes(mark), Subject: pkix.Name{CommonName: "bulk.test"}, DNSNames: []string{"bulk.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour)}, &x509.Certificate{Subject: pkix.Name{CommonName: "bulk"}}, key.Public(), key)
	ok(t, err)
	x, err := x509.ParseCertificate(der)
	ok(t, err)
	from := bytes.Index(der, x.RawTBSCertificate)
	return &stamped{raw: der, at: bytes.Index(der, mark), tbs: [2]int{from, from + len(x.RawTBSCertificate)}, issuer: issuer, key: bulkhead.Digest(x.RawSubjectPublicKeyInfo)}
}

// number is certificate number i.
func (s *stamped) number(t testing.TB, i int) (bulkhead.Serial, []byte) {
	der := bytes.Clone(s.raw)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	sum[0] = sum[0]&0x3f | 0x40
	copy(der[s.at:], sum[:16])
	serial, err := bulkhead.SerialFromBig(new(big.Int).SetBytes(sum[:16]))
	ok(t, err)
	return serial, der
}

// fill puts n certificates with their leaves into the record, as the signer commits them.
func (h *house) fill(n int) {
	h.t.Helper()
	s := newStamped(h.t, issuing)
	ctx, now := h.t.Context(), h.now().UTC().Truncate(time.Second)
	a, err := h.Store.Authority(ctx, issuing)
	ok(h.t, err)
	signer := bulkhead.Digest(a.SPKI)
	for from := 0; from < n; from += 1000 {
		var reserve []bulkhead.Reservation
		var complete []bulkhead.Completion
		for i := from; i < min(n, from+1000); i++ {
			serial, der := s.number(h.t, i)
			ref := bulkhead.CertificateRef{Issuer: issuing, Serial: serial}
			leaf := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: now, Actor: "role:signer", Authority: issuing, Serial: serial, KeyHash: s.key, Signer: signer, Digest: bulkhead.Digest(der[s.tbs[0]:s.tbs[1]]), Detail: "tls-server"}
			reserve = append(reserve, bulkhead.Reservation{Intent: leaf, Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved, Profile: "tls-server", Subject: "CN=bulk.test",
				Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "bulk.test"}}, KeyHash: s.key, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour), ReservedAt: now}})
			leaf.Kind, leaf.Link, leaf.Digest, leaf.Detail = bulkhead.EvCertificateOutcome, leaf.Digest, bulkhead.Digest(der), ""
			complete = append(complete, bulkhead.Completion{CertificateRef: ref, DER: der, Outcome: leaf})
		}
		for _, step := range []func() ([]error, error){
			func() ([]error, error) { _, errs, err := h.Store.Reserve(ctx, reserve); return errs, err },
			func() ([]error, error) { _, errs, err := h.Store.Complete(ctx, complete); return errs, err },
		} {
			errs, err := step()
			ok(h.t, err)
			for _, err := range errs {
				ok(h.t, err)
			}
		}
	}
}

// cover has the log cover every row of a house that does not run.
func cover(t testing.TB, dir string) {
	t.Helper()
	cfg, err := run.LoadConfig(dir)
	ok(t, err)
	store, err := run.OpenStore(t.Context(), dir, cfg)
	ok(t, err)
	defer store.Close()
	head, _, err := store.EvidenceHead(t.Context())
	ok(t, err)
	l, err := evidence.New(evidence.Config{Rows: store, Dir: filepath.Join(dir, "evidence"), Origin: cfg.House + "/evidence", KeyFile: filepath.Join(dir, "evidence.key"),
		Interval: evidence.MinInterval, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	ok(t, err)
	defer l.Close()
	cl := coverer(t, l)
	defer cl()
	for end := time.Now().Add(20 * time.Minute); l.Checkpoint().Size < head; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("covered %d of %d", l.Checkpoint().Size, head)
		}
	}
}

// readTiles is the reference: every tile read once, each leaf proved against the checkpoint and parsed.
func readTiles(t testing.TB, dir string) {
	t.Helper()
	v := readKey(t, filepath.Join(dir, "evidence.key.pub"))
	read := func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, "evidence", name)) }
	signed, err := read("checkpoint")
	ok(t, err)
	cp, err := tlog.OpenCheckpoint(signed, v.Name(), v)
	ok(t, err)
	ok(t, tlog.Walk(read, cp, 0, func(_ int64, leaf []byte) error { _, err := tlog.Parse(leaf); return err }))
}

// readBytes reads the files of the log and does nothing with them.
func readBytes(t testing.TB, dir string) {
	t.Helper()
	ok(t, filepath.WalkDir(filepath.Join(dir, "evidence", "tile"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(io.Discard, f)
		return err
	}))
}

// BenchmarkProve proves a house with -certificates certificates and prints the ratio to reading its evidence tiles once, with
// proof and parsing of each leaf (x-read), and to the bare reading of their octets (x-bytes).
func BenchmarkProve(b *testing.B) {
	dir := populated(b, *bulkSize)
	var proved, read, plain time.Duration
	for b.Loop() {
		plain += timed(func() { readBytes(b, dir) })
		read += timed(func() { readTiles(b, dir) })
		proved += timed(func() {
			r, err := run.Prove(b.Context(), run.ProveOptions{Dir: dir, All: true, Now: time.Now()})
			ok(b, err)
			if !r.OK {
				b.Fatal(r.Text())
			}
		})
	}
	b.ReportMetric(float64(proved)/float64(read), "x-read")
	b.ReportMetric(float64(proved)/float64(plain), "x-bytes")
	b.ReportMetric(proved.Seconds()/float64(b.N), "prove-s")
	b.ReportMetric(read.Seconds()/float64(b.N), "read-s")
}

func timed(f func()) time.Duration { at := time.Now(); f(); return time.Since(at) }

// coverer runs a log until the returned function is called.
func coverer(t testing.TB, l *evidence.Log) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		ok(t, <-done)
	}
}

func readKey(t testing.TB, path string) note.Verifier {
	t.Helper()
	text, err := os.ReadFile(path)
	ok(t, err)
	v, err := note.NewVerifier(strings.TrimSpace(string(text)))
	ok(t, err)
	return v
}
