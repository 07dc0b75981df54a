package ceremony

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/profile"
)

// TestUsages: an authority of each usage gets exactly its extended key usages, and an authority for two is refused.
func TestUsages(t *testing.T) {
	online, ctx := newRing(t), context.Background()
	for _, usage := range profile.Usages() {
		r, err := NewAuthorityCSR(ctx, online, "key-"+string(usage), name("Issuing "+string(usage)), keys.P256, usage)
		wantKind(t, string(usage), err, "")
		if got, err := RequestedUsage(r.CSR); got != usage || err != nil {
			t.Errorf("the request for %s asks for %q, %v", usage, got, err)
		}
		for _, planned := range append(profile.Usages(), "") {
			p := clone(t, firstPlan(t, keys.P256))
			p.Steps[1].Issuing.Request, p.Steps[1].Issuing.Usage = r, planned
			res, err := Execute(ctx, config(newRing(t)), p)
			if planned != usage && (planned != "" || usage != profile.UsageTLS) {
				wantKind(t, "plan "+string(planned)+" for request "+string(usage), err, bulkhead.KindGate)
				continue
			}
			wantKind(t, string(usage), err, "")
			cert := parse(t, res.Authorities[1].Certificate)
			if !slices.Equal(cert.ExtKeyUsage, usage.EKUs()) || len(cert.UnknownExtKeyUsage) != 0 {
				t.Errorf("%s has the usages %v", usage, cert.ExtKeyUsage)
			}
		}
	}
	p := clone(t, firstPlan(t, keys.P256))
	p.Steps[1].Issuing.Usage = "smime,code-signing"
	_, err := Execute(ctx, config(newRing(t)), p)
	wantKind(t, "two usages", err, bulkhead.KindUsage)
}

// TestConstrainedAuthority: name constraints of the plan are critical in the certificate; nonsense is refused.
func TestConstrainedAuthority(t *testing.T) {
	ctx := context.Background()
	p := clone(t, firstPlan(t, keys.P256))
	p.Steps[1].Issuing.Names = profile.NameConstraints{PermittedDNS: []string{"example.test"}, PermittedIP: []string{"10.0.0.0/8"}, ExcludedEmail: []string{".example.test"}}
	res, err := Execute(ctx, config(newRing(t)), p)
	wantKind(t, "constrained", err, "")
	cert := parse(t, res.Authorities[1].Certificate)
	value, isCritical := extension(cert, asn1.ObjectIdentifier{2, 5, 29, 30})
	if value == nil || !isCritical || len(cert.PermittedDNSDomains) != 1 || len(cert.PermittedIPRanges) != 1 || len(cert.ExcludedEmailAddresses) != 1 {
		t.Errorf("constraints of the certificate: %v %v %v, critical %v", cert.PermittedDNSDomains, cert.PermittedIPRanges, cert.ExcludedEmailAddresses, isCritical)
	}
	for _, bad := range []profile.NameConstraints{{PermittedDNS: []string{"*.test"}}, {ExcludedIP: []string{"10.0.0.1/8"}}, {PermittedEmail: []string{"a@b@c d"}}} {
		p := clone(t, firstPlan(t, keys.P256))
		p.Steps[1].Issuing.Names = bad
		_, err := Execute(ctx, config(newRing(t)), p)
		wantKind(t, "nonsense", err, bulkhead.KindMalformed)
	}
}

// TestAcceptUsage: a certificate from elsewhere is for the usage that was asked for, for no other and not for two, and
// nothing above it has fewer purposes or a critical extension that nobody knows.
func TestAcceptUsage(t *testing.T) {
	f := newForeign(t, -1, 1)
	r, err := NewAuthorityCSR(context.Background(), newRing(t), "issuing", name("Issuing"), keys.P256, profile.UsageSMIME)
	wantKind(t, "request", err, "")
	pending, err := Pending("issuing", r, 1, testNow)
	wantKind(t, "pending", err, "")
	csr, err := checkCSR(r.CSR)
	wantKind(t, "CSR", err, "")
	mail := []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	for _, x := range []struct {
		what   string
		usages []x509.ExtKeyUsage
		above  func(*x509.Certificate)
		want   bulkhead.Kind
	}{
		{"silent without a fault", mail, func(*x509.Certificate) {}, ""},
		{"silent below the same purpose", mail, func(c *x509.Certificate) { c.ExtKeyUsage = append(profile.UsageTLS.EKUs(), mail...) }, ""},
		{"for TLS", profile.UsageTLS.EKUs(), func(*x509.Certificate) {}, bulkhead.KindGate},
		{"for mail and TLS", append(profile.UsageTLS.EKUs(), mail...), func(*x509.Certificate) {}, bulkhead.KindGate},
		{"for anything", nil, func(*x509.Certificate) {}, bulkhead.KindGate},
		{"below another purpose", mail, func(c *x509.Certificate) { c.ExtKeyUsage = profile.UsageTLS.EKUs() }, bulkhead.KindGate},
		{"below something unknown", mail, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: asn1Null}}
		}, bulkhead.KindGate},
	} {
		above := template("Enterprise Policy", 1, testNow.Add(2000*day))
		x.above(above)
		middle := create(t, above, f.root, f.middleKey.Public(), f.rootKey)
		tmpl := template("Issuing", 0, testNow.Add(1000*day))
		tmpl.ExtKeyUsage = x.usages
		cert := create(t, tmpl, middle, csr.PublicKey, f.middleKey)
		_, err := AcceptCertificate(pending, cert.Raw, [][]byte{middle.Raw, f.root.Raw}, testNow)
		wantKind(t, x.what, err, x.want)
	}
}
