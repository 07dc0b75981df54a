package graph

import "slices"

// Habit is a way in which OCSP responders are known, or can be imagined, to find the certificate that a status is about
// without asking for issuer and serial number. Each calls revoked what is not.
type Habit string

// Habits. The day of October 2016 was BySubjectAndKey together with ByNewest: a cross-certificate was revoked, and since
// it had name and key of a root and was newer, everything below that root was "revoked".
const (
	BySubjectAndKey Habit = "subject-and-key" // every certificate with the name and key, and all that they issued
	ByKey           Habit = "key"             // every certificate with the key, under whatever name, and all that they issued
	BySerial        Habit = "serial"          // every certificate with the serial number, of whatever issuer
	ByNewest        Habit = "newest-twin"     // the newest certificate of a name and key stands for all of them
)

// Habits lists every habit.
var Habits = []Habit{BySubjectAndKey, ByKey, BySerial, ByNewest}

// Misreading is what a responder with a habit would call revoked in excess.
type Misreading struct {
	Certificates []*Certificate // of the graph, by subject; none that was revoked, none that is self-signed
	Issuers      []*Authority   // all that these issued, the certificates that are not in the graph too
}

// Misread says what a responder with the habit would call revoked, besides the certificates themselves, once it is told
// that they are.
func (g *Graph) Misread(revoked []*Certificate, h Habit) Misreading {
	gone := make(map[*Certificate]bool, len(revoked))
	for _, c := range revoked {
		gone[c] = true
	}
	hit, issuers := map[*Certificate]bool{}, map[*Authority]bool{}
	for _, c := range revoked {
		for _, x := range g.takenFor(c, h) {
			hit[x] = true
			if a := g.Subject(x); h != BySerial && c.mayIssue() && a.certifies {
				issuers[a] = true
			}
		}
	}
	var out Misreading
	for _, a := range g.Authorities {
		if issuers[a] {
			out.Issuers = append(out.Issuers, a)
			for _, x := range a.Issued {
				hit[x] = true
			}
		}
	}
	for x := range hit {
		if !gone[x] && !g.SelfSigned(x) {
			out.Certificates = append(out.Certificates, x)
		}
	}
	slices.SortFunc(out.Certificates, bySubject)
	return out
}

// takenFor lists the certificates that a responder with the habit takes for c, c among them where anything is.
func (g *Graph) takenFor(c *Certificate, h Habit) []*Certificate {
	twins := g.Subject(c).Certificates
	switch h {
	case BySubjectAndKey:
		return twins
	case ByNewest:
		if twins[len(twins)-1] == c {
			return twins
		}
		return nil
	case ByKey:
		var out []*Certificate
		for _, a := range g.Authorities {
			if a.Key == g.Subject(c).Key {
				out = append(out, a.Certificates...)
			}
		}
		return out
	default:
		var out []*Certificate
		for _, x := range g.Certificates {
			if x.Serial.Cmp(c.Serial) == 0 {
				out = append(out, x)
			}
		}
		return out
	}
}
