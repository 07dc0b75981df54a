package lint

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/util"
)

// Most of what a leaf says is what the one before it said: issuer, algorithms, and every extension but the names and the
// identifier of its key. That is its frame. More than half of the library's rules read nothing else (frame_rules.go, proved
// from their source by TestFrameRules), so that what they found in one certificate they find in each with the same frame, octet
// for octet; they are run once for each frame. The others are run for every certificate.

func ruleNames(list string) map[string]bool {
	out := map[string]bool{}
	for _, n := range strings.Fields(list) {
		out[n] = true
	}
	return out
}

// split puts the rules of a set apart by what they read.
func split(all []certificateRule) rules {
	r := rules{memory: &memory{of: map[string][]Finding{}}}
	for _, l := range all {
		switch {
		case frameRules[l.Name]:
			r.framed = append(r.framed, l)
		case subjectRules[l.Name]:
			r.subjected = append(r.subjected, l)
		default:
			r.certificate = append(r.certificate, l)
		}
		for _, t := range []time.Time{l.EffectiveDate, l.IneffectiveDate} {
			if !t.IsZero() && (frameRules[l.Name] || subjectRules[l.Name]) {
				r.dates = append(r.dates, t)
			}
		}
	}
	slices.SortFunc(r.dates, time.Time.Compare)
	return r
}

// library runs the rules of the library.
func (r rules) library(c *zx509.Certificate) []Finding {
	speaks := sourcesOf(c)
	blank := len(c.RawSubject) == 2 // an empty SEQUENCE: the subject of every certificate that names only in its extension
	found := r.memory.recall(frame(c, speaks, r.era(c.NotBefore)), blank, func() []Finding {
		out := runAll(nil, r.framed, c, speaks)
		if blank {
			out = runAll(out, r.subjected, c, speaks)
		}
		return out
	})
	if !blank {
		found = runAll(found, r.subjected, c, speaks)
	}
	return runAll(found, r.certificate, c, speaks)
}

func runAll(found []Finding, all []certificateRule, c *zx509.Certificate, speaks purposes) []Finding {
	for _, l := range all {
		if result := execute(l, c, speaks); result != nil {
			found = appendForeign(found, l.LintMetadata, result)
		}
	}
	return found
}

// era says between which of the dates of the rules a certificate begins: within one the same rules are in force.
func (r rules) era(notBefore time.Time) int {
	n, _ := slices.BinarySearchFunc(r.dates, notBefore, func(date, t time.Time) int {
		if date.After(t) {
			return 1
		}
		return -1 // one that begins at the date is after it: rules begin and end at the date itself
	})
	return n
}

// frame is the frame of a certificate as octets, no two frames alike, with the era and the purposes for which it is taken. The
// names and the identifier of the key are there with their place and criticality, and without their value.
func frame(c *zx509.Certificate, speaks purposes, era int) []byte {
	b := make([]byte, 0, 1024)
	part := func(p []byte) { b = append(binary.AppendUvarint(b, uint64(len(p))), p...) }
	flag := func(f bool) {
		if f {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	oid := func(o []int) {
		b = binary.AppendUvarint(b, uint64(len(o)))
		for _, n := range o {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	for _, n := range []int{era, c.Version, int(c.SignatureAlgorithm), int(c.PublicKeyAlgorithm)} {
		b = binary.AppendVarint(b, int64(n))
	}
	for _, f := range []bool{speaks.server, speaks.mail, speaks.code, c.SelfSigned} {
		flag(f)
	}
	oid(c.SignatureAlgorithmOID)
	oid(c.PublicKeyAlgorithmOID)
	part(c.RawIssuer)
	for _, e := range c.Extensions {
		oid(e.Id)
		flag(e.Critical)
		if !e.Id.Equal(util.SubjectAlternateNameOID) && !e.Id.Equal(util.SubjectKeyIdentityOID) {
			part(e.Value)
		}
	}
	return b
}

// maxFrames bounds the memory of one set: an issuer, a profile and a CRL shard make one, of about a kilobyte.
const maxFrames = 1024

// memory holds what rules found in a frame.
type memory struct {
	mu sync.RWMutex
	of map[string][]Finding
}

// recall gives what run found before for the key, in a slice that the caller may append to.
func (m *memory) recall(key []byte, blank bool, run func() []Finding) []Finding {
	if blank {
		key = append(key, 1)
	} else {
		key = append(key, 0)
	}
	m.mu.RLock()
	found, known := m.of[string(key)]
	m.mu.RUnlock()
	if !known {
		found = slices.Clip(run())
		m.mu.Lock()
		if len(m.of) >= maxFrames {
			clear(m.of)
		}
		m.of[string(key)] = found
		m.mu.Unlock()
	}
	return found[:len(found):len(found)]
}
