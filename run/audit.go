package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"bulkhead"
	"bulkhead/pki/graph"
)

// Limits of an audit's input in octets.
const (
	maxAuditFile  = 256 << 20
	maxAuditTotal = 1 << 30
)

// AuditReport is what hierarchy audit says of files. Every PEM block, DER certificate and file of the input is in
// Certificates or in Unparsed.
type AuditReport struct {
	Certificates []AuditCertificate `json:"certificates"`
	Unparsed     []graph.Unparsed   `json:"unparsed"`
	Findings     []AuditFinding     `json:"findings"`
}

// AuditCertificate is one certificate of the input.
type AuditCertificate struct {
	graph.Source
	SHA256    string    `json:"sha256"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"` // hex
	CA        bool      `json:"ca"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Duplicate bool      `json:"duplicate,omitempty"` // the same certificate came earlier in the input
}

// AuditFinding is one finding; Victims are certificates of the report by SHA-256.
type AuditFinding struct {
	Rule         graph.Rule     `json:"rule"`
	Severity     graph.Severity `json:"severity"`
	SHA256       string         `json:"sha256"`
	Subject      string         `json:"subject"`
	Message      string         `json:"message"`
	Victims      []string       `json:"victims"`
	VictimsTotal int            `json:"victims_total"` // more than are listed when the list was cut
	graph.Source
}

// Serious reports whether anything needs action: a warning or an error, not only notices.
func (r AuditReport) Serious() bool {
	for _, f := range r.Findings {
		if f.Severity != graph.Notice {
			return true
		}
	}
	return false
}

// AuditHierarchy reads certificates from files, from directories with everything below them, and from in where a path is
// "-", and audits them at a time. It needs no data directory. A path that cannot be read is a fault; an unreadable file
// inside a directory is listed as unparsed.
func AuditHierarchy(ctx context.Context, paths []string, in io.Reader, at time.Time) (AuditReport, error) {
	r := auditReader{ctx: ctx, in: in}
	for _, p := range paths {
		if err := r.path(p); err != nil {
			return AuditReport{}, err
		}
	}
	out := AuditReport{Certificates: make([]AuditCertificate, 0, len(r.found)), Unparsed: append([]graph.Unparsed{}, r.unparsed...), Findings: []AuditFinding{}}
	seen := make(map[bulkhead.Hash]bool, len(r.found))
	for _, c := range r.found {
		out.Certificates = append(out.Certificates, AuditCertificate{Source: c.Source, SHA256: c.Hash.String(), Subject: c.Subject, Issuer: c.Issuer,
			Serial: c.SerialText(), CA: c.CA, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Duplicate: seen[c.Hash]})
		seen[c.Hash] = true
	}
	g := graph.New(r.found)
	names := make(map[*graph.Certificate]string, len(g.Certificates))
	for _, c := range g.Certificates {
		names[c] = c.Hash.String()
	}
	for _, f := range graph.Audit(g, at) {
		x := AuditFinding{Rule: f.Rule, Severity: f.Severity, SHA256: names[f.Certificate], Subject: f.Certificate.Subject, Message: f.Message,
			Victims: make([]string, 0, len(f.Victims)), VictimsTotal: f.Total, Source: f.Certificate.Source}
		for _, v := range f.Victims {
			x.Victims = append(x.Victims, names[v])
		}
		out.Findings = append(out.Findings, x)
	}
	return out, nil
}

// auditReader collects the input.
type auditReader struct {
	ctx      context.Context
	in       io.Reader
	total    int64
	found    []*graph.Certificate
	unparsed []graph.Unparsed
}

func (r *auditReader) path(p string) error {
	if p == "-" {
		return r.stream("-", r.in)
	}
	info, err := os.Stat(p)
	if err != nil {
		return unreadable(p, err)
	}
	if info.IsDir() {
		return r.directory(p)
	}
	f, err := os.Open(p)
	if err != nil {
		return unreadable(p, err)
	}
	defer f.Close()
	return r.stream(p, f)
}

func unreadable(path string, err error) error {
	return bulkhead.Faultf(bulkhead.KindNotFound, "%s cannot be read: %s", path, reason(err)).WithHint("name files or directories with certificates, or - for standard input")
}

// reason is an error without the path that it repeats.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// directory reads everything below a directory in lexical order. It follows links to files, as in /etc/ssl/certs, and
// none to directories, which may turn in circles.
func (r *auditReader) directory(top string) error {
	return filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			r.skip(p, reason(err))
			return nil
		}
		if d.IsDir() {
			return r.ctx.Err()
		}
		info, err := os.Stat(p)
		switch {
		case err != nil:
			r.skip(p, reason(err))
			return nil
		case info.IsDir():
			r.skip(p, "a link to a directory, which is not followed: name it to have it read")
			return nil
		case !info.Mode().IsRegular():
			r.skip(p, "not a regular file")
			return nil
		}
		f, err := os.Open(p)
		if err != nil {
			r.skip(p, reason(err))
			return nil
		}
		defer f.Close()
		return r.stream(p, f)
	})
}

func (r *auditReader) skip(path, why string) {
	r.unparsed = append(r.unparsed, graph.Unparsed{Source: graph.Source{File: path}, Reason: why})
}

func (r *auditReader) stream(path string, in io.Reader) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(in, maxAuditFile+1))
	if err != nil {
		return unreadable(path, err)
	}
	if len(body) > maxAuditFile {
		r.skip(path, fmt.Sprintf("larger than %d MiB", maxAuditFile>>20))
		return nil
	}
	if r.total += int64(len(body)); r.total > maxAuditTotal {
		return bulkhead.Faultf(bulkhead.KindNotFound, "the input is larger than %d MiB in total", maxAuditTotal>>20).WithHint("audit it in parts: siblings and their issuer in one part")
	}
	found, unparsed := graph.Read(path, body)
	r.found, r.unparsed = append(r.found, found...), append(r.unparsed, unparsed...)
	return nil
}
