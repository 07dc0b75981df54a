package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// certificateDoc is the answer of the certificate command.
type certificateDoc struct {
	OK         bool          `json:"ok"`
	Checkpoint checkpointDoc `json:"checkpoint"`
	SHA256     bulkhead.Hash `json:"sha256"`
	Serial     string        `json:"serial"`
	Intent     *leafDoc      `json:"intent"`
	Outcome    *leafDoc      `json:"outcome"`
	Findings   []finding     `json:"findings"`
}

func (t *tool) certificateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "certificate FILE",
		Short: "prove that a certificate (PEM or DER, - for standard input) and the intent to sign it are in the log",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return t.certificate(args[0])
		},
	}
}

func (t *tool) certificate(file string) error {
	cp, _, found, err := t.open()
	if err != nil {
		return err
	}
	cert, err := t.readCertificate(file)
	if err != nil {
		return err
	}
	doc := certificateDoc{Checkpoint: docOf(cp), SHA256: bulkhead.Digest(cert.Raw)}
	serial, err := bulkhead.SerialFromBig(cert.SerialNumber)
	if err != nil {
		found = append(found, finding{Rule: "serial", Message: "the certificate's serial number is none that the log can hold"})
	}
	doc.Serial = serial.String()
	if len(found) == 0 {
		if found, err = t.search(cp, cert, serial, &doc); err != nil {
			return err
		}
	}
	doc.OK, doc.Findings = len(found) == 0, list(found)
	text := ""
	if doc.OK {
		text = fmt.Sprintf("certificate %s (serial %s)\n  outcome is leaf %d of %d, at %s\n  intent is leaf %d, at %s\n  proved against the checkpoint of %s with root %s\n",
			doc.SHA256, doc.Serial, doc.Outcome.Index, cp.Size, doc.Outcome.Time, doc.Intent.Index, doc.Intent.Time, cp.Origin, cp.Root)
	}
	return t.finish(doc, text, found)
}

func (t *tool) readCertificate(file string) (*x509.Certificate, error) {
	var raw []byte
	var err error
	if file == "-" {
		raw, err = io.ReadAll(t.stdin)
	} else {
		raw, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "cannot read the certificate: %v", err).
			WithHint("bulkhead-verify certificate --log DIR --key FILE CERTIFICATE")
	}
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			raw = block.Bytes // of a chain, the first is the subject of the question
			break
		}
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "%s is no certificate: %v", file, err).
			WithHint("give one certificate in PEM or DER")
	}
	return cert, nil
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// search walks the log for the two leaves; every leaf that it sees is proved. Two authorities may share a serial, so
// the intent is known by the digest of the TBSCertificate, the outcome by that of the certificate.
func (t *tool) search(cp tlog.Checkpoint, cert *x509.Certificate, serial bulkhead.Serial, doc *certificateDoc) ([]finding, error) {
	tbs := bulkhead.Digest(cert.RawTBSCertificate)
	var late *int64
	err := tlog.Walk(t.read, cp, 0, func(index int64, leaf []byte) error {
		e, err := tlog.Parse(leaf)
		if err != nil || e.Serial != serial {
			return nil // leaves that are malformed are for the log command to report
		}
		switch {
		case e.Kind == bulkhead.EvCertificateIntent && e.Digest == tbs && doc.Intent == nil && doc.Outcome == nil:
			doc.Intent = newLeafDoc(index, e)
		case e.Kind == bulkhead.EvCertificateIntent && e.Digest == tbs && doc.Outcome != nil:
			late = &index
			return errEnough
		case e.Kind == bulkhead.EvCertificateOutcome && e.Digest == doc.SHA256 && doc.Outcome == nil:
			doc.Outcome = newLeafDoc(index, e)
			if doc.Intent != nil {
				return errEnough
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return verdict(err)
	}
	switch {
	case doc.Outcome == nil && doc.Intent == nil:
		return []finding{{Rule: "not-in-log", Message: fmt.Sprintf("none of %d leaves speaks of this certificate", cp.Size)}}, nil
	case doc.Outcome == nil:
		return []finding{{Rule: "no-outcome", Index: &doc.Intent.Index, Message: "the intent to sign is in the log, but no outcome for this certificate"}}, nil
	case doc.Intent == nil:
		message := "no intent before the outcome"
		if late != nil {
			message = fmt.Sprintf("the intent is leaf %d, after the outcome", *late)
		}
		return []finding{{Rule: tlog.RuleNoIntent, Index: &doc.Outcome.Index, Message: message}}, nil
	case doc.Outcome.Link != doc.Intent.Digest || doc.Outcome.Authority != doc.Intent.Authority:
		return []finding{{Rule: tlog.RuleOtherIntent, Index: &doc.Outcome.Index, Message: "the outcome belongs to another intent"}}, nil
	case doc.Intent.KeyHash != bulkhead.Digest(cert.RawSubjectPublicKeyInfo):
		return []finding{{Rule: "other-key", Index: &doc.Intent.Index, Message: "the intent names another subject key than the certificate"}}, nil
	}
	return nil, nil
}
