package importer

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"bulkhead"
)

// maxJSON bounds a file of JSON.
const maxJSON = 64 << 20

// Piece is one block, entry or line of the input.
type Piece struct {
	File      string
	Line      int    // from 1; of JSON and DER 1
	DER       []byte // of a certificate or a CRL
	Serial    string // of a list that names it and holds no certificate
	RevokedAt time.Time
	Reason    bulkhead.Reason
	Entry     string // words before a problem with Serial, such as "entry 7: "
	Problem   string // why it cannot be taken; then nothing else is set but the place
	bare      bool   // DER that is a whole file
}

// Read takes a file apart by what is in it: JSON, PEM with certificates and CRLs, or DER of one of them. The pieces hold no
// part of body but for DER.
func Read(name string, body []byte, emit func(Piece)) {
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		emit(Piece{File: name, Line: 1, Problem: "the file is empty"})
	case trimmed[0] == '{' || trimmed[0] == '[':
		readJSON(name, trimmed, emit)
	case bytes.Contains(body, []byte(pemBegin)):
		readPEM(name, body, emit)
	default:
		emit(Piece{File: name, Line: 1, DER: body, bare: true})
	}
}

// HasList reports whether a file may hold more than certificates: what it says of revocations has to be known before the
// first certificate is taken.
func HasList(body []byte) bool {
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return false
	case trimmed[0] == '{' || trimmed[0] == '[':
		return true
	case bytes.Contains(body, []byte(pemBegin)):
		return bytes.Contains(body, []byte(pemBegin+"X509 CRL"))
	}
	_, err := x509.ParseRevocationList(body)
	return err == nil
}

const pemBegin = "-----BEGIN "

func readPEM(name string, body []byte, emit func(Piece)) {
	line, rest := 1, body
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			if bytes.Contains(rest, []byte(pemBegin)) {
				emit(Piece{File: name, Line: line, Problem: "a PEM block is damaged"})
			}
			return
		}
		used := rest[:len(rest)-len(after)]
		n := bytes.Count(used, []byte(pemBegin))
		begin := bytes.Index(used, []byte(pemBegin))
		if n > 1 {
			begin = bytes.LastIndex(used, []byte(pemBegin+block.Type))
		}
		at := line + bytes.Count(used[:max(begin, 0)], []byte("\n"))
		if n > 1 {
			emit(Piece{File: name, Line: line, Problem: fmt.Sprintf("%d PEM blocks are damaged", n-1)})
		}
		line += bytes.Count(used, []byte("\n"))
		rest = after
		switch block.Type {
		case "CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CRL":
			emit(Piece{File: name, Line: at, DER: block.Bytes})
		default:
			emit(Piece{File: name, Line: at, Problem: fmt.Sprintf("a PEM block of type %.60q is neither a certificate nor a CRL", block.Type)})
		}
	}
}

// vaultCertificate is what `bao read -format=json pki/cert/SERIAL` prints, `vault` and the HTTP API as well; a list is the
// same with keys.
type vaultCertificate struct {
	Data struct {
		Certificate    string   `json:"certificate"`
		RevocationTime int64    `json:"revocation_time"` // UNIX seconds; 0 is not revoked
		Keys           []string `json:"keys"`            // of a list
	} `json:"data"`
}

// readJSON reads a list of serials or a certificate of OpenBao or Vault.
func readJSON(name string, body []byte, emit func(Piece)) {
	bad := func(format string, args ...any) {
		emit(Piece{File: name, Line: 1, Problem: fmt.Sprintf(format, args...)})
	}
	if len(body) > maxJSON {
		bad("more than %d octets of JSON", maxJSON)
		return
	}
	if body[0] == '[' {
		var serials []string
		if err := json.Unmarshal(body, &serials); err != nil {
			bad("not a JSON list of serials: %s", err)
			return
		}
		emitSerials(name, serials, emit)
		return
	}
	var v vaultCertificate
	if err := json.Unmarshal(body, &v); err != nil {
		bad("not JSON of a certificate: %s", err)
		return
	}
	if v.Data.Certificate == "" && len(v.Data.Keys) == 0 {
		bad("JSON without data.certificate and data.keys")
		return
	}
	emitSerials(name, v.Data.Keys, emit)
	if v.Data.Certificate == "" {
		return
	}
	block, _ := pem.Decode([]byte(v.Data.Certificate))
	if block == nil {
		bad("data.certificate is not PEM")
		return
	}
	p := Piece{File: name, Line: 1, DER: block.Bytes}
	if v.Data.RevocationTime > 0 {
		p.RevokedAt = time.Unix(v.Data.RevocationTime, 0).UTC()
	}
	emit(p)
}

func emitSerials(name string, list []string, emit func(Piece)) {
	for i, text := range list {
		if text == "" {
			emit(Piece{File: name, Line: 1, Problem: fmt.Sprintf("entry %d is empty", i+1)})
			continue
		}
		emit(Piece{File: name, Line: 1, Serial: strings.ReplaceAll(text, "-", ":"), Entry: fmt.Sprintf("entry %d: ", i+1)})
	}
}
