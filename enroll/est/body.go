package est

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
	"bulkhead/enroll"
)

// MaxBody is the largest request body read, in bytes: the largest certification request in base64, with line breaks.
const MaxBody = 128 << 10

const howToSend = "openssl req -in REQUEST.pem -outform DER | openssl base64 | curl --data-binary @- --header 'Content-Type: application/pkcs10' …"

// readBody reads a certification request as DER, unparsed.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/pkcs10" {
		return nil, status(http.StatusUnsupportedMediaType, bulkhead.NewFault(bulkhead.KindMalformed, "the content type of a request is application/pkcs10 (RFC 7030 section 4.2.1)").
			WithHint(howToSend))
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, status(http.StatusUnsupportedMediaType, bulkhead.NewFault(bulkhead.KindMalformed, "content codings are not read").WithHint("send the body as it is"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, status(http.StatusRequestEntityTooLarge, bulkhead.Faultf(bulkhead.KindMalformed, "the body is larger than %d bytes", MaxBody).
			WithHint("a request for fewer names, or a smaller key"))
	}
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "the body could not be read to its end").WithCause(err)
	}
	return decodeBody(body)
}

// decodeBody gives the DER inside a body: base64 with or without white space (RFC 8951 section 3), or bare DER, which
// some clients send. The header Content-Transfer-Encoding says nothing (RFC 8951 section 3). The two cannot be
// mistaken for each other: DER of a SEQUENCE begins with '0', its base64 with 'M'.
func decodeBody(body []byte) ([]byte, error) {
	bad := func(what string) ([]byte, error) {
		return nil, bulkhead.NewFault(bulkhead.KindBadCSR, what).WithHint(howToSend)
	}
	der := body
	switch {
	case len(body) == 0:
		return bad("the body is empty")
	case bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("-----BEGIN")):
		return bad("the body is PEM; EST takes the base64 alone, without header and footer lines")
	case body[0] != 0x30:
		text := bytes.Map(func(r rune) rune {
			if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
				return -1
			}
			return r
		}, body)
		var err error
		if der, err = base64.StdEncoding.Strict().AppendDecode(nil, text); err != nil {
			return bad("the body is neither base64 nor DER of a certification request")
		}
	}
	if len(der) > enroll.MaxCSR {
		return nil, status(http.StatusRequestEntityTooLarge, bulkhead.Faultf(bulkhead.KindBadCSR, "the request has %d bytes, at most %d are read", len(der), enroll.MaxCSR))
	}
	rest := cryptobyte.String(der)
	if !rest.ReadASN1(new(cryptobyte.String), cbasn1.SEQUENCE) || !rest.Empty() {
		return bad("the body is not exactly one certification request")
	}
	return der, nil
}

// oidChangeSubjectName is id-cmc-changeSubjectName (RFC 6402 section 2.8): a wish that RFC 7030 section 4.2.2 lets a
// client put into a renewal.
var oidChangeSubjectName = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 7, 36}

// changesName finds ChangeSubjectName among the attributes of a request. What does not parse is left to whoever
// verifies the request.
func changesName(der []byte) bool {
	var request, info, attributes, attribute cryptobyte.String
	var present bool
	in := cryptobyte.String(der)
	if !in.ReadASN1(&request, cbasn1.SEQUENCE) || !request.ReadASN1(&info, cbasn1.SEQUENCE) ||
		!info.SkipASN1(cbasn1.INTEGER) || !info.SkipASN1(cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.SEQUENCE) ||
		!info.ReadOptionalASN1(&attributes, &present, cbasn1.Tag(0).ContextSpecific().Constructed()) || !present {
		return false
	}
	for !attributes.Empty() {
		var oid asn1.ObjectIdentifier
		if !attributes.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) {
			return false
		}
		if oid.Equal(oidChangeSubjectName) {
			return true
		}
	}
	return false
}
