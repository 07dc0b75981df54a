// Package sct speaks of signed certificate timestamps (RFC 6962): reading, writing and verifying them, and the two forms of
// a TBSCertificate between which a log's signature moves.
//
// Purpose: a precertificate carries the critical poison, a certificate the list of timestamps; without either they are the
// same octets, and that is what a log signs.
//
// Invariant: pure: time is a parameter. Bytes that were read are written again unchanged, extensions included (static-ct
// logs keep the index of the leaf there).
//
// Refuses: timestamps of logs that are not known, with a signature that does not verify under the log's key, from the
// future or before the certificate could exist.
package sct

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"bulkhead"
)

// SCT is a version 1 timestamp (RFC 6962 section 3.2).
type SCT struct {
	LogID      [32]byte // SHA-256 of the log's SubjectPublicKeyInfo
	Timestamp  uint64   // milliseconds since 1970
	Extensions []byte   // kept as received
	Hash, Sig  uint8    // SignatureAndHashAlgorithm (RFC 5246 section 7.4.1.4.1)
	Signature  []byte
}

// At is the time of the timestamp.
func (s SCT) At() time.Time { return time.UnixMilli(int64(s.Timestamp)).UTC() }

const (
	hashSHA256 = 4
	sigRSA     = 1
	sigECDSA   = 3
	// skew is how far ahead of ours a log's clock may be.
	skew = time.Minute
	// oldest is how long before now a timestamp for a new precertificate may lie: a log may answer a repeated submission
	// with its first timestamp.
	oldest = 24 * time.Hour
)

// Log is a log whose timestamps are accepted.
type Log struct {
	Name     string
	Operator string
	Key      []byte    // DER SubjectPublicKeyInfo
	From     time.Time // it takes certificates whose notAfter is in [From, Until); zero for no bound
	Until    time.Time
	Tiled    bool // static-ct-api; at least one timestamp must come from a log that is not
}

// ID names the log in its timestamps.
func (l Log) ID() [32]byte { return sha256.Sum256(l.Key) }

// Takes reports whether the log's temporal interval holds the end of a certificate.
func (l Log) Takes(notAfter time.Time) bool {
	return (l.From.IsZero() || !notAfter.Before(l.From)) && (l.Until.IsZero() || notAfter.Before(l.Until))
}

// Marshal is the TLS encoding.
func (s SCT) Marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddUint8(0) // v1
	b.AddBytes(s.LogID[:])
	b.AddUint64(s.Timestamp)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.Extensions) })
	b.AddUint8(s.Hash)
	b.AddUint8(s.Sig)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.Signature) })
	return b.Bytes()
}

// Parse reads one timestamp and refuses anything behind it.
func Parse(raw []byte) (SCT, error) {
	var s SCT
	in := cryptobyte.String(raw)
	var version uint8
	var extensions, signature cryptobyte.String
	var id []byte
	if !in.ReadUint8(&version) || version != 0 || !in.ReadBytes(&id, 32) || !in.ReadUint64(&s.Timestamp) || !in.ReadUint16LengthPrefixed(&extensions) ||
		!in.ReadUint8(&s.Hash) || !in.ReadUint8(&s.Sig) || !in.ReadUint16LengthPrefixed(&signature) || !in.Empty() {
		return SCT{}, malformed("bytes are no version 1 timestamp")
	}
	copy(s.LogID[:], id)
	s.Extensions, s.Signature = bytes.Clone(extensions), bytes.Clone(signature)
	return s, nil
}

// MarshalList is the SignedCertificateTimestampList (RFC 6962 section 3.3).
func MarshalList(list []SCT) ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, s := range list {
			raw, err := s.Marshal()
			if err != nil {
				b.SetError(err)
				return
			}
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(raw) })
		}
	})
	return b.Bytes()
}

// ParseList reads a list of one or more.
func ParseList(raw []byte) ([]SCT, error) {
	in := cryptobyte.String(raw)
	var body cryptobyte.String
	if !in.ReadUint16LengthPrefixed(&body) || !in.Empty() || body.Empty() {
		return nil, malformed("bytes are no list of timestamps")
	}
	var list []SCT
	for !body.Empty() {
		var one cryptobyte.String
		if !body.ReadUint16LengthPrefixed(&one) {
			return nil, malformed("bytes are no list of timestamps")
		}
		s, err := Parse(one)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// SignedPrecert is what a log signs for a precertificate (RFC 6962 section 3.2): tbs has neither poison nor timestamps,
// issuerKey is the issuer's DER SubjectPublicKeyInfo.
func SignedPrecert(s SCT, issuerKey, tbs []byte) ([]byte, error) {
	hash := sha256.Sum256(issuerKey)
	b := cryptobyte.NewBuilder(nil)
	b.AddUint8(0) // v1
	b.AddUint8(0) // certificate_timestamp
	b.AddUint64(s.Timestamp)
	b.AddUint16(1) // precert_entry
	b.AddBytes(hash[:])
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(tbs) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.Extensions) })
	return b.Bytes()
}

// Verify holds a timestamp against the log that it must be from, the precertificate and the time. KindGate says what is
// wrong.
func Verify(s SCT, log Log, issuerKey, tbs []byte, now time.Time) error {
	wrong := func(format string, args ...any) error {
		return bulkhead.Faultf(bulkhead.KindGate, "timestamp of log %s: "+format, append([]any{log.Name}, args...)...).WithHint("compare the log's key and address with its operator's list")
	}
	switch {
	case s.LogID != log.ID():
		return wrong("it names another log")
	case s.At().After(now.Add(skew)):
		return wrong("it is from the future, %s", s.At().Format(time.RFC3339))
	case s.At().Before(now.Add(-oldest)):
		return wrong("it is older than the precertificate, %s", s.At().Format(time.RFC3339))
	case s.Hash != hashSHA256:
		return wrong("hash algorithm %d is not SHA-256", s.Hash)
	}
	pub, err := x509.ParsePKIXPublicKey(log.Key)
	if err != nil {
		return wrong("its key is not readable")
	}
	signed, err := SignedPrecert(s, issuerKey, tbs)
	if err != nil {
		return fmt.Errorf("sct: %w", err)
	}
	digest := sha256.Sum256(signed)
	ok := false
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		ok = s.Sig == sigECDSA && ecdsa.VerifyASN1(k, digest[:], s.Signature)
	case *rsa.PublicKey:
		ok = s.Sig == sigRSA && rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], s.Signature) == nil
	}
	if !ok {
		return wrong("its signature does not verify")
	}
	return nil
}

func malformed(format string, args ...any) error {
	return bulkhead.Faultf(bulkhead.KindMalformed, format, args...).WithHint("RFC 6962 section 3 has the formats")
}
