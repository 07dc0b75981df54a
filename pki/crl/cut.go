package crl

// Cut returns how many octets the first entry of p has and the contents of its serial's INTEGER: 0 when p ends before the entry
// does, or does not begin with one. It is for whoever keeps an entry file and changes it; WriteFile holds the result against the rules.
func Cut(p []byte) (size int, serial []byte) {
	if len(p) < 4 || p[0] != tagSequence || p[1] >= 0x80 || p[2] != tagInteger {
		return 0, nil
	}
	if size = 2 + int(p[1]); size > len(p) || 4+int(p[3]) > size {
		return 0, nil
	}
	return size, p[4 : 4+int(p[3])]
}

// Encoder writes entries one after the other as they stand in an entry file.
type Encoder struct{ encoder }

// Append adds the DER of e to dst. Faults as of Write.
func (c *Encoder) Append(dst []byte, e *Entry) ([]byte, error) { return c.append(dst, e) }
