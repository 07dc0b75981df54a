package graph

import (
	"crypto"
	"crypto/rsa"
	"fmt"

	"bulkhead/pki/keycheck"
)

// twins finds authorities with several certificates. A responder that looks up a certificate by name and key and takes
// the newest mixes their status up (the incident of October 2016).
func (a *auditor) twins() {
	for _, x := range a.g.Authorities {
		if len(x.Certificates) < 2 || !x.certifies {
			continue
		}
		newest := x.Certificates[len(x.Certificates)-1]
		issuers, self := map[*Authority]bool{}, false
		for _, c := range x.Certificates {
			issuers[a.g.Issuer(c)] = true
			self = self || a.g.SelfSigned(c)
		}
		others := without(x.Certificates, newest)
		switch {
		case self && !a.g.SelfSigned(newest):
			a.report(RuleTwin, Warning, newest, others,
				"is the newest of %d certificates with the same name and key, and a cross-certificate of a self-signed one: a responder that goes by name and key, or takes the newest, will call everything under %q revoked when this one certificate (serial %s) is",
				len(x.Certificates), printable(x.Name), newest.SerialText())
		case len(issuers) > 1:
			a.report(RuleTwin, Notice, newest, others, "is the newest of %d certificates with the same name and key from %d issuers: status must go by issuer and serial number, never by name and key", len(x.Certificates), len(issuers))
		default:
			a.report(RuleTwin, Notice, newest, others, "is the newest of %d certificates with the same name, key and issuer", len(x.Certificates))
		}
	}
}

// maxKeyWork bounds the arithmetic of weakKeys: one unit is a check of an RSA key of 2048 bits, some milliseconds.
const maxKeyWork = 400

// weakKeys judges each key once: those of authorities first and in full, the others in full while there is time, then by
// size and exponent alone.
func (a *auditor) weakKeys() {
	rules := keycheck.AnyRSASize()
	rules.P521, rules.Ed25519 = true, true
	work, short := 0, 0
	var example *Certificate
	for _, authorities := range []bool{true, false} {
		for _, x := range a.g.Authorities {
			c := x.Certificates[0]
			if x.certifies != authorities {
				continue
			}
			if c.key == nil {
				a.report(RuleNotVerified, Notice, c, nil, "its public key was not judged: %s", printable(c.keyProblem))
				continue
			}
			work += keyWork(c.key)
			if why := judgeKey(c.key, rules, work <= maxKeyWork); why != "" {
				a.report(RuleWeakKey, Warning, c, without(x.Certificates, c), "has a weak or unusual public key: %s", why)
			}
			if _, ok := c.key.(*rsa.PublicKey); ok && work > maxKeyWork {
				short, example = short+1, c
			}
		}
	}
	if short > 0 {
		a.report(RuleLimit, Notice, example, nil, "this RSA key and %s were judged by size and exponent alone: there are too many to look for factors of each", count(short-1, "other", "others"))
	}
}

// keyWork grows with the third power of the size, as the arithmetic does.
func keyWork(key crypto.PublicKey) int {
	k, ok := key.(*rsa.PublicKey)
	if !ok {
		return 0
	}
	n := max(1, k.N.BitLen()/2048)
	return n * n * n
}

// judgeKey says what is wrong with a key, "" when nothing is.
func judgeKey(key crypto.PublicKey, rules keycheck.Rules, full bool) string {
	k, ok := key.(*rsa.PublicKey)
	if ok && !full {
		switch {
		case k.N.BitLen() < 2048:
			return fmt.Sprintf("the RSA modulus has %d bits, at least 2048 are needed (BR 6.1.5)", k.N.BitLen())
		case k.E < 65537 || k.E%2 == 0 || k.N.Bit(0) == 0:
			return fmt.Sprintf("the RSA exponent is %d and the modulus ends in bit %d (BR 6.1.6)", k.E, k.N.Bit(0))
		default:
			return ""
		}
	}
	if err := keycheck.Check(key, rules); err != nil {
		return detail(err)
	}
	return ""
}

// roots are the authorities at which a chain may end: those with a self-signed certificate.
func (a *auditor) roots() AnchorSet {
	var set AnchorSet
	for _, x := range a.g.Authorities {
		for _, c := range x.Certificates {
			if a.g.SelfSigned(c) && c.mayIssue() {
				set.Anchors = append(set.Anchors, x)
				break
			}
		}
	}
	return set
}

// unreachable finds certificates without a chain to a self-signed one, whatever time and path length say.
func (a *auditor) unreachable() {
	allow := a.g.allowances(a.roots(), zeroTime, nil, false)
	for _, c := range a.g.Certificates {
		up := a.g.Issuer(c)
		switch {
		case up != nil && (allow[up.id] >= 0 || a.g.SelfSigned(c) || !up.certifies):
		case up == nil && a.g.link[c.id] == noIssuer:
			a.report(RuleUnreachable, Warning, c, nil, "no chain leads to a self-signed certificate: the input has no certificate of its issuer %q with the right key", printable(c.Issuer))
		default:
			a.report(RuleUnreachable, Warning, c, nil, "no chain leads to a self-signed certificate of the input")
		}
	}
}

// pathLength finds authorities that no certificate above them allows (RFC 5280 section 4.2.1.9). Chains end at
// self-signed certificates, whose own limit counts as it does in OpenSSL and Go, and at authorities whose issuer is
// not in the input.
func (a *auditor) pathLength() {
	allow := a.g.pathAllowances()
	for _, c := range a.g.Certificates {
		up := a.g.Issuer(c)
		if up == nil || !c.CA || c.SelfIssued() || allow[up.id] != 0 {
			continue
		}
		victims := without(a.g.Subject(c).Issued, c)
		a.report(RulePathLength, Error, c, victims, "is an authority below %q, whose path length allows none: what it issued has no valid chain through it", printable(c.Issuer))
	}
}

// deep stands for no limit in pathAllowances: only limits that certificates state are to be found.
const deep = 500

// pathAllowances is allowances from every top of the graph, with the path length of the top's own certificates.
func (g *Graph) pathAllowances() []int {
	allow := make([]int, len(g.Authorities))
	for i := range allow {
		allow[i] = -1
	}
	var queue []*Authority
	raise := func(x *Authority, n int) {
		if n > allow[x.id] {
			allow[x.id] = n
			queue = append(queue, x)
		}
	}
	limit := func(c *Certificate, n int) int {
		if c.PathLen >= 0 {
			return min(n, c.PathLen)
		}
		return n
	}
	for _, c := range g.Certificates {
		if c.mayIssue() && (g.Issuer(c) == nil || g.SelfSigned(c)) {
			raise(g.Subject(c), limit(c, deep))
		}
	}
	for len(queue) > 0 {
		x := queue[0]
		queue = queue[1:]
		for _, c := range g.below[x.id] {
			n := allow[x.id]
			if !c.SelfIssued() {
				n--
			}
			if n >= 0 {
				raise(g.Subject(c), limit(c, n))
			}
		}
	}
	return allow
}
