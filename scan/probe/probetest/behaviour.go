// Package probetest is a TLS server that behaves as this or that server did, byte by byte, up to the end of its first
// flight and in the heartbeats after it: what a prober for CVE-2014-0160 is tested and rehearsed against, since the
// genuine faulty builds can no longer be had.
//
// Invariant: each behaviour comes with the verdict and the reason that it must be given; what it returns in place of
// memory is a constant filler.
//
// Refuses: to complete a handshake; to listen on anything but loopback; to return a byte of real memory.
package probetest

import (
	"time"

	"bulkhead"
)

// Reaction is what a server does on a heartbeat.
type Reaction int

// Reactions.
const (
	Discard     Reaction = iota // as RFC 6520 has it for malformed ones
	Answer                      // as much as is claimed: for a malformed one, the fault
	Clip                        // as much as was sent, and says so
	ClipMisled                  // as much as was sent, and claims what the request claimed
	Alert                       // fatal alert unexpected_message, as GnuTLS before the handshake is complete
	CloseNotify                 // the polite end
	Close
	Reset
	Truncate // half an answer, then a close
	Hang     // half an answer, then nothing
	Flood    // answers without end
	Garbage  // not a record
)

// Quirk is something that a server does in place of its flight.
type Quirk int

// Quirks.
const (
	NoQuirk         Quirk = iota
	Silent                // reads and says nothing
	CloseOnAccept         // before any hello
	CloseOnHello          // without an alert
	ResetOnHello          // like Schannel, for versions it does not want
	AlertOnHello          // handshake_failure for every hello
	PlainText             // a line of text
	HTTP                  // 400 in plain text, as nginx
	TruncatedFlight       // closed in the middle of the certificate
	StalledFlight         // silent in the middle of the certificate
	EndlessWarnings       // alerts without end
	EndlessFlight         // a certificate without end
	EndlessEmpty          // empty records without end
	EchoBack              // sends back what it gets
	HigherVersion         // a server hello with a version that was not offered
	LongHelloSilent       // says nothing to hellos of more than 255 bytes
	SilentBelow           // says nothing to hellos below its lowest version
)

// Behaviour describes a server. The zero value speaks TLS 1.0 to 1.2 with plain RSA and AES and negotiates no heartbeat.
type Behaviour struct {
	Name         string
	Versions     []uint16 // spoken; empty for TLS 1.0 to 1.2
	Heartbeat    []uint16 // versions on which the extension is negotiated
	Mode         byte     // of the extension; 1 when zero
	Suites       []uint16 // in the server's order; empty for 0x002f alone
	Malformed    Reaction
	WellFormed   Reaction
	Buffer       int           // output that is held back while the handshake lasts: OpenSSL 4,096, nginx 16,384
	Edge         bool          // after a heartbeat it reads on only when more arrives (nginx)
	Late         time.Duration // before it reacts to a heartbeat
	Slow         time.Duration // before its flight
	Life         time.Duration // after its flight, until it closes by itself; 0 is for ever
	Chop         int           // bytes per write; 0 writes all at once
	Fragment     int           // handshake bytes per record; 0 puts each message into its own
	Pack         bool          // the whole flight in as few records as possible
	SplitAnswer  int           // heartbeat bytes per record, as with a small max_send_fragment
	Chain        [][]byte      // certificates to serve, leaf first; nil for the server's own
	ChainBytes   int           // size of the certificate message, filled with what is not needed
	ClientCert   bool          // demands one
	NameRequired bool          // unrecognized_name without a server name
	NameRefused  bool          // unrecognized_name with one
	NameWarned   bool          // a warning about the name before the flight
	RefuseQuiet  bool          // versions that it does not speak are refused with a close
	Sign         bool          // signs its key exchange, which costs what it costs a genuine server with RSA
	StrictRecord bool          // an alert for records whose version is not the negotiated one
	Quirk        Quirk
	STARTTLS     bulkhead.STARTTLS
	NoSTARTTLS   bool   // speaks the protocol and does not offer it
	TLS13        bool   // speaks TLS 1.3 alone
	Staple       []byte // OCSP response, when asked for

	SNI      string // server name that a look sends; empty for none
	Verdict  bulkhead.Verdict
	Reason   bulkhead.LookReason
	TimesOut bool // takes as long as a time-out
}

// Versions on the wire.
const (
	SSL30 uint16 = 0x0300
	TLS10 uint16 = 0x0301
	TLS11 uint16 = 0x0302
	TLS12 uint16 = 0x0303
)

var allTLS = []uint16{TLS10, TLS11, TLS12}
