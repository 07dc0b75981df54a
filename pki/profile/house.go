package profile

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"time"

	"bulkhead"
)

// House is the input of the templates of the house's own certificates.
type House struct {
	Subject    pkix.Name
	RawSubject []byte // DER; wins over Subject: a cross-certificate repeats its subject byte for byte
	PublicKey  crypto.PublicKey
	KeyID      []byte // Cross only: the subject key identifier of the authority's own certificate; computed when empty
	Serial     bulkhead.Serial
	Now        time.Time
	Validity   time.Duration // inclusive; cut to the parent's end
	Backdate   time.Duration
	Parent     *x509.Certificate // nil for a root
	ParentID   bulkhead.AuthorityID
	Shard      int // CRL shard of the parent
	URLs       URLs
	PathLen    int             // Cross only: how many authorities may follow below
	Usage      Usage           // what the subordinate authority may certify; "" means UsageTLS
	Names      NameConstraints // of a subordinate authority; the zero value constrains nothing
}

// Root is a self-signed trust anchor (BR 7.1.2.1): critical basic constraints without a path length, critical
// keyCertSign and cRLSign, key identifiers; neither CDP, AIA, EKU nor policies.
func Root(in House) (*x509.Certificate, error) {
	if in.Parent != nil {
		return nil, internal("a root has no parent")
	}
	t, err := authority(in)
	if err != nil {
		return nil, err
	}
	t.AuthorityKeyId = t.SubjectKeyId
	t.MaxPathLen = -1
	return t, nil
}

// Issuing is a subordinate authority (BR 7.1.2.6): path length 0, the extended key usages and the policy of exactly one
// usage (for TLS serverAuth and clientAuth, domain-validated), CDP and AIA of the parent.
func Issuing(in House) (*x509.Certificate, error) {
	t, err := authority(in)
	if err != nil {
		return nil, err
	}
	return t, subordinate(t, in, 0)
}

// Cross is a certificate over an authority that has one already (BR 7.1.2.2): same subject bytes, same key, same key
// identifier (what the authority signed points at it), another issuer. RawSubject is required.
func Cross(in House) (*x509.Certificate, error) {
	if len(in.RawSubject) == 0 {
		return nil, internal("a cross-certificate repeats the subject's bytes; RawSubject is empty")
	}
	t, err := authority(in)
	if err != nil {
		return nil, err
	}
	if len(in.KeyID) != 0 {
		t.SubjectKeyId = slices.Clone(in.KeyID)
	}
	return t, subordinate(t, in, in.PathLen)
}

// authority has what every certificate with cA has in common.
func authority(in House) (*x509.Certificate, error) {
	t, err := in.base()
	if err != nil {
		return nil, err
	}
	if _, err := TypeOf(in.PublicKey); err != nil {
		return nil, err
	}
	t.IsCA = true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return t, nil
}

func subordinate(t *x509.Certificate, in House, pathLen int) error {
	if in.Parent == nil {
		return internal("a subordinate authority needs a parent")
	}
	if in.URLs.base() == "" || in.ParentID.Check() != nil {
		return internal("a subordinate authority needs the status service's URL and its parent's name")
	}
	if pathLen < 0 {
		return internal("path length %d", pathLen)
	}
	if p := in.Parent; p.MaxPathLen > 0 || p.MaxPathLenZero {
		if pathLen >= p.MaxPathLen {
			return bulkhead.Faultf(bulkhead.KindGate, "path length %d does not fit below %q, which allows %d", pathLen, p.Subject.CommonName, p.MaxPathLen).
				WithHint("sign it with an authority higher up (RFC 5280 section 4.2.1.9)")
		}
	}
	t.MaxPathLen, t.MaxPathLenZero = pathLen, pathLen == 0
	usage, err := ParseUsage(string(in.Usage))
	if err != nil {
		return err
	}
	if err := in.Names.apply(t); err != nil {
		return err
	}
	t.ExtKeyUsage, t.Policies = usage.EKUs(), []x509.OID{usage.policy()}
	t.CRLDistributionPoints = []string{in.URLs.CRL(in.ParentID, in.Shard)}
	t.OCSPServer = []string{in.URLs.OCSP()}
	t.IssuingCertificateURL = []string{in.URLs.CA(in.ParentID)}
	return nil
}

// OCSPDelegate is a responder's certificate (BR 7.1.2.8, RFC 6960 section 4.2.2.2): exactly one EKU, OCSPSigning;
// id-pkix-ocsp-nocheck; digitalSignature only; no CDP, AIA, SAN or policies; not an authority.
func OCSPDelegate(in House) (*x509.Certificate, error) {
	if in.Parent == nil {
		return nil, internal("an OCSP delegate needs the authority that it answers for")
	}
	t, err := in.base()
	if err != nil {
		return nil, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	t.ExtraExtensions = []pkix.Extension{{Id: slices.Clone(oidNoCheck), Value: []byte{0x05, 0x00}}}
	return t, nil
}

// Infrastructure is a certificate for one of the house's own listeners, which are servers and clients of each other.
// It is a private certificate: no policy claims that it follows the Baseline Requirements.
func Infrastructure(in Input, validity, backdate time.Duration) (*x509.Certificate, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if _, err := TypeOf(in.PublicKey); err != nil {
		return nil, err
	}
	if len(in.Names) == 0 {
		return nil, internal("a listener's certificate needs a name")
	}
	t, err := leaf(in, validity, backdate)
	if err != nil {
		return nil, err
	}
	if t.SubjectKeyId, err = KeyID(in.PublicKey); err != nil {
		return nil, err
	}
	t.Subject.CommonName = commonName(in.Names, bulkhead.DNS)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return t, nil
}

// base has serial, dates, subject and key identifiers.
func (in House) base() (*x509.Certificate, error) {
	switch {
	case in.Serial.IsZero() || in.Now.IsZero():
		return nil, internal("template without serial or time")
	case in.Validity <= minRemaining || in.Validity%time.Second != 0:
		return nil, internal("validity %v", in.Validity)
	case in.Backdate < 0 || in.Backdate > maxHouseBackdate || in.Backdate >= in.Validity:
		return nil, internal("backdate %v", in.Backdate)
	case len(in.RawSubject) == 0 && in.Subject.CommonName == "":
		return nil, internal("the house's certificates have a common name (BR 7.1.2.10.2)")
	case in.Parent != nil && (!in.Parent.IsCA || len(in.Parent.SubjectKeyId) == 0):
		return nil, internal("parent is not an authority with a subject key identifier")
	}
	notBefore, notAfter, err := window(in.Now, in.Validity, in.Backdate, in.Parent)
	if err != nil {
		return nil, err
	}
	skid, err := KeyID(in.PublicKey)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Version: 3, SerialNumber: in.Serial.Big(), PublicKey: in.PublicKey,
		Subject: in.Subject, RawSubject: slices.Clone(in.RawSubject),
		NotBefore: notBefore, NotAfter: notAfter,
		BasicConstraintsValid: true, SubjectKeyId: skid,
	}
	if in.Parent != nil {
		t.AuthorityKeyId = slices.Clone(in.Parent.SubjectKeyId)
	}
	return t, nil
}
