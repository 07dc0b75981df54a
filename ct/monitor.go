package ct

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/sct"
	"bulkhead/pki/tlog"
)

// MonitorEvery is the time between two rounds where the configuration says nothing.
const MonitorEvery = 10 * time.Minute

const (
	maxTile  = 64 << 20 // octets of a data tile: 256 chains
	width    = 256      // entries of a full tile
	maxRound = 400      // data tiles of one log in one round, so that the others get their turn
)

// MonitoredLog is a static-ct-api log that is read.
type MonitoredLog struct {
	Name      string
	URL       string // monitoring prefix
	Origin    string // of its checkpoints
	Key       []byte // DER SubjectPublicKeyInfo
	FromStart bool   // read it from its first entry; otherwise from where it stands at the first look
}

// Record is the durable record as a monitor needs it.
type Record interface {
	CTMonitors(ctx context.Context) ([]bulkhead.CTMonitor, error)
	PutCTMonitor(ctx context.Context, m bulkhead.CTMonitor, ev bulkhead.Evidence) error
	Authorities(ctx context.Context) ([]bulkhead.Authority, error)
	Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error)
	Precertificate(ctx context.Context, ref bulkhead.CertificateRef) ([]byte, error)
	Pruned(ctx context.Context, ref bulkhead.CertificateRef) (bool, error)
}

// MonitorConfig is what a Monitor needs. Logs, Record, Now and Raise are required.
type MonitorConfig struct {
	Logs         []MonitoredLog
	Record       Record
	Now          func() time.Time
	Raise        func(ctx context.Context, a bulkhead.Alarm)
	Every        time.Duration // 0 means MonitorEvery
	AllowPrivate bool          // as in Config
	Log          *slog.Logger
}

// Monitor reads logs and holds every entry that an authority of this house signed against the record: one that the record
// does not know is D2. Each entry is proved to be in the log under the log's signature, and each checkpoint to extend the one
// before; a log that does not is an alarm.
type Monitor struct {
	cfg       MonitorConfig
	http      *http.Client
	verifiers []note.Verifier
}

// NewMonitor checks addresses and keys. KindUsage names the log that is wrong.
func NewMonitor(c MonitorConfig) (*Monitor, error) {
	if c.Record == nil || c.Now == nil || c.Raise == nil {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "a monitor needs a record, a clock and somebody to tell")
	}
	if c.Every <= 0 {
		c.Every = MonitorEvery
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &Monitor{cfg: c, http: httpClient(c.AllowPrivate, defaultTimeout)}
	m.http.Timeout = time.Minute
	for i, l := range c.Logs {
		if err := checkURL(l.Name, l.URL, c.AllowPrivate); err != nil {
			return nil, err
		}
		m.cfg.Logs[i].URL = strings.TrimRight(l.URL, "/")
		v, err := sct.NewLogVerifier(l.Origin, l.Key)
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "log %s: origin or key cannot be read", l.Name).WithHint("take both from the operator's list").WithCause(err)
		}
		m.verifiers = append(m.verifiers, v)
	}
	return m, nil
}

// Run makes rounds until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	t := time.NewTicker(m.cfg.Every)
	defer t.Stop()
	for {
		m.Round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Round reads what is new in each log. What could not be read is an alarm.
func (m *Monitor) Round(ctx context.Context) {
	for i, l := range m.cfg.Logs {
		err := m.read(ctx, i)
		if err == nil || ctx.Err() != nil {
			continue
		}
		m.cfg.Log.WarnContext(ctx, "a transparency log could not be read", slog.String("log", l.Name), slog.String("error", err.Error()))
		switch {
		case errors.Is(err, tlog.ErrFork), errors.Is(err, tlog.ErrTile), errors.Is(err, tlog.ErrLeaf):
			m.raise(ctx, "D2", "ct-log,"+l.Name, bulkhead.Critical, "transparency log %s contradicts itself: %s. What it shows may hide entries", l.Name, err)
		case bulkhead.KindOf(err) != bulkhead.KindConflict: // another process is further
			m.raise(ctx, "D2", "blind,"+l.Name, bulkhead.Warning, "transparency log %s could not be read: %s", l.Name, err)
		}
	}
}

func (m *Monitor) raise(ctx context.Context, detector, key string, severity bulkhead.Severity, format string, args ...any) {
	now := m.cfg.Now().UTC()
	m.cfg.Raise(ctx, bulkhead.Alarm{Detector: detector, Key: key, Severity: severity, Message: fmt.Sprintf(format, args...), Runbook: "d2-unknown-certificate.md", FirstAt: now, LastAt: now, Count: 1})
}

// state is what is recorded of a log.
func (m *Monitor) state(ctx context.Context, l MonitoredLog) (s bulkhead.CTMonitor, known bool, err error) {
	all, err := m.cfg.Record.CTMonitors(ctx)
	id := bulkhead.Digest(l.Key)
	for _, x := range all {
		if x.ID == id {
			x.Log = l.Name
			return x, true, err
		}
	}
	return bulkhead.CTMonitor{Log: l.Name, ID: id}, false, err
}

func (m *Monitor) read(ctx context.Context, i int) error {
	l := m.cfg.Logs[i]
	was, known, err := m.state(ctx, l)
	if err != nil {
		return err
	}
	signed, err := m.get(ctx, l, "checkpoint")
	if err != nil {
		return err
	}
	cp, err := tlog.OpenCheckpoint(signed, l.Origin, m.verifiers[i])
	if err != nil {
		return err
	}
	tiles := func(path string) ([]byte, error) { return m.get(ctx, l, path) }
	next := was
	if known {
		if cp.Size < was.Size {
			return nil // a copy that lags behind; a log that stays so is told by the age of what was read
		}
		if err := tlog.VerifyConsistency(tiles, tlog.Checkpoint{Origin: l.Origin, Size: was.Size, Root: was.Root}, cp); err != nil {
			return err
		}
	} else if !l.FromStart {
		next.First, next.Read = cp.Size, cp.Size
	}
	next.Size, next.Root, next.At = cp.Size, cp.Root, m.cfg.Now().UTC().Truncate(time.Second)
	authorities, err := m.authorities(ctx)
	if err != nil {
		return err
	}
	for n := 0; n < maxRound && next.Read < cp.Size; n++ {
		if err := m.tile(ctx, l, cp, tiles, authorities, &next); err != nil {
			return err
		}
	}
	if known && next.Read == was.Read && next.Size == was.Size {
		return nil
	}
	return m.cfg.Record.PutCTMonitor(ctx, next, bulkhead.Evidence{Kind: bulkhead.EvCTRead, At: next.At, Actor: "role:watch", Ref: l.Name, Digest: next.Root, Count: next.Read,
		Detail: fmt.Sprintf("entries %d to %d of %d; of our authorities since entry %d: %d, unknown to the record: %d", was.Read, next.Read, next.Size, next.First, next.Ours, next.Unknown)})
}

// tile reads the data tile at the state's place, proves its entries and judges them.
func (m *Monitor) tile(ctx context.Context, l MonitoredLog, cp tlog.Checkpoint, tiles tlog.TileReader, authorities []authority, s *bulkhead.CTMonitor) error {
	n := s.Read / width
	w := int(min(width, cp.Size-n*width))
	path := strings.Replace(tlog.Path(-1, n, w), "tile/entries/", "tile/data/", 1)
	raw, err := m.get(ctx, l, path)
	if errors.Is(err, fs.ErrNotExist) && w < width { // the partial tile goes once the full one is there
		raw, err = m.get(ctx, l, strings.Replace(tlog.Path(-1, n, width), "tile/entries/", "tile/data/", 1))
	}
	if err != nil {
		return err
	}
	entries, err := sct.ReadEntries(raw, w)
	if err != nil {
		return fmt.Errorf("%w: %w", tlog.ErrLeaf, err)
	}
	leaves := make([][]byte, len(entries))
	for i, e := range entries {
		leaves[i] = e.Leaf
	}
	if err := tlog.VerifyLeaves(tiles, cp, n*width, leaves); err != nil {
		return err
	}
	for i, e := range entries {
		if n*width+int64(i) < s.Read {
			continue
		}
		if err := m.entry(ctx, l, n*width+int64(i), e, authorities, s); err != nil {
			return err
		}
	}
	s.Read = n*width + int64(len(entries))
	return nil
}

// authority is one of the house's with its keys at hand.
type authority struct {
	bulkhead.Authority
	keyHash bulkhead.Hash
	key     any
}

func (m *Monitor) authorities(ctx context.Context) ([]authority, error) {
	all, err := m.cfg.Record.Authorities(ctx)
	var out []authority
	for _, a := range all {
		if a.Foreign() || len(a.SPKI) == 0 {
			continue // another house issues under it
		}
		pub, perr := x509.ParsePKIXPublicKey(a.SPKI)
		if perr != nil {
			return nil, fmt.Errorf("authority %s: %w", a.ID, perr)
		}
		out = append(out, authority{a, bulkhead.Digest(a.SPKI), pub})
	}
	return out, err
}

// entry judges one entry. Most are other authorities', and are told by the name alone.
func (m *Monitor) entry(ctx context.Context, l MonitoredLog, index int64, e sct.Entry, authorities []authority, s *bulkhead.CTMonitor) error {
	name := issuerOf(e.Certificate)
	for _, a := range authorities {
		if !bytes.Equal(name, a.Subject) && !(e.Precert && e.IssuerKey == a.keyHash) {
			continue
		}
		x, err := x509.ParseCertificate(e.Certificate)
		if err != nil {
			continue // the log took what cannot be read; it is nothing that our signer makes
		}
		parent := x509.Certificate{PublicKey: a.key, PublicKeyAlgorithm: algorithmOf(a.key)}
		if parent.CheckSignature(x.SignatureAlgorithm, x.RawTBSCertificate, x.Signature) != nil {
			continue // somebody wrote our name, or another key of that name signed
		}
		if bytes.Equal(x.Raw, a.Certificate) {
			return nil // the authority itself
		}
		s.Ours++
		known, what, err := m.known(ctx, a.ID, x)
		if err != nil {
			return err
		}
		if !known || !e.SameTBS() {
			if known {
				what = "and the log signed another TBSCertificate than this precertificate has"
			}
			s.Unknown++
			sum := bulkhead.Digest(x.Raw)
			m.raise(ctx, "D2", string(a.ID)+","+sum.String(), bulkhead.Critical, "transparency log %s, entry %d: certificate %x that our authority %s signed, %s (SHA-256 %s): a key of ours was used without us", l.Name, index, x.SerialNumber, a.ID, what, sum)
		}
		return nil
	}
	return nil
}

// known asks the record: the certificate, its precertificate, or a row that went with age.
func (m *Monitor) known(ctx context.Context, id bulkhead.AuthorityID, x *x509.Certificate) (bool, string, error) {
	serial, err := bulkhead.SerialFromBig(x.SerialNumber)
	if err != nil {
		return false, "with a serial that we never use", nil
	}
	ref := bulkhead.CertificateRef{Issuer: id, Serial: serial}
	sum := bulkhead.Digest(x.Raw)
	row, _, err := m.cfg.Record.Certificate(ctx, ref)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		old, err := m.cfg.Record.Pruned(ctx, ref)
		return old, "which the record does not know", err
	}
	if err != nil {
		return false, "", err
	}
	if row.Fingerprint == sum {
		return true, "", nil
	}
	pre, err := m.cfg.Record.Precertificate(ctx, ref)
	if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return false, "", err
	}
	return err == nil && bulkhead.Digest(pre) == sum, "and the record has another certificate with this serial", nil
}

// issuerOf cuts the issuer's name out of a certificate without parsing the rest.
func issuerOf(der []byte) []byte {
	in := cryptobyte.String(der)
	var cert, tbs, name cryptobyte.String
	if !in.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(cbasn1.Tag(0).Constructed().ContextSpecific()) || !tbs.SkipASN1(cbasn1.INTEGER) || !tbs.SkipASN1(cbasn1.SEQUENCE) ||
		!tbs.ReadASN1Element(&name, cbasn1.SEQUENCE) {
		return nil
	}
	return name
}

func algorithmOf(pub any) x509.PublicKeyAlgorithm {
	switch pub.(type) {
	case *rsa.PublicKey:
		return x509.RSA
	case *ecdsa.PublicKey:
		return x509.ECDSA
	case ed25519.PublicKey:
		return x509.Ed25519
	}
	return x509.UnknownPublicKeyAlgorithm
}

// get fetches an object of a log; fs.ErrNotExist when there is none.
func (m *Monitor) get(ctx context.Context, l MonitoredLog, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := m.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", path, res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxTile+1))
	if err == nil && len(body) > maxTile {
		err = fmt.Errorf("%s is longer than %d octets", path, maxTile)
	}
	return body, err
}
