package bulkhead

import (
	"net/netip"
	"time"
)

// Verdict is what one look says about CVE-2014-0160 (Heartbleed) at one endpoint. There is no "safe": what was not seen
// is unreachable or inconclusive, and neither is ever read as good news.
type Verdict string

// Verdicts, a closed set. The first three were seen; the last two say that nothing was.
const (
	Vulnerable   Verdict = "vulnerable"    // a heartbeat that overstated its length was answered with more than was sent
	Patched      Verdict = "patched"       // the heartbeat extension is negotiated, the overstated one was not answered so
	NotSupported Verdict = "not_supported" // no version that the server speaks negotiates the heartbeat extension
	Unreachable  Verdict = "unreachable"   // no connection
	Inconclusive Verdict = "inconclusive"  // a connection, and no proof of any of the above
)

// Verdicts lists every verdict.
var Verdicts = []Verdict{Vulnerable, Patched, NotSupported, Unreachable, Inconclusive}

// Seen reports whether the verdict rests on what the server did; a gate may only go by verdicts that were seen.
func (v Verdict) Seen() bool { return v == Vulnerable || v == Patched || v == NotSupported }

// Means is the verdict in one sentence for a person.
func (v Verdict) Means() string {
	switch v {
	case Vulnerable:
		return "VULNERABLE: the server returns memory to strangers (CVE-2014-0160). Patch, make a new key, replace the certificate, revoke the old one."
	case Patched:
		return "patched: the server supports heartbeat and discards or refuses the malformed one."
	case NotSupported:
		return "not supported: the server negotiates no heartbeat on any version that it speaks, so it cannot be asked for memory this way."
	case Unreachable:
		return "unreachable: no connection was made, so nothing is known."
	case Inconclusive:
		return "inconclusive: the server was reached and the look could not tell. This is not an all-clear."
	}
	return "unknown verdict " + string(v)
}

// LookReason is the machine code of why a look came to its verdict. Each belongs to exactly one verdict.
type LookReason string

// Reasons of looks.
const (
	ReasonOverread LookReason = "overread" // more payload came back than was sent

	ReasonDiscarded LookReason = "malformed_discarded" // only the well-formed heartbeat was answered
	ReasonAlerted   LookReason = "malformed_alerted"   // a fatal alert followed the malformed heartbeat at once
	ReasonClosed    LookReason = "malformed_closed"    // the connection was closed on the malformed heartbeat at once
	ReasonClipped   LookReason = "answer_clipped"      // answered with no more than was sent

	ReasonNotNegotiated LookReason = "heartbeat_not_negotiated" // on every version that the server speaks
	ReasonTLS13Only     LookReason = "tls13_only"               // it speaks nothing that ever had the fault

	ReasonRefused        LookReason = "connection_refused"
	ReasonNoRoute        LookReason = "no_route"
	ReasonNameUnresolved LookReason = "name_not_resolved" // no address to look at
	ReasonConnectTimeout LookReason = "connect_timeout"
	ReasonDialDenied     LookReason = "dial_denied" // the caller's guard, or the dial failed in another way

	ReasonNoHello          LookReason = "no_server_hello"        // connected, and silence after our hello
	ReasonHelloRefused     LookReason = "hello_refused"          // every hello was refused with an alert or a close
	ReasonNameRequired     LookReason = "server_name_required"   // refused, and no name was given to ask for
	ReasonNotTLS           LookReason = "not_tls"                // what came back is not TLS
	ReasonMalformedTLS     LookReason = "malformed_tls"          // TLS records with nonsense inside
	ReasonTruncated        LookReason = "flight_truncated"       // closed before the server hello was done
	ReasonStalled          LookReason = "flight_stalled"         // silence before the server hello was done
	ReasonTooMuch          LookReason = "too_much_data"          // more than any server sends; given up
	ReasonHeartbeatSilence LookReason = "heartbeat_unanswered"   // neither heartbeat was answered in time
	ReasonHeartbeatLate    LookReason = "heartbeat_closed_late"  // closed without an answer, too late to be an answer
	ReasonAnswerTruncated  LookReason = "answer_truncated"       // an answer began and did not end
	ReasonVersionsUnseen   LookReason = "versions_unseen"        // no heartbeat so far, but not every version was seen
	ReasonSTARTTLSRefused  LookReason = "starttls_refused"       // the server offers no STARTTLS
	ReasonSTARTTLSFailed   LookReason = "starttls_failed"        // the dialogue before TLS broke or fell silent
	ReasonCancelled        LookReason = "cancelled"              // the caller's context ended
	ReasonBadEndpoint      LookReason = "endpoint_not_supported" // unknown STARTTLS protocol, no address or port
)

// LookReasons gives the verdict of each reason.
var LookReasons = map[LookReason]Verdict{
	ReasonOverread:  Vulnerable,
	ReasonDiscarded: Patched, ReasonAlerted: Patched, ReasonClosed: Patched, ReasonClipped: Patched,
	ReasonNotNegotiated: NotSupported, ReasonTLS13Only: NotSupported,
	ReasonRefused: Unreachable, ReasonNoRoute: Unreachable, ReasonConnectTimeout: Unreachable, ReasonDialDenied: Unreachable,
	ReasonNameUnresolved: Unreachable,
	ReasonNoHello:        Inconclusive, ReasonHelloRefused: Inconclusive, ReasonNameRequired: Inconclusive, ReasonNotTLS: Inconclusive,
	ReasonMalformedTLS: Inconclusive, ReasonTruncated: Inconclusive, ReasonStalled: Inconclusive, ReasonTooMuch: Inconclusive,
	ReasonHeartbeatSilence: Inconclusive, ReasonHeartbeatLate: Inconclusive, ReasonAnswerTruncated: Inconclusive,
	ReasonVersionsUnseen: Inconclusive, ReasonSTARTTLSRefused: Inconclusive, ReasonSTARTTLSFailed: Inconclusive,
	ReasonCancelled: Inconclusive, ReasonBadEndpoint: Inconclusive,
}

// STARTTLS names the protocol spoken before TLS; the empty value is TLS from the first byte.
type STARTTLS string

// STARTTLS protocols (RFC 3207, 9051, 2595, 4217, 4511, 6120; PostgreSQL's SSLRequest).
const (
	NoSTARTTLS       STARTTLS = ""
	STARTTLSSMTP     STARTTLS = "smtp"
	STARTTLSIMAP     STARTTLS = "imap"
	STARTTLSPOP3     STARTTLS = "pop3"
	STARTTLSFTP      STARTTLS = "ftp"
	STARTTLSLDAP     STARTTLS = "ldap"
	STARTTLSXMPP     STARTTLS = "xmpp"
	STARTTLSPostgres STARTTLS = "postgres"
)

// STARTTLSProtocols lists every protocol that has a dialogue.
var STARTTLSProtocols = []STARTTLS{STARTTLSSMTP, STARTTLSIMAP, STARTTLSPOP3, STARTTLSFTP, STARTTLSLDAP, STARTTLSXMPP, STARTTLSPostgres}

// Endpoint is one address and port at which one name is looked at. The address is dialled as it stands: whoever makes
// an endpoint has resolved and checked it.
type Endpoint struct {
	Host     string     `json:"host"` // as the asker wrote it: a name or an address
	Address  netip.Addr `json:"address"`
	Port     uint16     `json:"port"`
	SNI      string     `json:"sni,omitempty"` // server name to ask for; empty sends none
	STARTTLS STARTTLS   `json:"starttls,omitempty"`
}

// AddrPort is what is dialled.
func (e Endpoint) AddrPort() netip.AddrPort { return netip.AddrPortFrom(e.Address, e.Port) }

// VersionOutcome is what became of asking for one protocol version.
type VersionOutcome string

// Version outcomes.
const (
	VersionSpoken     VersionOutcome = "spoken"     // the server chose it
	VersionRefused    VersionOutcome = "refused"    // an alert, a close, or a lower version instead
	VersionUnanswered VersionOutcome = "unanswered" // silence or nonsense: not known
	VersionNotAsked   VersionOutcome = "not_asked"  // the verdict stood before
)

// VersionSeen is the result for one protocol version.
type VersionSeen struct {
	Version   uint16         `json:"version"` // as on the wire: 0x0300 SSL 3.0 to 0x0304 TLS 1.3
	Name      string         `json:"name"`
	Outcome   VersionOutcome `json:"outcome"`
	Suite     uint16         `json:"suite,omitempty"` // that the server chose when offered all
	Heartbeat bool           `json:"heartbeat"`       // extension negotiated
	Alert     string         `json:"alert,omitempty"` // of a refusal
}

// KeyFacts are facts about the public key of the certificate served.
type KeyFacts struct {
	Algorithm string `json:"algorithm"` // "RSA", "ECDSA", "Ed25519", or the OID
	Bits      int    `json:"bits,omitempty"`
	SPKI      Hash   `json:"spki_sha256"`    // name of the key in the record
	Weak      string `json:"weak,omitempty"` // why it may not be certified; empty when nothing is known against it
}

// ServedChain is the certificate chain as the server sent it, and what is to say about it.
type ServedChain struct {
	DER         [][]byte  `json:"der"` // leaf first, exactly as served
	Serial      Serial    `json:"serial,omitempty"`
	Names       []string  `json:"names,omitempty"` // DNS names and addresses of the leaf
	Subject     string    `json:"subject,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	NotBefore   time.Time `json:"not_before,omitzero"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Expired     bool      `json:"expired"`               // at the time of the look
	Missing     string    `json:"missing,omitempty"`     // subject of the intermediate that was not sent
	Superfluous []string  `json:"superfluous,omitempty"` // subjects of certificates that no path needs
	Disorder    bool      `json:"disorder,omitempty"`    // each is not the issuer of the one before
	Key         KeyFacts  `json:"key"`
	Malformed   string    `json:"malformed,omitempty"` // why the leaf could not be read; then the rest is empty
}

// Look is one bounded look at one endpoint.
type Look struct {
	Endpoint Endpoint      `json:"endpoint"`
	At       time.Time     `json:"at"` // when it began
	Verdict  Verdict       `json:"verdict"`
	Reason   LookReason    `json:"reason"`
	Detail   string        `json:"detail"` // the reason for a person, with what was measured
	Versions []VersionSeen `json:"versions,omitempty"`
	Suites   []uint16      `json:"suites,omitempty"`      // weak suites that the server accepts (whole looks)
	Chain    *ServedChain  `json:"chain,omitempty"`       // whole looks
	Staple   []byte        `json:"ocsp_staple,omitempty"` // raw OCSP response (whole looks); judged with the issuer elsewhere

	ConnectTook time.Duration `json:"connect_ns"` // first connection
	HelloTook   time.Duration `json:"hello_ns"`   // from the first hello to the server's
	Took        time.Duration `json:"took_ns"`    // the whole look
	Connections int           `json:"connections"`
	Sent        int64         `json:"bytes_sent"`
	Received    int64         `json:"bytes_received"`
	// AnswerBytes measures the heartbeat message that came back, ProofBytes how many bytes of it the server cannot have
	// from us. The bytes themselves are dropped as they arrive.
	AnswerBytes int `json:"answer_bytes,omitempty"`
	ProofBytes  int `json:"proof_bytes,omitempty"`
}
