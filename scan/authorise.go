package scan

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
)

// Authorisation is somebody's written word that a block of addresses may be scanned.
type Authorisation struct {
	Block netip.Prefix
	By    string // who allowed it
	Until time.Time
}

// largest blocks that one authorisation opens: a look at each address of more would never end.
const (
	widestIPv4 = 12
	widestIPv6 = 108
)

// ReadAuthorisations reads the file of authorisations: a YAML list of block, by and until (a day in UTC, included).
func ReadAuthorisations(r io.Reader) ([]Authorisation, error) {
	var rows []struct {
		Block string `yaml:"block"`
		By    string `yaml:"by"`
		Until string `yaml:"until"`
	}
	dec := yaml.NewDecoder(io.LimitReader(r, 1<<20))
	dec.KnownFields(true)
	bad := func(format string, args ...any) error {
		return bulkhead.Faultf(bulkhead.KindUsage, "the authorisation: "+format, args...).
			WithHint("write a list: - {block: 192.0.2.0/24, by: \"NAME, OFFICE\", until: 2026-12-31}")
	}
	if err := dec.Decode(&rows); err != nil {
		return nil, bad("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var out []Authorisation
	for i, row := range rows {
		p, err := netip.ParsePrefix(row.Block)
		if err != nil {
			return nil, bad("entry %d: %q is no block of addresses", i+1, row.Block)
		}
		if p.Addr().Is4() && p.Bits() < widestIPv4 || p.Addr().Is6() && p.Bits() < widestIPv6 {
			return nil, bad("entry %d: %s is wider than /%d for IPv4 and /%d for IPv6", i+1, p, widestIPv4, widestIPv6)
		}
		day, err := time.Parse(time.DateOnly, row.Until)
		if err != nil {
			return nil, bad("entry %d: until %q is not a day like 2026-12-31", i+1, row.Until)
		}
		if len(strings.TrimSpace(row.By)) < 3 {
			return nil, bad("entry %d does not say who allowed it", i+1)
		}
		out = append(out, Authorisation{Block: p.Masked(), By: row.By, Until: day.AddDate(0, 0, 1)})
	}
	return out, nil
}

// Authorise finds who allowed a block to be scanned, or says that nobody did.
func Authorise(block netip.Prefix, all []Authorisation, now time.Time) (by string, err error) {
	why := "no authorisation names it"
	for _, a := range all {
		if a.Block.Bits() > block.Bits() || !a.Block.Contains(block.Addr()) {
			continue
		}
		if now.Before(a.Until) {
			return a.By, nil
		}
		why = fmt.Sprintf("the authorisation by %s ended on %s", a.By, a.Until.AddDate(0, 0, -1).Format(time.DateOnly))
	}
	return "", bulkhead.Faultf(bulkhead.KindGate, "block %s is not scanned: %s", block, why).
		WithHint("get it in writing, then: bulkhead scan " + block.String() + " --authorisation FILE")
}

// Expand gives the addresses of a block as targets. The first and last of an IPv4 block of more than two are no hosts.
func (t Target) Expand() []Target {
	if !t.Block.IsValid() {
		return []Target{t}
	}
	var out []Target
	for a := t.Block.Addr(); t.Block.Contains(a); a = a.Next() {
		one := Target{Host: a.String(), Address: a, Port: t.Port, STARTTLS: t.STARTTLS, Text: netip.AddrPortFrom(a, t.Port).String()}
		out = append(out, one)
	}
	if t.Block.Addr().Is4() && t.Block.Bits() < 31 {
		out = out[1 : len(out)-1]
	}
	return out
}
