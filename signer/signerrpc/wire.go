// Package signerrpc carries the signer's door from one process to another: JSON over HTTP with mutual TLS from the
// house's own infrastructure authority.
//
// Purpose: the process that holds issuing keys answers nobody but the roles of the house, and each role only what its
// work needs. The table Allowed is that list, and the only one.
//
// Invariant: who calls is read from the certificate that the connection proved, never from the request. A role learns
// from an answer what the door in one process would have told it, faults included, and nothing of causes.
//
// Refuses: a caller without a role's certificate, a method that is not on the caller's list, a listener's certificate
// for the name of a role, an identity for any role but the caller's own, bodies above a limit, more calls at once than
// the signer can use.
package signerrpc

import (
	"strings"
	"time"

	"bulkhead"
)

// Role is a process of the house, by its work.
type Role string

// Roles of a house.
const (
	Signer   Role = "signer"
	Enroll   Role = "enroll"
	Status   Role = "status"
	Edge     Role = "edge"
	Evidence Role = "evidence"
	Incident Role = "incident"
	Scan     Role = "scan"
	Watch    Role = "watch"
	Console  Role = "console"
)

// Roles lists them.
var Roles = []Role{Signer, Enroll, Status, Edge, Evidence, Incident, Scan, Watch, Console}

// Method is one thing to ask of the signer.
type Method string

// Methods.
const (
	Issue    Method = "issue"    // a certificate for an order whose evidence stands in the record
	Answers  Method = "answers"  // OCSP answers, said of what the record says
	CRL      Method = "crl"      // the CRL of one shard
	Shadow   Method = "shadow"   // what would be said with a change; nothing is signed
	Head     Method = "head"     // the signature on a status head
	Listener Method = "listener" // a certificate for a listener of the house
	Identity Method = "identity" // the caller's own certificate again, for a new key
)

// Allowed says which roles may call which method. A role that is taken over can ask for what stands here and no more;
// what is asked is still judged by the signer against the record.
var Allowed = map[Method][]Role{
	Issue:    {Enroll, Console},
	Answers:  {Status},
	CRL:      {Status},
	Shadow:   {Status, Enroll, Console},
	Head:     {Status},
	Listener: {Enroll, Console},
	Identity: {Enroll, Status, Edge, Evidence, Incident, Scan, Watch, Console},
}

// May reports whether the role may call the method.
func (m Method) May(r Role) bool {
	for _, x := range Allowed[m] {
		if x == r {
			return true
		}
	}
	return false
}

// roleSuffix ends the DNS name of a role's certificate. The domain is private (".internal") and no listener of the house
// may be called so.
const roleSuffix = ".role.internal"

// Name is the DNS name in the certificate of a role.
func (r Role) Name() string { return string(r) + roleSuffix }

// RoleOf finds the role that a certificate's DNS names speak for: exactly one name, and a known role.
func RoleOf(names []string) (Role, bool) {
	if len(names) != 1 {
		return "", false
	}
	text, ok := strings.CutSuffix(names[0], roleSuffix)
	for _, r := range Roles {
		if ok && string(r) == text {
			return r, true
		}
	}
	return "", false
}

// ParseRole reads the name of a role; "ra" and "va" are the field's words for enroll and status.
func ParseRole(text string) (Role, error) {
	switch text {
	case "ra":
		return Enroll, nil
	case "va":
		return Status, nil
	}
	for _, r := range Roles {
		if string(r) == text {
			return r, nil
		}
	}
	return "", bulkhead.Faultf(bulkhead.KindUsage, "there is no role %q", text).WithHint("roles: signer, enroll, status, edge, evidence, incident, scan, watch, console")
}

// certifyRequest asks for a certificate of the house's own.
type certifyRequest struct {
	Names []bulkhead.Identifier `json:"names,omitempty"`
	CSR   []byte                `json:"csr"`
}

// headRequest and headAnswer carry a head.
type headRequest struct {
	Body []byte `json:"body"`
}

type headAnswer struct {
	Signed []byte `json:"signed"`
}

// problem is a fault on the wire: what the asker may know, no cause.
type problem struct {
	Kind   bulkhead.Kind       `json:"kind"`
	Detail string              `json:"detail"`
	Hint   string              `json:"hint,omitempty"`
	Retry  time.Duration       `json:"retry,omitempty"`
	Subs   []bulkhead.SubFault `json:"subs,omitempty"`
}

const (
	prefix     = "/signer/v1/"
	mediaType  = "application/json"
	maxRequest = 4 << 20 // a batch of 1,000 serials is 50 KB
	// crlRecord is the trailer in which the record of a CRL follows its octets, as JSON.
	crlRecord = "Bulkhead-Crl-Record"
	// crlFault is the trailer of a CRL that broke off after its first octets.
	crlFault = "Bulkhead-Fault"
)

// statusOf maps kinds to HTTP for logs and proxies; the client reads the kind.
func statusOf(k bulkhead.Kind) int {
	switch k {
	case bulkhead.KindUnauthorized:
		return 401
	case bulkhead.KindForbidden, bulkhead.KindGate, bulkhead.KindStopped:
		return 403
	case bulkhead.KindNotFound:
		return 404
	case bulkhead.KindConflict:
		return 409
	case bulkhead.KindRateLimited:
		return 429
	case bulkhead.KindInternal:
		return 500
	case bulkhead.KindUnavailable:
		return 503
	default:
		return 400
	}
}
