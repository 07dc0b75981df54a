package lint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	zlint "github.com/zmap/zlint/v3/lint"
)

var update = flag.Bool("update", false, "write frame_rules.go from the source of the lint library")

// frameFields are the fields of the library's Certificate that its parser fills from what makes the frame (see frame), and
// subjectField that which it fills from the subject besides. util.IsExtInCert is about the frame whatever the extension.
var frameFields = []string{"Issuer", "RawIssuer", "Version", "SignatureAlgorithm", "SignatureAlgorithmOID", "PublicKeyAlgorithm", "PublicKeyAlgorithmOID", "SelfSigned",
	"KeyUsage", "ExtKeyUsage", "UnknownExtKeyUsage", "BasicConstraintsValid", "IsCA", "MaxPathLen", "MaxPathLenZero", "AuthorityKeyId", "OCSPServer", "IssuingCertificateURL",
	"IANOtherNames", "IANDNSNames", "IANEmailAddresses", "IANDirectoryNames", "IANEDIPartyNames", "IANURIs", "IANIPAddresses", "IANRegisteredIDs",
	"QualifierId", "CPSuri", "ExplicitTexts", "NoticeRefOrgnization", "NoticeRefNumbers", "ParsedExplicitTexts", "ParsedNoticeRefOrganization", "UserNotices",
	"NameConstraintsCritical", "PermittedDNSNames", "ExcludedDNSNames", "PermittedEmailAddresses", "ExcludedEmailAddresses", "PermittedURIs", "ExcludedURIs", "PermittedIPAddresses",
	"ExcludedIPAddresses", "PermittedDirectoryNames", "ExcludedDirectoryNames", "PermittedEdiPartyNames", "ExcludedEdiPartyNames", "PermittedRegisteredIDs", "ExcludedRegisteredIDs",
	"PermittedX400Addresses", "ExcludedX400Addresses", "CRLDistributionPoints", "PolicyIdentifiers", "IsPrecert", "SignedCertificateTimestampList", "CABFOrganizationIdentifier",
	"QCStatements", "TorServiceDescriptors", "OtherNames", "DirectoryNames", "EDIPartyNames", "URIs", "RegisteredIDs", "IssuerUniqueId", "SubjectUniqueId"}

var (
	subjectFields = []string{"Subject", "RawSubject"}
	dateFields    = []string{"NotBefore", "NotAfter", "ValidityPeriod", "Validity"}
)

// byHand are functions that take all octets of a certificate, and by their source look at only a part. They are named
// with the digest of the file that they are in, so that another version has to be read again.
var byHand = map[string]string{
	getTimes:   "7dcb41bddcc0f7b7", // the two elements of Validity, found by skipping what is before them
	invalidDER: "1e52f5872b925191", // see below
}

const (
	getTimes = zlintPath + "/util.GetTimes"
	// invalidDER reads the frame: it unmarshals the certificate into structures that leave open all but INTEGERs,
	// AlgorithmIdentifiers and the BIT STRING of the signature, which crypto/x509 has read more strictly before, and looks at the second
	// field of each extension: the criticality as it stands, or the OCTET STRING.
	invalidDER = zlintPath + "/lints/rfc.certExtensionInvalidDER.Execute"
)

func TestReadByHand(t *testing.T) {
	r := newReader(t)
	for name, want := range byHand {
		source, err := os.ReadFile(r.fset.Position(r.funcs[name].Pos()).Filename)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(source); hex.EncodeToString(sum[:8]) != want {
			t.Errorf("the source of %s is another one now, %x: read it again", name, sum[:8])
		}
	}
}

// frameOnly says whether reads are of the frame, and besides perhaps of the subject. why counts what else there is.
func frameOnly(reads map[string]bool, why map[string]int) (frame, subject, dates bool) {
	frame = true
	for x := range reads {
		name, isExt := strings.CutPrefix(x, "ext:")
		switch {
		case strings.HasPrefix(x, "is:"), slices.Contains(frameFields, x):
		case isExt && name != "SubjectAlternateNameOID" && name != "SubjectKeyIdentityOID":
		case slices.Contains(subjectFields, x):
			subject = true
		case slices.Contains(dateFields, x):
			dates = true
		default:
			frame = false
			why[x]++
		}
	}
	return frame, subject, dates
}

// TestFrameRules proves from the source of the library that the rules of frame_rules.go read nothing but the frame, and
// some of them the subject, or that whether they apply depends on nothing else. -update writes that file.
func TestFrameRules(t *testing.T) {
	r := newReader(t)
	names := map[string][]string{}
	why := map[string]int{}
	for _, l := range zlint.GlobalRegistry().CertificateLints().Lints() {
		typ := reflect.TypeOf(l.Lint())
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		of := func(method string) map[string]bool { return r.of(typ.PkgPath() + "." + typ.Name() + "." + method) }
		applies, reads := maps.Clone(of("CheckApplies")), map[string]bool{}
		if _, configured := l.Lint().(zlint.Configurable); configured {
			applies[everything+" it is configured"] = true
		}
		maps.Copy(reads, applies)
		maps.Copy(reads, of("Execute"))
		frame, subject, dates := frameOnly(reads, why)
		list := ""
		switch {
		case frame && !subject && !dates:
			list = "frameRules"
		case frame && !dates:
			list = "subjectRules"
		case frame && !subject:
			list = "dateRules"
		}
		if list != "" {
			names[list] = append(names[list], l.Name)
		}
		if first, subject, dates := frameOnly(applies, map[string]int{}); first && !subject && !dates && list != "frameRules" {
			names["appliesByFrame"] = append(names["appliesByFrame"], l.Name)
		}
	}
	var b bytes.Buffer
	b.WriteString("package lint\n\n// Which rules of the library read what, proved from its source. Written by: go test ./pki/lint -run TestFrameRules -update\n")
	for _, v := range []string{"frameRules", "subjectRules", "dateRules", "appliesByFrame"} {
		slices.Sort(names[v])
		fmt.Fprintf(&b, "\nvar %s = ruleNames(`\n%s\n`)\n", v, strings.Join(names[v], "\n"))
	}
	if *update {
		if err := os.WriteFile("frame_rules.go", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile("frame_rules.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, b.Bytes()) {
		t.Error("frame_rules.go is not what the source of the library says: run with -update and read the difference")
	}
	t.Logf("%d rules read the frame, %d the subject too, %d the dates; whether %d others apply is the frame's; others because of %v",
		len(names["frameRules"]), len(names["subjectRules"]), len(names["dateRules"]), len(names["appliesByFrame"]), why)
}

// TestLikenessReads: no rule reads a field that likeness leaves out, and none changes the certificate that it is shown, which
// shares what is in the frame with others.
func TestLikenessReads(t *testing.T) {
	r := newReader(t)
	methods := []string{"GetParsedDNSNames", "GetParsedSubjectCommonName"} // they read DNSNames and Subject, and write to fields of their own
	fields := map[string]bool{}
	for name := range r.funcs {
		for x := range r.of(name) {
			method, is := strings.CutPrefix(x, everything+" method ")
			if slices.Contains(unset, x) || strings.Contains(x, "it writes to the certificate") || is && !slices.Contains(methods, method) {
				t.Errorf("%s: %s", name, x)
			}
			fields[x] = true
		}
	}
	if !fields["DNSNames"] || !fields["Raw"] || !fields[everything+" method GetParsedDNSNames"] {
		t.Error("the reading found too little")
	}
}
