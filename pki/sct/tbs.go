package sct

import (
	"crypto/x509/pkix"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Extensions of RFC 6962 sections 3.1 and 3.3.
var (
	oidPoison = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}
	oidList   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
)

// Poison makes a certificate that no verifier accepts: a precertificate.
func Poison() pkix.Extension {
	return pkix.Extension{Id: oidPoison, Critical: true, Value: []byte{0x05, 0x00}}
}

// Extension is the list as a certificate carries it.
func Extension(list []SCT) (pkix.Extension, error) {
	raw, err := MarshalList(list)
	if err != nil {
		return pkix.Extension{}, err
	}
	value, err := asn1.Marshal(raw)
	return pkix.Extension{Id: oidList, Value: value}, err
}

// FromExtensions reads the list of a certificate; nil when it has none.
func FromExtensions(all []pkix.Extension) ([]SCT, error) {
	for _, e := range all {
		if !e.Id.Equal(oidList) {
			continue
		}
		var raw []byte
		if rest, err := asn1.Unmarshal(e.Value, &raw); err != nil || len(rest) > 0 {
			return nil, malformed("the extension holds no OCTET STRING")
		}
		return ParseList(raw)
	}
	return nil, nil
}

// Bare is a TBSCertificate without poison and timestamps: what a precertificate and its certificate have in common, octet
// for octet. had says whether something was taken out.
func Bare(tbs []byte) (bare []byte, had bool, err error) {
	bad := malformed("the bytes are no TBSCertificate with extensions")
	in, body := cryptobyte.String(tbs), cryptobyte.String(nil)
	if !in.ReadASN1(&body, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, false, bad
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)))
	failed := false
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for !body.Empty() {
			var element cryptobyte.String
			var tag cbasn1.Tag
			if !body.ReadAnyASN1Element(&element, &tag) {
				failed = true
				return
			}
			if tag != cbasn1.Tag(3).Constructed().ContextSpecific() {
				b.AddBytes(element)
				continue
			}
			if !bareExtensions(b, element, &had) {
				failed = true
			}
		}
	})
	out, err := b.Bytes()
	if failed || err != nil {
		return nil, false, bad
	}
	return out, had, nil
}

func bareExtensions(b *cryptobyte.Builder, element cryptobyte.String, had *bool) bool {
	var outer, list cryptobyte.String
	tag := cbasn1.Tag(3).Constructed().ContextSpecific()
	if !element.ReadASN1(&outer, tag) || !outer.ReadASN1(&list, cbasn1.SEQUENCE) || !outer.Empty() {
		return false
	}
	ok := true
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for !list.Empty() {
				var one, inner cryptobyte.String
				var id asn1.ObjectIdentifier
				if !list.ReadASN1Element(&one, cbasn1.SEQUENCE) {
					ok = false
					return
				}
				look := one
				if !look.ReadASN1(&inner, cbasn1.SEQUENCE) || !inner.ReadASN1ObjectIdentifier(&id) {
					ok = false
					return
				}
				if id.Equal(oidPoison) || id.Equal(oidList) {
					*had = true
					continue
				}
				b.AddBytes(one)
			}
		})
	})
	return ok
}
