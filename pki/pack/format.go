// Package pack holds the two formats in which status is published: the pack, an immutable object with the signed
// OCSP answers of one issuer, and the head, the one small signed text that names every issuer's packs and CRLs.
//
// Invariant: a pack says one thing of a serial, its index is sorted, and every byte is under its trailing digest, page by
// page; nothing is found in a page that was not verified. A head has exactly one encoding, and Follows orders heads so that
// nothing older replaces anything newer (promise P5). Nothing here panics or loops on hostile bytes: what is damaged is an
// error, never something else and never "not here".
//
// Refuses: serials out of order or twice, packs of different issuers in one merge, a head body that is not canonical.
// It signs no answer and does not look into one: what a TBS says is the signer's and the verifiers' concern.
package pack

import (
	"encoding/binary"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// The pack, all integers big-endian:
//
//	header     magic "BHPACK\x00\x02" · SHA-1 of issuer name, key · SHA-256 of issuer name, key
//	entries    one after the other, in serial order:
//	             ETag 16 · thisUpdate int64 · nextUpdate int64 · status uint8 · extra uint8 · responder uint16 ·
//	             length of TBS uint16 · length of signature uint16 · TBS · signature
//	           and when extra is 1, an answer of its own for the SHA-256 CertID:
//	             ETag 16 · length of TBS uint16 · length of signature uint16 · TBS · signature
//	responders each: length uint32 · DER certificate (length 0: the issuer signed for itself, nothing is embedded)
//	index      one record per entry: serial, left-padded to 20 octets · offset of the entry uint64
//	tail:
//	  pages      SHA-256 of each PageSize octets before the tail; the last page may be short
//	  directory  nothing, or uint32 each: see directory
//	  trailer    offset of responders uint64 · offset of index uint64 · offset of tail uint64 · entries uint64 ·
//	             responders uint64 · earliest and latest nextUpdate int64 · first and last serial 20 octets each · magic ·
//	             SHA-256 of the tail before it
//
// The last digest is the pack's Tail, which a head names: whoever has it verified needs to read the tail (about 2 octets an
// answer), and each page when it is first used, to be as sure of an answer as if the whole pack had been read.
//
// The index comes late so that a writer streams entries and keeps 28 octets for each in memory.
//
// Version 1, "BHPACK\x00\x01", is read as well. It has no tail, and after the index a trailer: offset of responders, offset of
// index, entries, responders, earliest and latest nextUpdate · magic · SHA-256 of everything before it.
const (
	magic  = "BHPACK\x00\x02"
	magic1 = "BHPACK\x00\x01"

	headerSize   = len(magic) + 2*20 + 2*32
	entrySize    = 16 + 8 + 8 + 1 + 1 + 2 + 2 + 2
	extraSize    = 16 + 2 + 2
	indexSize    = bulkhead.MaxSerialOctets + 8
	trailerSize  = 7*8 + 2*bulkhead.MaxSerialOctets + len(magic) + 32
	trailerSize1 = 6*8 + len(magic1) + 32

	// PageSize is how many octets of a pack one digest of its tail is for.
	PageSize = 16 << 10

	// MaxResponders bounds the responder table: a merged pack holds the delegates of a few refresh rounds.
	MaxResponders = 1024
	// MaxResponderSize bounds one responder certificate in octets.
	MaxResponderSize = 64 << 10
	// MaxPart bounds TBS and signature of one answer in octets.
	MaxPart = 1<<16 - 1
)

// Identity is how OCSP requests name an issuer (RFC 6960 section 4.1.1): hashes of its DER name and of the octets of
// its public key, under both digests that pre-signed answers hold.
type Identity struct {
	NameSHA1, KeySHA1     [20]byte
	NameSHA256, KeySHA256 [32]byte
}

// IdentityOf takes the two pairs of hashes from an issuer; the zero Issuer gives the zero Identity.
func IdentityOf(issuer ocsp.Issuer) (i Identity) {
	a, b := issuer.CertID(ocsp.SHA1, bulkhead.Serial{}), issuer.CertID(ocsp.SHA256, bulkhead.Serial{})
	copy(i.NameSHA1[:], a.NameHash)
	copy(i.KeySHA1[:], a.KeyHash)
	copy(i.NameSHA256[:], b.NameHash)
	copy(i.KeySHA256[:], b.KeyHash)
	return i
}

func (i *Identity) appendTo(b []byte) []byte {
	b = append(b, i.NameSHA1[:]...)
	b = append(b, i.KeySHA1[:]...)
	b = append(b, i.NameSHA256[:]...)
	return append(b, i.KeySHA256[:]...)
}

func identityAt(b []byte) (i Identity) {
	copy(i.NameSHA1[:], b[0:])
	copy(i.KeySHA1[:], b[20:])
	copy(i.NameSHA256[:], b[40:])
	copy(i.KeySHA256[:], b[72:])
	return i
}

// ETagSize is the length of an entry's digest: the first 16 octets of the SHA-256 of the assembled OCSPResponse.
const ETagSize = 16

func u16(b []byte) int    { return int(binary.BigEndian.Uint16(b)) }
func u32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
