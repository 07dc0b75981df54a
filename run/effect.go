package run

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/graph"
)

// EffectReport is what revoking certificates of files would do.
type EffectReport struct {
	Answers  []EffectCertificate `json:"answers"` // whose status answer changes
	Sets     []EffectSet         `json:"sets"`
	Misread  []EffectMisread     `json:"misread"` // what responders with bad habits would call revoked in excess
	Unparsed []graph.Unparsed    `json:"unparsed"`
	text     []string
}

// EffectCertificate is one certificate.
type EffectCertificate struct {
	SHA256  string `json:"sha256"`
	Subject string `json:"subject"`
	Issuer  string `json:"issuer"`
	Serial  string `json:"serial"`
}

// EffectSet is what happens for one kind of relying party.
type EffectSet struct {
	Anchors   string              `json:"anchors"`
	Lost      []EffectCertificate `json:"lost"`    // had a path and have none
	Reduced   []EffectCertificate `json:"reduced"` // lose a path and have another
	Untouched int                 `json:"untouched"`
	Without   int                 `json:"without"` // had no path before
}

// EffectMisread is what a responder with one habit would call revoked in excess.
type EffectMisread struct {
	Habit        graph.Habit         `json:"habit"`
	Certificates []EffectCertificate `json:"certificates"`
}

// Loses reports whether anybody loses the last path to something that is not revoked itself.
func (r EffectReport) Loses() bool {
	return slices.ContainsFunc(r.Sets, func(s EffectSet) bool { return len(s.Lost) > 0 })
}

// String says it in words, one kind of relying party after the other.
func (r EffectReport) String() string { return strings.Join(r.text, "") }

// EffectOnFiles says what revoking the certificates in the files of revoke would do to those in paths, for clients that
// trust each file of trust, or each self-signed certificate of the input alone and all together. It needs no data directory.
func EffectOnFiles(ctx context.Context, paths, revoke, trust []string, in io.Reader, at time.Time) (EffectReport, error) {
	r := auditReader{ctx: ctx, in: in}
	for _, p := range paths {
		if err := r.path(p); err != nil {
			return EffectReport{}, err
		}
	}
	all := r.found
	gone, err := certificatesIn(ctx, revoke)
	if err != nil {
		return EffectReport{}, err
	}
	anchors := make([][]*graph.Certificate, len(trust))
	for i, p := range trust {
		if anchors[i], err = certificatesIn(ctx, []string{p}); err != nil {
			return EffectReport{}, err
		}
		all = append(all, anchors[i]...)
	}
	g := graph.New(append(all, gone...))
	var revoked []*graph.Certificate
	for _, c := range gone {
		revoked = append(revoked, g.ByHash(c.Hash))
	}
	var sets []graph.AnchorSet
	for i, p := range trust {
		s := graph.AnchorSet{Name: "clients of " + p}
		for _, c := range anchors[i] {
			s.Anchors = append(s.Anchors, g.Named(c))
		}
		sets = append(sets, s)
	}
	if len(sets) == 0 {
		sets = rootsOf(g)
	}
	return reportEffect(g, revoked, sets, at, r.unparsed), nil
}

// certificatesIn reads files that hold certificates and nothing else.
func certificatesIn(ctx context.Context, paths []string) ([]*graph.Certificate, error) {
	r := auditReader{ctx: ctx}
	for _, p := range paths {
		if err := r.path(p); err != nil {
			return nil, err
		}
	}
	if len(r.unparsed) > 0 {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "%s, number %d: %s", r.unparsed[0].File, r.unparsed[0].Index+1, r.unparsed[0].Reason).WithHint("name files with certificates, PEM or DER")
	}
	return r.found, nil
}

// rootsOf makes an anchor set of each self-signed authority, and one of all.
func rootsOf(g *graph.Graph) []graph.AnchorSet {
	all := graph.AnchorSet{Name: "clients that trust all roots"}
	var sets []graph.AnchorSet
	for _, a := range g.Authorities {
		if slices.ContainsFunc(a.Certificates, g.SelfSigned) {
			sets = append(sets, graph.AnchorSet{Name: "clients that trust only " + a.Name, Anchors: []*graph.Authority{a}})
			all.Anchors = append(all.Anchors, a)
		}
	}
	if len(sets) > 1 {
		sets = append(sets, all)
	}
	return sets
}

func reportEffect(g *graph.Graph, revoked []*graph.Certificate, sets []graph.AnchorSet, at time.Time, unparsed []graph.Unparsed) EffectReport {
	e := g.Effects(revoked, sets, at)
	out := EffectReport{Answers: effectList(e.Answers), Sets: []EffectSet{}, Misread: []EffectMisread{}, Unparsed: append([]graph.Unparsed{}, unparsed...)}
	for _, s := range e.Sets {
		out.Sets = append(out.Sets, EffectSet{s.Anchors, effectList(s.Lost), effectList(s.Kept), s.Untouched, s.Without})
		out.text = append(out.text, s.String())
	}
	for _, h := range graph.Habits {
		m := g.Misread(revoked, h)
		if len(m.Certificates) == 0 {
			continue
		}
		out.Misread = append(out.Misread, EffectMisread{h, effectList(m.Certificates)})
		var names []string
		for _, c := range m.Certificates[:min(len(m.Certificates), auditNames)] {
			names = append(names, c.Subject)
		}
		if more := len(m.Certificates) - len(names); more > 0 {
			names = append(names, "and more; --json lists them")
		}
		out.text = append(out.text, "a responder that goes by "+string(h)+" would call revoked what is not: "+strings.Join(names, ", ")+"\n")
	}
	return out
}

// auditNames bounds the names in one line of talk.
const auditNames = 10

func effectList(list []*graph.Certificate) []EffectCertificate {
	out := make([]EffectCertificate, 0, len(list))
	for _, c := range list {
		out = append(out, EffectCertificate{c.Hash.String(), c.Subject, c.Issuer, c.SerialText()})
	}
	return out
}
