package watch

import (
	"context"
	"time"

	"bulkhead"
)

// Sightings of what servers show on the wire.
const (
	// CertificateOnWire is a certificate with a signature of one of our keys: Issuer, Serial, Fingerprint, and where in Detail.
	CertificateOnWire SightingKind = "certificate-on-wire"
	// KeyOnWire is the key of any certificate: Key, notBefore of the certificate in Since, and where in Detail. Issuer, Serial and
	// Fingerprint are set when a key of ours signed it.
	KeyOnWire SightingKind = "key-on-wire"
)

// WireStore is the record as the detectors of the wire need it.
type WireStore interface {
	Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error)
	// Precertificate returns what was submitted to logs before a certificate was signed; KindNotFound when nothing was.
	Precertificate(ctx context.Context, ref bulkhead.CertificateRef) ([]byte, error)
	Pruned(ctx context.Context, ref bulkhead.CertificateRef) (bool, error)
	BlockedKeys(ctx context.Context, hashes ...bulkhead.Hash) ([]bulkhead.BlockedKey, error)
}

// UnknownCertificate is D2: a server or a log shows a certificate that one of our keys has signed and our record does not know, or
// knows as another. In 2011 such certificates were in use for weeks before anybody found them.
type UnknownCertificate struct{ Store WireStore }

// ID implements Detector.
func (UnknownCertificate) ID() string { return "D2" }

// Wants implements Detector.
func (UnknownCertificate) Wants(k SightingKind) bool { return k == CertificateOnWire }

// Judge implements Detector.
func (d UnknownCertificate) Judge(ctx context.Context, s Sighting) (*bulkhead.Alarm, error) {
	ref := bulkhead.CertificateRef{Issuer: s.Issuer, Serial: s.Serial}
	if pre, err := d.Store.Precertificate(ctx, ref); err == nil && bulkhead.Digest(pre) == s.Fingerprint {
		return nil, nil // logs hold precertificates (RFC 6962 section 3.1), and this one is ours
	} else if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return nil, err
	}
	c, _, err := d.Store.Certificate(ctx, ref)
	what := "which the record does not know"
	switch {
	case err == nil && c.Fingerprint == s.Fingerprint && (c.State == bulkhead.Issued || c.State == bulkhead.Revoked):
		return nil, nil
	case err == nil && c.Fingerprint != s.Fingerprint && !c.Fingerprint.IsZero():
		what = "and the record has another certificate with this serial"
	case err == nil:
		what = "which the record has as " + string(c.State) + ", handed to nobody"
	case bulkhead.KindOf(err) != bulkhead.KindNotFound:
		return nil, err
	default:
		if old, err := d.Store.Pruned(ctx, ref); old || err != nil {
			return nil, err
		}
	}
	return &bulkhead.Alarm{
		Detector: d.ID(), Key: string(s.Issuer) + "," + s.Fingerprint.String(), Severity: bulkhead.Critical, Runbook: "d2-unknown-certificate.md", FirstAt: s.At, LastAt: s.At, Count: 1,
		Message: s.Detail + " shows certificate " + s.Serial.String() + " that our authority " + string(s.Issuer) + " signed, " + what + " (SHA-256 " + s.Fingerprint.String() + "): a key of ours was used without us",
	}, nil
}

// KeyReappears is D12 on the wire: a key that is blocked is in a certificate that was made after the block, by whomever.
type KeyReappears struct{ Store WireStore }

// ID implements Detector.
func (KeyReappears) ID() string { return "D12" }

// Wants implements Detector.
func (KeyReappears) Wants(k SightingKind) bool { return k == KeyOnWire }

// blockGrace allows for the clocks of other authorities, which set notBefore back.
const blockGrace = 24 * time.Hour

// Judge implements Detector. A certificate from before the block is what a campaign replaces, and no news.
func (d KeyReappears) Judge(ctx context.Context, s Sighting) (*bulkhead.Alarm, error) {
	blocked, err := d.Store.BlockedKeys(ctx, s.Key)
	if err != nil || len(blocked) == 0 || !s.Since.After(blocked[0].BlockedAt.Add(-blockGrace)) {
		return nil, err
	}
	if s.Issuer != "" { // of our own certificates we know when they were made, to the second
		c, _, err := d.Store.Certificate(ctx, bulkhead.CertificateRef{Issuer: s.Issuer, Serial: s.Serial})
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
			return nil, err
		}
		if err == nil && c.Fingerprint == s.Fingerprint && !c.ReservedAt.After(blocked[0].BlockedAt) {
			return nil, nil
		}
	}
	return &bulkhead.Alarm{
		Detector: d.ID(), Key: "wire," + s.Key.String(), Severity: bulkhead.Warning, Runbook: "d12-blocked-key.md", FirstAt: s.At, LastAt: s.At, Count: 1,
		Message: s.Detail + " shows a certificate of " + s.Since.UTC().Format(time.DateOnly) + " with a key that was blocked on " + blocked[0].BlockedAt.UTC().Format(time.DateOnly) + " (SHA-256 of its SPKI " + s.Key.String() + "): the same key was certified again",
	}, nil
}
