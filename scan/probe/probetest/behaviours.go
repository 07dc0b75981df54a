package probetest

import (
	"time"

	"bulkhead"
)

// OpenSSL and nginx as measured on genuine builds: their output buffers, and the second that s_server takes.
const (
	opensslBuffer = 4096
	nginxBuffer   = 16384
	sserverLate   = time.Second
)

func (b Behaviour) as(name string, r bulkhead.LookReason) Behaviour {
	b.Name, b.Reason, b.Verdict = name, r, bulkhead.LookReasons[r]
	return b
}

func (b Behaviour) with(change func(*Behaviour)) Behaviour { change(&b); return b }

func vulnerable(change func(*Behaviour)) Behaviour {
	return Behaviour{Heartbeat: allTLS, Malformed: Answer, WellFormed: Answer, Buffer: nginxBuffer, Edge: true, StrictRecord: true}.with(change)
}

func patched(change func(*Behaviour)) Behaviour {
	return Behaviour{Heartbeat: allTLS, Malformed: Discard, WellFormed: Answer, Buffer: nginxBuffer, Edge: true, StrictRecord: true}.with(change)
}

func plain(change func(*Behaviour)) Behaviour { return Behaviour{}.with(change) }

func same(*Behaviour) {}

// Vulnerable, Patched and NotSupported are the three that matter most, as nginx serves them.
var (
	Vulnerable   = vulnerable(same).as("nginx-1.0.1f", bulkhead.ReasonOverread)
	Patched      = patched(same).as("nginx-1.0.1g", bulkhead.ReasonDiscarded)
	NotSupported = plain(same).as("no-heartbeat", bulkhead.ReasonNotNegotiated)
)

// Behaviours are all that are known, each with the verdict that it must be given.
func Behaviours() []Behaviour {
	list := []Behaviour{Vulnerable, Patched, NotSupported}
	for _, f := range []func() []Behaviour{vulnerables, patcheds, absents, strange, broken, names, starttls} {
		list = append(list, f()...)
	}
	return list
}

// shapes are changes that must not matter to any verdict.
var shapes = []struct {
	name   string
	change func(*Behaviour)
}{
	{"sserver", func(b *Behaviour) { b.Buffer, b.Edge, b.Late = opensslBuffer, false, sserverLate }},
	{"unbuffered", func(b *Behaviour) { b.Buffer, b.Edge = 0, false }},
	{"ssl3-only", func(b *Behaviour) { b.Versions = []uint16{SSL30}; b.hb(SSL30) }},
	{"tls10-only", func(b *Behaviour) { b.Versions = []uint16{TLS10}; b.hb(TLS10) }},
	{"tls11-only", func(b *Behaviour) { b.Versions = []uint16{TLS11}; b.hb(TLS11) }},
	{"tls12-only", func(b *Behaviour) { b.Versions = []uint16{TLS12}; b.hb(TLS12) }},
	{"single-bytes", func(b *Behaviour) { b.Chop = 1 }},
	{"fragmented", func(b *Behaviour) { b.Fragment = 7 }},
	{"packed", func(b *Behaviour) { b.Pack = true }},
	{"huge-certificate", func(b *Behaviour) { b.ChainBytes = 90_000 }},
	{"client-certificate", func(b *Behaviour) { b.ClientCert = true }},
	{"slow", func(b *Behaviour) { b.Slow = 300 * time.Millisecond }},
	{"ecdhe", func(b *Behaviour) { b.Suites = []uint16{0xc02f, 0xc014} }},
	{"dhe-camellia", func(b *Behaviour) { b.Suites = []uint16{0x0088} }},
	{"rc4", func(b *Behaviour) { b.Suites = []uint16{0x0005} }},
	{"export", func(b *Behaviour) { b.Suites = []uint16{0x0003} }},
	{"anonymous", func(b *Behaviour) { b.Suites = []uint16{0xc018} }},
	{"gcm", func(b *Behaviour) { b.Suites = []uint16{0x009d} }},
	{"ecdsa", func(b *Behaviour) { b.Suites = []uint16{0xc02b} }},
	{"name-warned", func(b *Behaviour) { b.NameWarned, b.SNI = true, "warned.test" }},
	{"split-answers", func(b *Behaviour) { b.SplitAnswer, b.Buffer, b.Edge = 1489, 0, false }},
	{"long-hello-silent", func(b *Behaviour) { b.Quirk, b.TimesOut = LongHelloSilent, true }},
	{"mode-2", func(b *Behaviour) { b.Mode = 2 }},
}

func (b *Behaviour) hb(v uint16) {
	if b.Heartbeat != nil {
		b.Heartbeat = []uint16{v}
	}
}

func vulnerables() (list []Behaviour) {
	for _, s := range shapes {
		list = append(list, vulnerable(s.change).as("vulnerable-"+s.name, bulkhead.ReasonOverread))
	}
	return append(list,
		vulnerable(func(b *Behaviour) { b.Versions = []uint16{SSL30, TLS10, TLS11, TLS12}; b.Heartbeat = []uint16{SSL30} }).as("vulnerable-on-ssl3-alone", bulkhead.ReasonOverread),
		vulnerable(func(b *Behaviour) { b.Late = 700 * time.Millisecond }).as("vulnerable-late", bulkhead.ReasonOverread),
		vulnerable(func(b *Behaviour) { b.NameRefused, b.SNI = true, "refused.test" }).as("vulnerable-name-refused", bulkhead.ReasonOverread),
		vulnerable(func(b *Behaviour) { b.NameRequired, b.SNI = true, "wanted.test" }).as("vulnerable-name-required", bulkhead.ReasonOverread),
	)
}

func patcheds() (list []Behaviour) {
	for _, s := range shapes {
		list = append(list, patched(s.change).as("patched-"+s.name, bulkhead.ReasonDiscarded))
	}
	react := func(r Reaction) Behaviour { return patched(func(b *Behaviour) { b.Malformed = r }) }
	return append(list,
		react(Alert).as("alert-on-heartbeat", bulkhead.ReasonAlerted),
		react(Close).as("close-on-heartbeat", bulkhead.ReasonClosed),
		react(CloseNotify).as("close-notify-on-heartbeat", bulkhead.ReasonClosed),
		react(Reset).as("reset-on-heartbeat", bulkhead.ReasonClosed),
		patched(func(b *Behaviour) { b.Malformed, b.Buffer = Clip, 0 }).as("clipped", bulkhead.ReasonClipped),
		patched(func(b *Behaviour) { b.Malformed, b.Buffer = ClipMisled, 0 }).as("clipped-misled", bulkhead.ReasonClipped),
	)
}

func absents() []Behaviour {
	return []Behaviour{
		plain(func(b *Behaviour) { b.Versions = []uint16{SSL30} }).as("no-heartbeat-ssl3-only", bulkhead.ReasonNotNegotiated),
		plain(func(b *Behaviour) { b.Versions = []uint16{SSL30, TLS10} }).as("openssl-0.9.8", bulkhead.ReasonNotNegotiated),
		plain(func(b *Behaviour) { b.Versions = []uint16{TLS12} }).as("no-heartbeat-tls12", bulkhead.ReasonNotNegotiated),
		plain(func(b *Behaviour) { b.Versions, b.RefuseQuiet = []uint16{TLS12}, true }).as("no-heartbeat-closes-on-old", bulkhead.ReasonNotNegotiated),
		plain(func(b *Behaviour) { b.Versions = []uint16{TLS10, TLS12} }).as("no-heartbeat-gap", bulkhead.ReasonNotNegotiated),
		plain(func(b *Behaviour) { b.ChainBytes, b.Chop = 20_000, 1 }).as("no-heartbeat-single-bytes", bulkhead.ReasonNotNegotiated),
		plain(func(b *Behaviour) { b.Malformed, b.WellFormed = Answer, Answer }).as("answers-without-negotiating", bulkhead.ReasonNotNegotiated),
		plain(func(b *Behaviour) { b.TLS13 = true }).as("tls13-only", bulkhead.ReasonTLS13Only),
		plain(func(b *Behaviour) { b.TLS13, b.ClientCert = true, true }).as("tls13-only-client-certificate", bulkhead.ReasonTLS13Only),
		plain(func(b *Behaviour) { b.Versions, b.Quirk, b.TimesOut = []uint16{TLS12}, SilentBelow, true }).as("silent-on-old", bulkhead.ReasonVersionsUnseen),
	}
}

// strange negotiate heartbeat and then do what proves nothing.
func strange() []Behaviour {
	react := func(r Reaction, change func(*Behaviour)) Behaviour {
		return patched(func(b *Behaviour) { b.Malformed, b.WellFormed, b.Buffer, b.Edge = r, Discard, 0, false; change(b) })
	}
	out := func(b *Behaviour) { b.TimesOut = true }
	return []Behaviour{
		react(Discard, out).as("heartbeat-silence", bulkhead.ReasonHeartbeatSilence),
		vulnerable(func(b *Behaviour) { b.Buffer, b.TimesOut = 1<<20, true }).as("vulnerable-behind-a-buffer", bulkhead.ReasonHeartbeatSilence),
		react(Truncate, same).as("answer-truncated", bulkhead.ReasonAnswerTruncated),
		react(Hang, out).as("answer-hangs", bulkhead.ReasonAnswerTruncated),
		react(Flood, same).as("endless-answers", bulkhead.ReasonTooMuch),
		react(Garbage, same).as("garbage-after-heartbeat", bulkhead.ReasonMalformedTLS),
		react(Discard, func(b *Behaviour) { b.Life, b.TimesOut = 3*time.Second, true }).as("closes-late", bulkhead.ReasonHeartbeatLate),
	}
}

func broken() []Behaviour {
	quirk := func(q Quirk) Behaviour { return vulnerable(func(b *Behaviour) { b.Quirk = q }) }
	slow := func(b *Behaviour) { b.TimesOut = true }
	return []Behaviour{
		quirk(Silent).with(slow).as("silent", bulkhead.ReasonNoHello),
		quirk(CloseOnAccept).as("closes-at-once", bulkhead.ReasonHelloRefused),
		quirk(CloseOnHello).as("closes-on-hello", bulkhead.ReasonHelloRefused),
		quirk(ResetOnHello).as("resets-on-hello", bulkhead.ReasonHelloRefused),
		quirk(AlertOnHello).as("alerts-on-hello", bulkhead.ReasonHelloRefused),
		quirk(PlainText).as("plain-text", bulkhead.ReasonNotTLS),
		quirk(HTTP).as("plain-http", bulkhead.ReasonNotTLS),
		quirk(TruncatedFlight).as("flight-truncated", bulkhead.ReasonTruncated),
		quirk(StalledFlight).with(slow).as("flight-stalled", bulkhead.ReasonStalled),
		quirk(EndlessWarnings).as("endless-warnings", bulkhead.ReasonTooMuch),
		quirk(EndlessFlight).as("endless-certificate", bulkhead.ReasonTooMuch),
		quirk(EndlessEmpty).as("endless-empty-records", bulkhead.ReasonTooMuch),
		quirk(EchoBack).as("echo", bulkhead.ReasonMalformedTLS),
		quirk(HigherVersion).as("higher-version", bulkhead.ReasonMalformedTLS),
	}
}

func names() []Behaviour {
	return []Behaviour{
		vulnerable(func(b *Behaviour) { b.NameRequired = true }).as("name-required-none-given", bulkhead.ReasonNameRequired),
		patched(func(b *Behaviour) { b.NameRequired, b.SNI = true, "wanted.test" }).as("patched-name-required", bulkhead.ReasonDiscarded),
		patched(func(b *Behaviour) { b.NameRefused, b.SNI = true, "refused.test" }).as("patched-name-refused", bulkhead.ReasonDiscarded),
		plain(func(b *Behaviour) { b.NameRequired, b.SNI = true, "wanted.test" }).as("no-heartbeat-name-required", bulkhead.ReasonNotNegotiated),
		plain(func(b *Behaviour) { b.NameRefused, b.SNI = true, "refused.test" }).as("no-heartbeat-name-refused", bulkhead.ReasonNotNegotiated),
	}
}

func starttls() (list []Behaviour) {
	for _, p := range bulkhead.STARTTLSProtocols {
		over := func(b *Behaviour) { b.STARTTLS = p }
		list = append(list,
			vulnerable(over).as("vulnerable-"+string(p), bulkhead.ReasonOverread),
			patched(over).as("patched-"+string(p), bulkhead.ReasonDiscarded),
			plain(over).as("no-heartbeat-"+string(p), bulkhead.ReasonNotNegotiated),
			vulnerable(func(b *Behaviour) { b.STARTTLS, b.NoSTARTTLS = p, true }).as("no-starttls-"+string(p), bulkhead.ReasonSTARTTLSRefused),
			vulnerable(func(b *Behaviour) { b.STARTTLS, b.Quirk, b.TimesOut = p, Silent, true }).as("silent-"+string(p), bulkhead.ReasonSTARTTLSFailed),
			vulnerable(func(b *Behaviour) { b.STARTTLS, b.Chop = p, 1 }).as("vulnerable-single-bytes-"+string(p), bulkhead.ReasonOverread),
		)
	}
	return list
}
