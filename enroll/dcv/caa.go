package dcv

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"bulkhead"
	"bulkhead/pki/policy"
)

// caaCritical is the issuer critical flag (RFC 8659 section 4.1).
const caaCritical = 0x80

// knownTags are property tags whose meaning we know; a critical property of any other tag forbids issuance.
var knownTags = []string{"issue", "issuewild", "issuemail", "issuevmc", "iodef", "contactemail", "contactphone"}

// CheckCAA looks up CAA for one name (RFC 8659 section 3) and judges it by RFC 8657. A denial is a result, not an
// error: the row has to be kept. For a name of our own a failed lookup is an exemption with its reason.
func (v *Validator) CheckCAA(ctx context.Context, id bulkhead.Identifier, wildcard bool, accountURI string, m bulkhead.Method) (bulkhead.CAACheck, error) {
	now := v.cfg.Now().UTC()
	// The floor of "TTL or 8 hours, whichever is greater" (BR 4.2.2.1): a longer TTL is not made use of.
	c := bulkhead.CAACheck{Identifier: id, At: now, ValidUntil: now.Add(policy.CAAReuse(0, now))}
	if id.Type != bulkhead.DNS {
		c.Result, c.Detail = bulkhead.CAAExempt, "CAA is for DNS names only (RFC 8659 section 3)"
		return c, nil
	}
	name := id.Base().Value
	if special := specialUse(name); special != "" && v.cfg.Resolver == "" {
		c.Result, c.Detail = bulkhead.CAAExempt, special+": it has no public zone, and no resolver is configured for it"
		return c, nil
	}
	at, records, err := v.climb(ctx, name)
	if err != nil {
		if ctx.Err() != nil {
			return c, err
		}
		detail := bulkhead.AsFault(err).Detail
		if v.cfg.OwnNames.Contains(id) {
			c.Result, c.Detail = bulkhead.CAAExempt, "own name whose zone could not be asked: "+detail
			return c, nil
		}
		c.Result, c.Detail = bulkhead.CAADenied, "the lookup failed, which is no permission: "+detail
		return c, nil
	}
	if len(records) == 0 {
		c.Result, c.Detail = bulkhead.CAAPermitted, "no CAA records from "+name+" up"
		return c, nil
	}
	ask := question{identities: v.identities, wildcard: wildcard || id.Wildcard(), accountURI: accountURI, method: m}
	permitted, why := ask.judge(records)
	c.Result = bulkhead.CAADenied
	if permitted {
		c.Result = bulkhead.CAAPermitted
	}
	c.Detail = fmt.Sprintf("%s; at %s: %s", why, at, recordText(records))
	return c, nil
}

// LookCAA tells what CAA says for a name, for a report and not for a decision: nothing is kept, and a failed lookup is an error.
func (v *Validator) LookCAA(ctx context.Context, name string) (bulkhead.CAASeen, error) {
	c := bulkhead.CAASeen{Name: name, Allows: "unknown"}
	if special := specialUse(name); special != "" && v.cfg.Resolver == "" {
		c.Detail = special + ": it has no public zone"
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Total)
	defer cancel()
	at, records, err := v.climb(ctx, name)
	if err != nil {
		return c, err
	}
	if len(records) == 0 {
		c.Allows, c.Detail = "yes", "no CAA records: every authority may issue"
		return c, nil
	}
	permitted, why := question{identities: v.identities, method: bulkhead.DNS01}.judge(records)
	c.At, c.Records, c.Detail = at, recordText(records), why
	if c.Allows = "no"; permitted {
		c.Allows = "yes"
	}
	return c, nil
}

// climb finds the relevant record set: the first non-empty one from the name towards the root. It asks for some names at the
// same time and looks at the answers in their order: what one above the relevant set says, or fails to say, counts for
// nothing.
func (v *Validator) climb(ctx context.Context, name string) (at string, records []*dns.CAA, err error) {
	var names []string
	for at = name; at != ""; _, at, _ = strings.Cut(at, ".") {
		names = append(names, at)
	}
	for len(names) > 0 {
		some := names[:min(climbAtOnce, len(names))]
		names = names[len(some):]
		if at, records, err = v.climbSome(ctx, some); err != nil || len(records) > 0 {
			return at, records, err
		}
	}
	return "", nil, nil
}

// climbAtOnce is how many names are asked for at the same time.
const climbAtOnce = 4

func (v *Validator) climbSome(ctx context.Context, names []string) (at string, records []*dns.CAA, err error) {
	all := make([]wanted, len(names))
	for i, at := range names {
		all[i] = wanted{at, dns.TypeCAA}
	}
	results, done := v.dns.lookups(ctx, all...)
	defer done()
	for i, at := range names {
		rrs, err := results[i]()
		if err != nil {
			return at, nil, err
		}
		for _, rr := range rrs {
			if caa, ok := rr.(*dns.CAA); ok {
				records = append(records, caa)
			}
		}
		if len(records) > 0 {
			return at, records, nil
		}
	}
	return "", nil, nil
}

// question is what is asked of a relevant record set.
type question struct {
	identities []string
	wildcard   bool
	accountURI string
	method     bulkhead.Method
}

// judge applies RFC 8659 sections 4.1 to 4.3.
func (q question) judge(records []*dns.CAA) (permitted bool, why string) {
	var issue, wild []*dns.CAA
	for _, r := range records {
		switch tag := strings.ToLower(r.Tag); {
		case tag == "issue":
			issue = append(issue, r)
		case tag == "issuewild":
			wild = append(wild, r)
		case r.Flag&caaCritical != 0 && !slices.Contains(knownTags, tag):
			return false, fmt.Sprintf("critical property %q is unknown", r.Tag)
		}
	}
	if q.wildcard && len(wild) > 0 {
		issue = wild
	}
	if len(issue) == 0 {
		return true, "no property restricts issuance"
	}
	why = "no record names us"
	for _, r := range issue {
		ok, reason := q.matches(r.Value)
		if ok {
			return true, "named by " + r.Tag
		}
		if reason != "" {
			why = reason
		}
	}
	return false, why
}

// matches judges one issue or issuewild value; reason is set when it names us and a parameter excludes the request.
func (q question) matches(value string) (ok bool, reason string) {
	domain, params, valid := parseIssueValue(value)
	if !valid || domain == "" || !slices.Contains(q.identities, domain) {
		return false, ""
	}
	uris, methods := 0, 0
	for _, p := range params {
		switch p.tag {
		case "accounturi": // RFC 8657 section 3
			uris++
			if p.value != q.accountURI {
				return false, "accounturi names another account"
			}
		case "validationmethods": // RFC 8657 section 4
			methods++
			if !slices.Contains(strings.Split(p.value, ","), string(q.method)) {
				return false, "validationmethods does not have " + string(q.method)
			}
		}
	}
	if uris > 1 || methods > 1 {
		return false, "a parameter stands twice"
	}
	return true, ""
}

type parameter struct{ tag, value string }

// parseIssueValue reads an issue value by the grammar of RFC 8659 section 4.2. An empty domain forbids everybody. A
// value that does not follow the grammar is not valid and permits nobody.
func parseIssueValue(value string) (domain string, params []parameter, valid bool) {
	domain, rest, more := strings.Cut(value, ";")
	domain = strings.ToLower(strings.Trim(domain, " \t"))
	if domain != "" {
		if id := (bulkhead.Identifier{Type: bulkhead.DNS, Value: domain}); id.Check() != nil || id.Wildcard() {
			return "", nil, false
		}
	}
	if !more || strings.Trim(rest, " \t") == "" {
		return domain, nil, true
	}
	for _, part := range strings.Split(rest, ";") {
		tag, v, eq := strings.Cut(strings.Trim(part, " \t"), "=")
		tag, v = strings.ToLower(strings.TrimRight(tag, " \t")), strings.TrimLeft(v, " \t")
		if !eq || !parameterTag(tag) || !parameterValue(v) {
			return "", nil, false
		}
		params = append(params, parameter{tag, v})
	}
	return domain, params, true
}

func parameterTag(t string) bool {
	for i := range len(t) {
		c := t[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0 || i == len(t)-1) {
			return false
		}
	}
	return t != ""
}

// parameterValue allows %x21-3A / %x3C-7E.
func parameterValue(v string) bool {
	for i := range len(v) {
		if v[i] < 0x21 || v[i] > 0x7e || v[i] == ';' {
			return false
		}
	}
	return true
}

func recordText(records []*dns.CAA) string {
	var parts []string
	for _, r := range records {
		parts = append(parts, fmt.Sprintf("%d %s %q", r.Flag, r.Tag, r.Value))
	}
	slices.Sort(parts)
	text := strings.Join(parts, ", ")
	if len(text) > 2000 {
		text = text[:2000] + "…"
	}
	return text
}
