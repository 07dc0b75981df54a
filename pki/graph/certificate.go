package graph

import (
	"crypto"
	"math/big"
	"net/netip"
	"slices"
	"time"

	"bulkhead"
)

// Limits. Each is far above what occurs and keeps hostile input cheap.
const (
	MaxCertificate = 1 << 18 // octets of one certificate; larger ones are Unparsed
	maxNames       = 10000   // general names read of one certificate; more are a Problem
	maxCandidates  = 16      // keys of the issuer's name tried against one signature
	maxBelow       = 15      // intermediates, self-issued ones not counted, in one path
)

// Source is where a certificate came from.
type Source struct {
	File  string `json:"file"`
	Index int    `json:"index"` // position in the file, from 0: of the PEM block, or of the DER certificate
}

// Unparsed is an input that is no certificate that can be read.
type Unparsed struct {
	Source
	Reason string `json:"reason"`
}

// Certificate is what this package needs of a certificate (RFC 5280 section 4.1), read so leniently that crypto/x509
// refusing it does not matter.
type Certificate struct {
	Hash      bulkhead.Hash // SHA-256 of Raw
	Raw       []byte
	Source    Source // the first place it was found
	Subject   string // for people, RFC 4514 in spirit; "" for the empty name
	Issuer    string
	Serial    *big.Int
	NotBefore time.Time // UTC; zero when unreadable
	NotAfter  time.Time
	CA        bool     // basicConstraints with cA
	PathLen   int      // -1: no limit
	Usages    []string // extended key usages, dotted
	NoCheck   bool     // id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1)
	Version   int      // 1, 2 or 3
	Problems  []string // what is malformed in it

	id            int    // position in its Graph
	rank          int    // position by subject and hash
	serialLen     int    // content octets as encoded
	subject       string // canonical name
	issuer        string
	spki          []byte
	key           crypto.PublicKey // nil when the algorithm is not supported
	keyProblem    string
	ski, aki      string // raw octets; "" when absent
	tbs           []byte
	algorithm     string // OID of the signature algorithm
	parameters    []byte // DER of its parameters
	signature     []byte
	names         []generalName
	permitted     []subtree
	excluded      []subtree
	hasConstraint bool
}

// kind is the tag of a general name (RFC 5280 section 4.2.1.6).
type kind uint8

const (
	kindMail kind = 1
	kindDNS  kind = 2
	kindDir  kind = 4
	kindURI  kind = 6
	kindIP   kind = 7
)

// generalName is one name of a subject.
type generalName struct {
	kind kind
	text string
	addr netip.Addr
	rdns []string // canonical RDNs of a directory name
}

// subtree is one name constraint.
type subtree struct {
	kind   kind
	text   string
	prefix netip.Prefix
	rdns   []string
}

// KeyHash is the SHA-256 of the SubjectPublicKeyInfo.
func (c *Certificate) KeyHash() bulkhead.Hash { return bulkhead.Digest(c.spki) }

// SelfIssued reports that subject and issuer are the same name (RFC 5280 section 6.1).
func (c *Certificate) SelfIssued() bool { return c.subject == c.issuer }

func (c *Certificate) hasUsage(oid string) bool { return slices.Contains(c.Usages, oid) }

// validAt says whether t is within the validity; every certificate is valid at the zero time.
func (c *Certificate) validAt(t time.Time) bool {
	return t.IsZero() || !t.Before(c.NotBefore) && !t.After(c.NotAfter)
}

// mayIssue reports whether certificates below it can be valid: cA, or a self-issued certificate from before version 3,
// which is how old roots look.
func (c *Certificate) mayIssue() bool { return c.CA || c.Version < 3 && c.SelfIssued() }
