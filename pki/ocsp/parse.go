package ocsp

import (
	"crypto/x509"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
)

// Bounds on a response: more than anybody sends, little enough to be harmless.
const (
	maxSingles      = 1024
	maxCertificates = 16
)

// Response is a parsed OCSPResponse; nothing in it is verified. Slices point into the DER that was parsed. Only Status
// is set unless it is Successful.
type Response struct {
	Status             ResponseStatus
	TBS                []byte // DER ResponseData, what the signature covers
	ResponderName      []byte // DER Name; nil when the responder is named by key
	ResponderKeyHash   []byte // SHA-1 of the responder's key bits; nil when it is named by name
	ProducedAt         time.Time
	Singles            []SingleResponse
	Nonce              []byte
	HasNonce           bool
	SignatureAlgorithm x509.SignatureAlgorithm // UnknownSignatureAlgorithm when we do not know it
	Signature          []byte
	Certificates       [][]byte // DER, as embedded
	unknownCritical    bool     // a critical response extension that we do not know
}

// SingleResponse is one statement of a response. NextUpdate is zero when absent.
type SingleResponse struct {
	Single
	CertID          CertID
	reasonExtension bool // reasonCode as a singleExtension (BR 7.3.2 forbids it)
	unknownCritical bool
}

// ParseResponse reads an OCSPResponse as strict DER; anything else is KindMalformed. Whom to believe is the matter
// of CheckResponse.
func ParseResponse(der []byte) (*Response, error) {
	r := &Response{}
	if d := r.parse(der); d != "" {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "OCSP response: %s", string(d)).
			WithHint("openssl ocsp -respin FILE -resp_text -noverify shows what it holds")
	}
	return r, nil
}

// ParseData reads a ResponseData alone: what BuildTBSFor made and a pack holds. Nothing in it is verified; KindMalformed
// for anything else.
func ParseData(tbs []byte) (*Response, error) {
	r := &Response{TBS: tbs}
	if d := r.parseData(tbs); d != "" {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "OCSP response data: %s", string(d))
	}
	return r, nil
}

func (r *Response) parse(der []byte) defect {
	in := cryptobyte.String(der)
	var outer, status, wrap, bytes, oid, basic cryptobyte.String
	if !in.ReadASN1(&outer, asn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1(&status, asn1.ENUM) || len(status) != 1 {
		return "not a DER OCSPResponse"
	}
	r.Status = ResponseStatus(status[0])
	if r.Status.String() == "undefined" {
		return "the response status does not exist"
	}
	if r.Status != Successful {
		if !outer.Empty() {
			return "an error response has contents"
		}
		return ""
	}
	if !outer.ReadASN1(&wrap, cons0) || !outer.Empty() || !wrap.ReadASN1(&bytes, asn1.SEQUENCE) || !wrap.Empty() ||
		!readOID(&bytes, &oid) || !bytes.ReadASN1(&basic, asn1.OCTET_STRING) || !bytes.Empty() {
		return "responseBytes are malformed"
	}
	if string(oid) != oidBasic {
		return "the response type is not basic"
	}
	return r.parseBasic(basic)
}

func (r *Response) parseBasic(in cryptobyte.String) defect {
	var basic, tbs, oid, params, bits, certs cryptobyte.String
	var present bool
	if !in.ReadASN1(&basic, asn1.SEQUENCE) || !in.Empty() || !basic.ReadASN1Element(&tbs, asn1.SEQUENCE) {
		return "the basic response is malformed"
	}
	if !readAlgorithm(&basic, &oid, &params) || !basic.ReadASN1(&bits, asn1.BIT_STRING) || len(bits) < 2 || bits[0] != 0 {
		return "the signature is malformed"
	}
	if !basic.ReadOptionalASN1(&certs, &present, cons0) || !basic.Empty() {
		return "unexpected element after the signature"
	}
	if present {
		if d := r.parseCertificates(certs); d != "" {
			return d
		}
	}
	r.TBS, r.Signature, r.SignatureAlgorithm = tbs, bits[1:], signatureAlgorithm(oid, params)
	return r.parseData(tbs)
}

func (r *Response) parseCertificates(in cryptobyte.String) defect {
	var list, cert cryptobyte.String
	if !in.ReadASN1(&list, asn1.SEQUENCE) || !in.Empty() {
		return "the list of certificates is malformed"
	}
	for !list.Empty() {
		if len(r.Certificates) == maxCertificates {
			return "too many certificates"
		}
		if !list.ReadASN1Element(&cert, asn1.SEQUENCE) {
			return "a certificate is malformed"
		}
		r.Certificates = append(r.Certificates, cert)
	}
	return ""
}

func (r *Response) parseData(in cryptobyte.String) defect {
	var data, version, list, exts cryptobyte.String
	var present bool
	if !in.ReadASN1(&data, asn1.SEQUENCE) || !in.Empty() || !data.ReadOptionalASN1(&version, &present, cons0) || present && string(version) != "\x02\x01\x00" {
		return "the version is not v1"
	}
	if d := r.parseResponder(&data); d != "" {
		return d
	}
	if !readTime(&data, &r.ProducedAt) {
		return "producedAt is malformed"
	}
	if !data.ReadASN1(&list, asn1.SEQUENCE) || !data.ReadOptionalASN1(&exts, &present, cons1) || !data.Empty() {
		return "the response data are malformed"
	}
	if list.Empty() {
		return "there is no single response"
	}
	for !list.Empty() {
		if len(r.Singles) == maxSingles {
			return "too many single responses"
		}
		var s SingleResponse
		if d := s.parse(&list); d != "" {
			return d
		}
		r.Singles = append(r.Singles, s)
	}
	if present {
		return r.parseExtensions(exts)
	}
	return ""
}

func (r *Response) parseResponder(data *cryptobyte.String) defect {
	var id, inner cryptobyte.String
	switch {
	case data.PeekASN1Tag(cons1):
		if !data.ReadASN1(&id, cons1) || !asElement(id, &inner, asn1.SEQUENCE) {
			return "the responder's name is malformed"
		}
		r.ResponderName = id
	case data.PeekASN1Tag(cons2):
		if !data.ReadASN1(&id, cons2) || !asElement(id, &inner, asn1.OCTET_STRING) || len(inner) != 20 {
			return "the responder's key hash is malformed"
		}
		r.ResponderKeyHash = inner
	default:
		return "the responder is not named"
	}
	return ""
}

// asElement reads the contents of s, which must be exactly one element of the given tag.
func asElement(s cryptobyte.String, out *cryptobyte.String, tag asn1.Tag) bool {
	return s.ReadASN1(out, tag) && s.Empty()
}

func (r *Response) parseExtensions(outer cryptobyte.String) defect {
	var list cryptobyte.String
	if d := readExtensions(outer, &list); d != "" {
		return d
	}
	for !list.Empty() {
		var e extension
		if !readExtension(&list, &e) {
			return "an extension is malformed"
		}
		switch {
		case string(e.oid) == oidNonce:
			if d := readNonce(e.value, &r.Nonce); d != "" {
				return d
			}
			r.HasNonce = true
		case e.critical:
			r.unknownCritical = true
		}
	}
	return ""
}

func (s *SingleResponse) parse(list *cryptobyte.String) defect {
	var seq, next, exts cryptobyte.String
	var present bool
	if !list.ReadASN1(&seq, asn1.SEQUENCE) {
		return "a single response is not a sequence"
	}
	if d := readCertID(&seq, &s.CertID); d != "" {
		return d
	}
	s.Serial = s.CertID.Serial
	if d := s.parseStatus(&seq); d != "" {
		return d
	}
	if !readTime(&seq, &s.ThisUpdate) || !seq.ReadOptionalASN1(&next, &present, cons0) {
		return "thisUpdate is malformed"
	}
	if present && (!readTime(&next, &s.NextUpdate) || !next.Empty()) {
		return "nextUpdate is malformed"
	}
	if !seq.ReadOptionalASN1(&exts, &present, cons1) || !seq.Empty() {
		return "unexpected element in a single response"
	}
	if present {
		return s.parseExtensions(exts)
	}
	return ""
}

func (s *SingleResponse) parseStatus(seq *cryptobyte.String) defect {
	var value, reason cryptobyte.String
	var tag asn1.Tag
	if !seq.ReadAnyASN1(&value, &tag) {
		return "the status is missing"
	}
	switch {
	case tag == ctx0 && value.Empty():
		s.State = Good
		return ""
	case tag == ctx2 && value.Empty():
		s.State = Unknown
		return ""
	case tag != cons1:
		return "the status is malformed"
	}
	s.State = Revoked
	if !readTime(&value, &s.RevokedAt) || !value.ReadOptionalASN1(&reason, &s.HasReason, cons0) || !value.Empty() {
		return "the revocation time is malformed"
	}
	if s.HasReason {
		var code cryptobyte.String
		if !asElement(reason, &code, asn1.ENUM) || len(code) != 1 || code[0] > byte(bulkhead.AACompromise) || code[0] == 7 {
			return "the revocation reason is malformed"
		}
		s.Reason = bulkhead.Reason(code[0])
	}
	return ""
}

func (s *SingleResponse) parseExtensions(outer cryptobyte.String) defect {
	var list cryptobyte.String
	if d := readExtensions(outer, &list); d != "" {
		return d
	}
	for !list.Empty() {
		var e extension
		if !readExtension(&list, &e) {
			return "an extension is malformed"
		}
		switch {
		case string(e.oid) == oidReason:
			s.reasonExtension = true
		case e.critical:
			s.unknownCritical = true
		}
	}
	return ""
}
