package status

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/policy"
)

// RevokeCertificates makes a change, previews it, and carries it through when policy lets one person do so: at most
// Policy.OnePerson items, or any number on at most Policy.OnePerson keys that are all blocked as compromised, none of them of an
// authority (promise P7). Otherwise it fails with KindGate and the change waits for approvals of its preview.
//
// It refuses, and changes nothing: a serial that was never issued (KindNotFound), one revoked already
// (KindAlreadyRevoked, unless the reason is upgraded to keyCompromise), a reason that BR 7.2.2 does not allow.
func (s *Service) RevokeCertificates(ctx context.Context, actor, why string, items []bulkhead.ChangeItem) (string, error) {
	c, err := s.Plan(ctx, actor, why, items)
	if err != nil {
		return "", err
	}
	p, hash, err := s.Preview(ctx, c.ID)
	if err != nil {
		return c.ID, err
	}
	if len(p.Blocked) > 0 {
		return c.ID, bulkhead.Faultf(bulkhead.KindGate, "the preview of change %s is blocked: %s", c.ID, p.Blocked[0]).WithHint("bulkhead change show " + c.ID)
	}
	return c.ID, s.ActivateByOne(ctx, actor, c.ID, hash)
}

// ActivateByOne carries a previewed change through on one person's word, where policy lets one person do so; hash is that
// of the preview that the person saw. KindGate otherwise: the change goes on waiting for approvals.
func (s *Service) ActivateByOne(ctx context.Context, actor, id string, hash bulkhead.Hash) error {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return err
	}
	if c.TakesBack() {
		return bulkhead.Faultf(bulkhead.KindGate, "change %s takes back what is public, which takes two people", id).WithHint("bulkhead change approve " + id)
	}
	if c.State == bulkhead.ChangePreviewed {
		var p Preview
		if json.Unmarshal(c.Preview, &p) != nil || p.Authorities > 0 {
			return bulkhead.Faultf(bulkhead.KindGate, "change %s revokes certificates of authorities, which takes two people", id).WithHint("bulkhead change approve " + id)
		}
		one, err := s.onePersonMay(ctx, id, c.Count)
		if err != nil {
			return err
		}
		if !one {
			return bulkhead.Faultf(bulkhead.KindGate, "change %s touches %d certificates; more than %d take two people", id, c.Count, s.cfg.Policy.OnePerson).
				WithHint("bulkhead change approve " + id)
		}
	}
	if s.cfg.Elsewhere {
		if c.State == bulkhead.ChangePreviewed {
			if err := s.Approve(ctx, id, hash, actor); err != nil {
				return err
			}
		}
		return s.await(ctx, id)
	}
	// Held from the approval on: the one who asked learns what became of the change, and not the carrying on of
	// interrupted ones in between.
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.State == bulkhead.ChangePreviewed {
		if err := s.Approve(ctx, id, hash, actor); err != nil {
			return err
		}
	}
	return s.activate(ctx, id)
}

// Withdraw ends a change that is not approved yet; nothing of it went public.
func (s *Service) Withdraw(ctx context.Context, actor, id, why string) error {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return err
	}
	if c.State != bulkhead.ChangePlanned && c.State != bulkhead.ChangePreviewed {
		return bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and cannot be withdrawn", id, c.State).WithHint("bulkhead change show " + id)
	}
	was := c.State
	c.State = bulkhead.ChangeRefused
	return s.cfg.Store.MoveChange(ctx, c, was, s.leaf(bulkhead.EvChangeRefused, c, actor, "withdrawn: "+why))
}

// PlanRevocation makes a change and its preview and stops there: what a dry run shows.
func (s *Service) PlanRevocation(ctx context.Context, actor, why string, items []bulkhead.ChangeItem) (bulkhead.Change, error) {
	c, err := s.Plan(ctx, actor, why, items)
	if err != nil {
		return c, err
	}
	if _, _, err := s.Preview(ctx, c.ID); err != nil {
		return c, err
	}
	return s.cfg.Store.Change(ctx, c.ID)
}

// Plan records a change and its items after checking each against the record.
func (s *Service) Plan(ctx context.Context, actor, why string, items []bulkhead.ChangeItem) (bulkhead.Change, error) {
	if len(items) == 0 {
		return bulkhead.Change{}, bulkhead.NewFault(bulkhead.KindMalformed, "a change needs at least one certificate")
	}
	items = append([]bulkhead.ChangeItem(nil), items...)
	if err := inOrderOnce(items); err != nil {
		return bulkhead.Change{}, err
	}
	now := s.now()
	if err := s.checkItems(ctx, items, now); err != nil {
		return bulkhead.Change{}, err
	}
	return s.create(ctx, actor, why, items, now)
}

// PlanRead is PlanRevocation for who has just read the rows of all items: each comes with its row, as far as kind, state, first
// day, reason and date of revocation. They are not looked up once more: the preview holds every item against its row as it is
// then and is blocked by one that is not as it was said to be, and the activation holds them again.
func (s *Service) PlanRead(ctx context.Context, actor, why string, read iter.Seq2[bulkhead.ChangeItem, bulkhead.Certificate]) (bulkhead.Change, error) {
	var items []bulkhead.ChangeItem
	now := s.now()
	for it, row := range read {
		if err := checkRow(row, &it, now); err != nil {
			return bulkhead.Change{}, err
		}
		items = append(items, it)
	}
	if len(items) == 0 {
		return bulkhead.Change{}, bulkhead.NewFault(bulkhead.KindMalformed, "a change needs at least one certificate")
	}
	if err := inOrderOnce(items); err != nil {
		return bulkhead.Change{}, err
	}
	c, err := s.create(ctx, actor, why, items, now)
	if err != nil {
		return c, err
	}
	if _, _, err := s.Preview(ctx, c.ID); err != nil {
		return c, err
	}
	return s.cfg.Store.Change(ctx, c.ID)
}

// inOrderOnce sorts items by issuer and serial; none may stand twice.
func inOrderOnce(items []bulkhead.ChangeItem) error {
	slices.SortFunc(items, func(a, b bulkhead.ChangeItem) int {
		return cmp.Or(cmp.Compare(a.Issuer, b.Issuer), a.Serial.Compare(b.Serial))
	})
	for i := range items {
		if i > 0 && items[i].CertificateRef == items[i-1].CertificateRef {
			return bulkhead.Faultf(bulkhead.KindMalformed, "certificate %s stands twice in the change", items[i].CertificateRef)
		}
	}
	return nil
}

// create records a change whose items were held against the record.
func (s *Service) create(ctx context.Context, actor, why string, items []bulkhead.ChangeItem, now time.Time) (bulkhead.Change, error) {
	id, err := s.newID()
	if err != nil {
		return bulkhead.Change{}, err
	}
	c := bulkhead.Change{ID: id, State: bulkhead.ChangePlanned, Actor: actor, Why: why, Count: len(items), CreatedAt: now, Held: s.now().Add(heldFor)}
	return c, s.cfg.Store.CreateChange(ctx, c, items, s.leaf(bulkhead.EvChangePlanned, c, actor, why))
}

func (s *Service) leaf(k bulkhead.EvidenceKind, c bulkhead.Change, actor, detail string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: k, At: s.cfg.Now().UTC(), Actor: actor, Ref: c.ID, Count: int64(c.Count), Digest: c.PreviewHash, Detail: detail}
}

// checkItems holds items, sorted, against the record and sets their dates; many are read at once.
func (s *Service) checkItems(ctx context.Context, items []bulkhead.ChangeItem, now time.Time) error {
	for len(items) > 0 {
		n := 1
		for n < len(items) && n < batchSize && items[n].Issuer == items[0].Issuer {
			n++
		}
		part := items[:n]
		items = items[n:]
		rows, err := s.certificates(ctx, part)
		if err != nil {
			return err
		}
		for i := range part {
			cert, ok := rows[part[i].Serial]
			if !ok {
				return neverIssued(part[i].CertificateRef)
			}
			if err := checkRow(cert, &part[i], now); err != nil {
				return err
			}
		}
	}
	return nil
}

// certificates are the rows of items of one issuer, by serial; one that does not exist is not among them.
func (s *Service) certificates(ctx context.Context, items []bulkhead.ChangeItem) (map[bulkhead.Serial]bulkhead.Certificate, error) {
	serials := make([]bulkhead.Serial, len(items))
	for i, it := range items {
		serials[i] = it.Serial
	}
	found, err := s.cfg.Store.CertificatesBySerial(ctx, items[0].Issuer, serials)
	if err != nil {
		return nil, err
	}
	rows := make(map[bulkhead.Serial]bulkhead.Certificate, len(found))
	for _, r := range found {
		rows[r.Serial] = r
	}
	return rows, nil
}

func neverIssued(ref bulkhead.CertificateRef) error {
	return bulkhead.Faultf(bulkhead.KindNotFound, "serial %s was never issued by %s", ref.Serial, ref.Issuer).WithHint("bulkhead cert list")
}

// checkRow is checkItem for a row that was read. A certificate of an authority passes without a reason: its preview shows
// what it would do, and is blocked.
func checkRow(cert bulkhead.Certificate, it *bulkhead.ChangeItem, now time.Time) error {
	if cert.Kind == bulkhead.CACertificate {
		if it.Reason != bulkhead.Unspecified && !policy.CRLReasonAllowed(policy.CA, it.Reason, now) {
			return bulkhead.Faultf(bulkhead.KindBadRevocationReason, "reason %s is not allowed for a certificate of an authority (BR 7.2.2)", it.Reason).
				WithHint("use one of: keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn")
		}
	} else if !it.Reason.AllowedForLeaf() {
		return bulkhead.Faultf(bulkhead.KindBadRevocationReason, "reason %s is not allowed for a subscriber certificate (BR 7.2.2)", it.Reason).
			WithHint("use one of: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn")
	}
	switch cert.State {
	case bulkhead.Issued:
	case bulkhead.Revoked:
		if it.Reason != bulkhead.KeyCompromise || cert.Reason == bulkhead.KeyCompromise {
			return bulkhead.Faultf(bulkhead.KindAlreadyRevoked, "certificate %s was revoked at %s", it.Serial, cert.RevokedAt.UTC().Format(time.RFC3339))
		}
	default:
		return bulkhead.Faultf(bulkhead.KindNotFound, "serial %s of %s was reserved and never issued", it.Serial, it.Issuer).WithHint("bulkhead cert list")
	}
	if it.RevokedAt.IsZero() || it.RevokedAt.After(now) || it.Reason != bulkhead.KeyCompromise && it.RevokedAt.Before(now) {
		it.RevokedAt = now // only a proof of compromise moves the date back (BR 7.2.2)
	}
	if it.RevokedAt.Before(cert.NotBefore) {
		it.RevokedAt = cert.NotBefore
	}
	it.RevokedAt = it.RevokedAt.UTC().Truncate(time.Second)
	return nil
}

// onePersonMay decides whether a single person is enough. Certificates on a few blocked keys are expedited whatever their
// number: the block was the decision, the revocations follow from it.
func (s *Service) onePersonMay(ctx context.Context, id string, count int) (bool, error) {
	if count <= s.cfg.Policy.OnePerson {
		return true, nil
	}
	errOther := errors.New("another reason")
	err := s.eachItem(ctx, id, func(it bulkhead.ChangeItem) error {
		if it.Reason != bulkhead.KeyCompromise {
			return errOther
		}
		return nil
	})
	if err != nil {
		if errors.Is(err, errOther) {
			err = nil
		}
		return false, err
	}
	return s.followsFromBlocks(ctx, id, count)
}

// followsFromBlocks reports that all items of a change are on blocked keys, and these are as few as one person may revoke
// certificates: whoever could block every key in use would else revoke every certificate alone.
func (s *Service) followsFromBlocks(ctx context.Context, id string, count int) (bool, error) {
	items, keys, err := s.cfg.Store.BlockedItems(ctx, id)
	return items == count && keys <= s.cfg.Policy.OnePerson, err
}

// Approve moves a previewed change on. The hash must be that of the newest preview (promise P4).
func (s *Service) Approve(ctx context.Context, id string, hash bulkhead.Hash, actor string) error {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return err
	}
	if c.State != bulkhead.ChangePreviewed {
		return bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s, only a previewed change can be approved", id, c.State).WithHint("bulkhead change show " + id)
	}
	if hash != c.PreviewHash || hash.IsZero() {
		return bulkhead.Faultf(bulkhead.KindGate, "the approval quotes another preview of change %s", id).WithHint("bulkhead change preview " + id)
	}
	var p Preview
	if err := json.Unmarshal(c.Preview, &p); err != nil || len(p.Blocked) > 0 {
		return bulkhead.Faultf(bulkhead.KindGate, "the preview of change %s is blocked: %s", id, strings.Join(p.Blocked, "; ")).WithHint("bulkhead change show " + id)
	}
	c.State = bulkhead.ChangeApproved
	return s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangePreviewed, s.leaf(bulkhead.EvChangeApproved, c, actor, "approved"))
}

// BlockKey blocks a key for ever (promise P10).
func (s *Service) BlockKey(ctx context.Context, k bulkhead.BlockedKey) error {
	if k.BlockedAt.IsZero() {
		k.BlockedAt = s.now()
	}
	return s.cfg.Store.BlockKey(ctx, k, bulkhead.Evidence{Kind: bulkhead.EvKeyBlocked, At: s.cfg.Now().UTC(), Actor: k.Actor, KeyHash: k.KeyHash, Detail: k.Reason})
}

// Change returns a change by id.
func (s *Service) Change(ctx context.Context, id string) (bulkhead.Change, error) {
	return s.cfg.Store.Change(ctx, id)
}

// Changes returns changes, newest first.
func (s *Service) Changes(ctx context.Context, limit int, states ...bulkhead.ChangeState) ([]bulkhead.Change, error) {
	return s.cfg.Store.Changes(ctx, limit, states...)
}
