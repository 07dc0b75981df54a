package scan

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bulkhead"
)

// shelf answers from memory.
type shelf struct{ ocsp, crl []byte }

func (s shelf) Fetch(_ context.Context, url, _ string, body []byte, most int64) ([]byte, error) {
	out := s.crl
	if body != nil {
		out = s.ocsp
	}
	if int64(len(out)) > most {
		return nil, errors.New("too long")
	}
	if out == nil || !strings.HasPrefix(url, "http://status.test/") {
		return nil, errors.New("connection refused")
	}
	return out, nil
}

func (c clan) list(t *testing.T, serial *big.Int, at time.Time) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at.Add(-time.Hour), NextUpdate: at.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: serial, RevocationTime: at.Add(-2 * time.Hour)}}}, c.ca, c.caKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestFacts plants each thing that sources of status and CAA may say, and is silent when all is well. What is no valid answer
// is unavailable, never good.
func TestFacts(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Second)
	c, foreign := makeClan(t, at), makeClan(t, at)
	other := new(big.Int).Add(c.leaf.SerialNumber, big.NewInt(1))
	good := shelf{c.staple(t, ocsp.Good, at), c.list(t, other, at)}
	allows := "yes"
	caa := func(_ context.Context, name string) (bulkhead.CAASeen, error) {
		if allows == "" {
			return bulkhead.CAASeen{}, bulkhead.NewFault(bulkhead.KindUnavailable, "no answer")
		}
		return bulkhead.CAASeen{Name: name, At: "test", Records: `0 issue "x.test"`, Allows: allows}, nil
	}
	see := func(f Facts) Endpoint {
		e := Endpoint{Look: bulkhead.Look{At: at, Endpoint: bulkhead.Endpoint{SNI: "a.test"}, Staple: c.staple(t, ocsp.Good, at),
			Chain: &bulkhead.ServedChain{DER: [][]byte{c.leaf.Raw}, NotBefore: c.leaf.NotBefore, NotAfter: c.leaf.NotAfter}}}
		f.CAA = caa
		f.Add(t.Context(), &e)
		return e
	}
	words := func(e Endpoint) (out string) {
		for _, s := range e.Status {
			out += s.Via + "/" + s.Tier + " " + string(s.State) + " "
		}
		return strings.TrimSpace(out)
	}
	house := []*x509.Certificate{c.ca}
	for name, x := range map[string]struct {
		facts  Facts
		allows string
		rules  []string
		words  string
	}{
		"all is well": {Facts{Known: house, Ours: house, MostCRL: 1 << 20, Sources: []StatusSource{{Fetcher: good}, {Tier: "cdn", Fetcher: good, Only: house}}}, "yes", nil,
			"staple/ good ocsp/ good crl/ good ocsp/cdn good crl/cdn good"},
		"no CRL is asked for": {Facts{Known: house, Ours: house, Sources: []StatusSource{{Fetcher: good}}}, "yes", nil, "staple/ good ocsp/ good"},
		"a stale tier": {Facts{Known: house, Ours: house, MostCRL: 1 << 20, Sources: []StatusSource{{Fetcher: shelf{c.staple(t, ocsp.Revoked, at), c.list(t, c.leaf.SerialNumber, at)}}, {Tier: "cdn", Fetcher: good}}}, "yes",
			[]string{"revoked", "status-disagrees"}, "staple/ good ocsp/ revoked crl/ revoked ocsp/cdn good crl/cdn good"},
		"nobody answers":                {Facts{Known: house, Ours: house, MostCRL: 1 << 20, Sources: []StatusSource{{Fetcher: shelf{}}}}, "yes", []string{"status-missing"}, "staple/ good ocsp/ unavailable crl/ unavailable"},
		"answers of others":             {Facts{Known: house, Ours: house, MostCRL: 1 << 20, Sources: []StatusSource{{Fetcher: shelf{foreign.staple(t, ocsp.Good, at), foreign.list(t, other, at)}}}}, "yes", []string{"status-missing"}, "staple/ good ocsp/ unavailable crl/ unavailable"},
		"answers of old":                {Facts{Known: house, Ours: house, MostCRL: 1 << 20, Sources: []StatusSource{{Fetcher: shelf{c.staple(t, ocsp.Good, at.Add(-48*time.Hour)), c.list(t, other, at.Add(-48*time.Hour))}}}}, "yes", []string{"status-missing"}, "staple/ good ocsp/ unavailable crl/ unavailable"},
		"nonsense":                      {Facts{Known: house, Ours: house, MostCRL: 1 << 20, Sources: []StatusSource{{Fetcher: shelf{[]byte("<html>"), []byte{0x30, 0x80}}}}}, "yes", []string{"status-missing"}, "staple/ good ocsp/ unavailable crl/ unavailable"},
		"a list without end":            {Facts{Known: house, Ours: house, MostCRL: 10, Sources: []StatusSource{{Fetcher: good}}}, "yes", []string{"status-missing"}, "staple/ good ocsp/ good crl/ unavailable"},
		"an unknown answer":             {Facts{Known: house, Ours: house, Sources: []StatusSource{{Fetcher: shelf{ocsp: c.staple(t, ocsp.Unknown, at)}}}}, "yes", []string{"status-missing"}, "staple/ good ocsp/ unknown"},
		"nobody knows issuer":           {Facts{MostCRL: 1 << 20, Sources: []StatusSource{{Fetcher: good}, {Tier: "cdn", Fetcher: good, Only: house}}}, "yes", []string{"status-missing"}, "staple/ unavailable ocsp/ unavailable crl/ unavailable"},
		"CAA forbids us":                {Facts{Known: house, Ours: house}, "no", []string{"caa-forbids"}, "staple/ good"},
		"CAA forbids us, others issued": {Facts{Known: house}, "no", nil, "staple/ good"},
		"CAA cannot be told":            {Facts{Known: house, Ours: house}, "", nil, "staple/ good"},
	} {
		allows = x.allows
		e := see(x.facts)
		var rules []string
		for _, f := range e.Findings {
			if rules = append(rules, f.Rule); ruleWords[f.Rule] == "" {
				t.Errorf("%s: rule %s has no words", name, f.Rule)
			}
		}
		if !slices.Equal(rules, x.rules) || words(e) != x.words {
			t.Errorf("%s: %v, %s; want %v, %s", name, rules, words(e), x.rules, x.words)
		}
		if ours := x.facts.Ours != nil; e.Status[0].Ours != ours || e.CAA == nil || x.allows == "" && e.CAA.Detail == "" {
			t.Errorf("%s: ours is %v, CAA %+v", name, e.Status[0].Ours, e.CAA)
		}
	}
	young := makeClan(t, at)
	young.leaf.NotBefore = at.Add(-time.Minute)
	if got := statusFindings([]bulkhead.StatusSeen{{Via: "ocsp", State: bulkhead.StatusUnavailable}}, young.leaf, at); len(got) != 0 {
		t.Errorf("a certificate of a minute is told to lack status (BR 4.9.9 gives 15): %+v", got)
	}
}
