package tlog

import "bulkhead"

// maxWords bounds what a Parser remembers.
const maxWords = 256

// Parser is Parse for whoever reads many leaves: the few actors and authorities that most of them name are kept once. The zero
// value is ready. It belongs to one goroutine.
type Parser struct{ words map[string]string }

// Parse is the function of that name.
func (p *Parser) Parse(leaf []byte) (bulkhead.Evidence, error) { return parseLeaf(leaf, p.word) }

func (p *Parser) word(b []byte) string {
	if w, ok := p.words[string(b)]; ok {
		return w
	}
	w := string(b)
	if p.words == nil {
		p.words = map[string]string{}
	}
	if len(p.words) < maxWords {
		p.words[w] = w
	}
	return w
}
