package incident

import (
	"bytes"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
)

//go:embed advice.yaml
var houseAdvice []byte

// ChainAdvice is one rule of what to do to the chain, by product and time of issue.
type ChainAdvice struct {
	ID          string   `yaml:"id"`
	Source      string   `yaml:"source"`
	Products    []string `yaml:"products"`               // profiles, or what the house sold them as
	IssuedFrom  string   `yaml:"issued_from,omitempty"`  // a minute in Zone
	IssuedUntil string   `yaml:"issued_until,omitempty"` // a minute in Zone, the whole of it included
	Zone        string   `yaml:"zone"`                   // "NAME ±HH:MM"
	Advice      string   `yaml:"advice"`

	from, before time.Time
}

// HouseAdvice reads the rules that come with the program.
func HouseAdvice() ([]ChainAdvice, error) { return ParseAdvice(houseAdvice) }

// ParseAdvice reads rules; a time without a readable zone is refused, for "20:59" means nothing by itself.
func ParseAdvice(text []byte) ([]ChainAdvice, error) {
	var out []ChainAdvice
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&out); err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "the chain advice cannot be read: "+err.Error()).WithCause(err)
	}
	for i := range out {
		if err := out[i].settle(); err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindMalformed, "chain advice %q: %s", out[i].ID, err)
		}
	}
	return out, nil
}

func (a *ChainAdvice) settle() error {
	if a.ID == "" || a.Advice == "" || len(a.Products) == 0 {
		return fmt.Errorf("a rule has an id, products and an advice")
	}
	name, offset, ok := strings.Cut(a.Zone, " ")
	z, err := time.Parse("-07:00", offset)
	if !ok || err != nil {
		return fmt.Errorf("zone %q is not like JST +09:00", a.Zone)
	}
	_, seconds := z.Zone()
	zone := time.FixedZone(name, seconds)
	for _, x := range []struct {
		text string
		to   *time.Time
		add  time.Duration
	}{{a.IssuedFrom, &a.from, 0}, {a.IssuedUntil, &a.before, time.Minute}} {
		if x.text == "" {
			continue
		}
		t, err := time.ParseInLocation("2006-01-02 15:04", x.text, zone)
		if err != nil {
			return fmt.Errorf("%q is not a minute like 2013-08-02 20:59", x.text)
		}
		*x.to = t.Add(x.add)
	}
	return nil
}

// ChainAdvice is what the holder of a certificate of this product, issued at this time, must do to the chain.
func (s *Service) ChainAdvice(product string, issued time.Time) []string {
	var out []string
	for _, a := range s.cfg.Advice {
		if slices.Contains(a.Products, product) && (a.from.IsZero() || !issued.Before(a.from)) && (a.before.IsZero() || issued.Before(a.before)) {
			out = append(out, a.Advice)
		}
	}
	return out
}
