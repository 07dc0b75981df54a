package run

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"time"

	"bulkhead"
	"bulkhead/scan"
	"bulkhead/scan/probe"
)

// ScanOptions say what to scan and how. No house is needed.
type ScanOptions struct {
	Targets       []string
	Files         []string // of targets, one a line; "-" reads In
	In            io.Reader
	More          []scan.Target // from elsewhere: the inventory
	Ports         []uint16      // for targets that have none of their own
	Authorisation string        // file that allows blocks of addresses
	AllowPrivate  bool          // names may lead to loopback and private addresses
	Whole         bool
	Resolver      string
	Timeout       time.Duration // of one step of a look
	Concurrency   int
	PerHost       int
	Retries       int
	StateFile     string
	CAFile        string // authorities by which missing intermediates are known
	Tiers         []ScanTier
	CAA           []string // names by which CAA records permit the house whose authorities CAFile has
	Before        string   // output of an earlier run, to compare keys with
	Started       func(targets, known int)
	Each          func(scan.Result)
	// Keep gives all results to a record, which may add findings; nil keeps nothing.
	Keep func(ctx context.Context, rs []scan.Result) error
}

// ScanTargets reads every target before anything is dialled, so that a slip in a list changes nothing.
func ScanTargets(o ScanOptions, now time.Time) ([]scan.Target, error) {
	var all []scan.Target
	for _, text := range o.Targets {
		t, err := scan.ParseTargets(text, o.Ports)
		if err != nil {
			return nil, err
		}
		all = append(all, t...)
	}
	for _, name := range o.Files {
		t, err := readTargets(name, o)
		if err != nil {
			return nil, err
		}
		all = append(all, t...)
	}
	all = append(all, o.More...)
	if len(all) == 0 {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "nothing to scan").WithHint("bulkhead scan www.example.com, or --file FILE, or --inventory")
	}
	return authorised(all, o, now)
}

func readTargets(name string, o ScanOptions) ([]scan.Target, error) {
	if name == "-" {
		return scan.ReadTargets(o.In, "standard input", o.Ports)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the file of targets cannot be opened: %s", err)
	}
	defer f.Close()
	return scan.ReadTargets(f, name, o.Ports)
}

// authorised turns blocks into addresses, when somebody answers for it.
func authorised(all []scan.Target, o ScanOptions, now time.Time) ([]scan.Target, error) {
	var allowed []scan.Authorisation
	if o.Authorisation != "" {
		f, err := os.Open(o.Authorisation)
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "the authorisation cannot be opened: %s", err)
		}
		defer f.Close()
		if allowed, err = scan.ReadAuthorisations(f); err != nil {
			return nil, err
		}
	}
	out := make([]scan.Target, 0, len(all))
	for _, t := range all {
		if t.Block.IsValid() {
			if _, err := scan.Authorise(t.Block, allowed, now); err != nil {
				return nil, err
			}
		}
		out = append(out, t.Expand()...)
	}
	return out, nil
}

// Scan looks at every target. The results are in their order; with an error of ctx they are those that were done.
func Scan(ctx context.Context, o ScanOptions) ([]scan.Result, error) {
	targets, err := ScanTargets(o, time.Now())
	if err != nil {
		return nil, err
	}
	known, err := readAuthorities(o.CAFile)
	if err != nil {
		return nil, err
	}
	before, err := readBefore(o.Before)
	if err != nil {
		return nil, err
	}
	guard := scan.NewGuard(o.AllowPrivate, scan.Own(targets)...)
	looker, err := probe.New(probe.Config{Dial: guard.Dial, Now: time.Now, Timeout: o.Timeout, Total: 4 * o.Timeout, Known: known})
	if err != nil {
		return nil, err
	}
	cfg := scan.Config{Looker: looker, Names: scan.NewResolver(o.Resolver), Now: time.Now, Whole: o.Whole, Concurrency: o.Concurrency,
		PerHost: o.PerHost, Retries: o.Retries, Each: o.Each}
	if o.StateFile != "" {
		if cfg.State, err = scan.OpenState(o.StateFile, o.Whole); err != nil {
			return nil, err
		}
		defer cfg.State.Close()
	}
	if o.Started != nil {
		o.Started(len(targets), cfg.State.Done())
	}
	if o.Whole {
		facts, err := o.facts(guard, known)
		if err != nil {
			return nil, err
		}
		cfg.Judge = facts.Add
	}
	rs, err := scan.Sweep(ctx, cfg, targets)
	scan.SharedKeys(rs)
	scan.Since(rs, before)
	if err == nil && o.Keep != nil {
		err = o.Keep(ctx, rs)
	}
	return rs, err
}

// facts are what a run without a house adds to whole looks. The authorities of CAFile count as the house's.
func (o ScanOptions) facts(guard *scan.Guard, known []*x509.Certificate) (scan.Facts, error) {
	f := scan.Facts{Known: known, Ours: known, MostCRL: crlForTheHouse, Sources: []scan.StatusSource{{Fetcher: asNamed(guard, scan.NewResolver(o.Resolver))}}}
	for _, t := range o.Tiers {
		through, err := throughTier(t.Base)
		if err != nil {
			return f, err
		}
		f.Sources = append(f.Sources, scan.StatusSource{Tier: t.Name, Fetcher: through})
	}
	var err error
	f.CAA, err = caaOf(o.Resolver, o.CAA)
	return f, err
}

func readBefore(name string) ([]scan.Result, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the earlier run cannot be opened: %s", err)
	}
	defer f.Close()
	return scan.ReadResults(f, name)
}

// readAuthorities reads every certificate of a PEM file.
func readAuthorities(path string) ([]*x509.Certificate, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the authorities cannot be read: %s", err)
	}
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, bulkhead.NewFault(bulkhead.KindUsage, fmt.Sprintf("%s holds something that is no certificate: %s", path, err))
		}
		out = append(out, c)
	}
	return out, nil
}
