package signer

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/crl"
)

const (
	// sealedTurn is how long a CRL that is signed in advance is the newest one: CRLs of subscriber certificates follow
	// each other within 7 days (BR 4.9.7), and none is public in the second half of its life.
	sealedTurn = 4 * 24 * time.Hour
	// sealedLife is from thisUpdate to nextUpdate: within 10 days (BR 7.2), with time to spare before it ends.
	sealedLife = 10*24*time.Hour - time.Second
	// delegateTurn and delegateOverlap are how OCSP delegates follow each other that are certified in advance. The last one
	// ends after the last CRL that is owed, a period beyond the last certificate.
	delegateTurn    = 30 * 24 * time.Hour
	delegateOverlap = 8 * 24 * time.Hour
	// maxSealed bounds the CRLs of one seal.
	maxSealed = 20_000
)

// SealRequest says for which authority, with which key, and until when.
type SealRequest struct {
	Authority bulkhead.AuthorityID
	// KeyURI is the key; the record does not name it any more, so that nothing else can be signed with it meanwhile.
	KeyURI string
	// Until is the end of the last certificate that is owed a status.
	Until time.Time
	// Number hands out the next CRL number of a shard.
	Number func(ctx context.Context, shard int) (int64, error)
}

// Seal makes the last signatures of a key: the CRLs of every shard and the OCSP delegates that will be due until the last
// certificate has ended. It puts the delegates on record and returns the CRLs, which are of use once they are there. Calling it
// again continues with delegates and makes the CRLs anew. KindConflict unless the authority is revoked and its record names
// no key: a key that still serves is not sealed.
func (s *Signer) Seal(ctx context.Context, r SealRequest) ([]bulkhead.Prepared, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	a, err := s.answering(ctx, r.Authority)
	if err != nil {
		return nil, err
	}
	if a.State != bulkhead.AuthorityRevoked || a.KeyURI != "" {
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "the key of authority %s, which is %s, still serves", a.ID, a.State).WithHint("revoke the authority; its key is sealed on its way to destruction")
	}
	if a.key, err = s.open(ctx, r.KeyURI, a.cert.PublicKey); err != nil {
		return nil, err
	}
	if err := s.sealDelegates(ctx, a, r.Until); err != nil {
		return nil, err
	}
	var out []bulkhead.Prepared
	for shard := range max(a.Shards, 1) {
		made, err := s.sealCRLs(ctx, a, shard, r)
		if err != nil {
			return nil, err
		}
		if out = append(out, made...); len(out) > maxSealed {
			return nil, bulkhead.Faultf(bulkhead.KindGate, "%s would need more than %d CRLs", a.ID, maxSealed).WithHint("wait: the last of its certificates ends at " + r.Until.UTC().Format(time.RFC3339))
		}
	}
	return out, nil
}

// sealDelegates certifies OCSP delegates that follow each other without a gap, beginning where those on record end.
func (s *Signer) sealDelegates(ctx context.Context, a *authority, until time.Time) error {
	lock := s.lockOf(a.ID)
	lock.Lock()
	defer lock.Unlock()
	have, err := s.cfg.Store.Delegates(ctx, a.ID)
	if err != nil {
		return err
	}
	from, slack := s.now(), time.Duration(0)
	for again := true; again; slack = delegateOverlap / 2 { // who follows may begin within the overlap
		again = false
		for _, d := range have {
			if !d.NotBefore.After(from.Add(slack)) && d.NotAfter.Add(-delegateOverlap).After(from) {
				from, again = d.NotAfter.Add(-delegateOverlap), true
				break
			}
		}
	}
	for from.Before(until.Add(keepMargin-delegateOverlap)) && from.Before(a.cert.NotAfter.Add(-delegateOverlap)) {
		if err := s.delegateFor(ctx, a, from); err != nil {
			return err
		}
		from = from.Add(delegateTurn)
	}
	return nil
}

// delegateFor makes the delegate of one turn.
func (s *Signer) delegateFor(ctx context.Context, a *authority, from time.Time) error {
	var tail [6]byte
	if _, err := io.ReadFull(s.cfg.Rand, tail[:]); err != nil {
		return fmt.Errorf("random source: %w", err)
	}
	uri, key, err := s.cfg.Keys.Generate(ctx, "ocsp-"+string(a.ID)+"-"+hex.EncodeToString(tail[:]), keys.P256)
	if err != nil {
		return unavailable("no key for an OCSP delegate could be made", err)
	}
	if _, err = s.certifyDelegate(ctx, a, uri, key.Public(), term{from, delegateTurn + delegateOverlap}); err == nil {
		return nil
	}
	clean, cancel := detached(ctx)
	defer cancel()
	if err := s.cfg.Keys.Destroy(clean, uri); err != nil {
		s.cfg.Log.WarnContext(ctx, "unused key could not be destroyed", slog.String("key", uri), slog.String("error", err.Error()))
	}
	return err
}

// sealCRLs signs the CRLs of one shard that will be due one after the other. Each lists what is revoked now, less what will
// have left the list by then. The last one still stands a period after the last certificate's end.
func (s *Signer) sealCRLs(ctx context.Context, a *authority, shard int, r SealRequest) ([]bulkhead.Prepared, error) {
	from := s.now().Truncate(time.Second)
	keepFrom := from.Add(-keepMargin)
	list, err := listOf(s.cfg.Spool, s.cfg.Store.Revoked(ctx, a.ID, shard, keepFrom), keepFrom)
	if err != nil {
		return nil, err
	}
	defer func() { list.close() }()
	from = later(from, list.latest)
	var out []bulkhead.Prepared
	for this := from; this.Before(r.Until.Add(keepMargin)) && this.Before(a.cert.NotAfter); this = this.Add(sealedTurn) {
		next := this.Add(sealedLife)
		if next.After(a.cert.NotAfter) {
			next = a.cert.NotAfter.UTC()
		}
		number, err := r.Number(ctx, shard)
		if err != nil {
			return nil, err
		}
		info := crl.Info{Issuer: a.cert, Number: number, ThisUpdate: this, NextUpdate: next, URL: s.cfg.URLs.CRL(a.ID, shard), Scope: crl.ScopeUserCerts}
		if keepFrom := this.Add(-keepMargin); list.earliest < keepFrom.Unix() {
			if list, err = list.with(nil, keepFrom); err != nil {
				return nil, err
			}
		}
		der, err := s.sealCRL(ctx, a, shard, info, list)
		if err != nil {
			return nil, err
		}
		out = append(out, bulkhead.Prepared{Authority: a.ID, Kind: bulkhead.PreparedCRL, Shard: shard, NotBefore: this, NotAfter: next, DER: der, CRLNumber: number, ImportedAt: s.now()})
	}
	return out, nil
}

// sealCRL signs one of them.
func (s *Signer) sealCRL(ctx context.Context, a *authority, shard int, info crl.Info, list *shardList) ([]byte, error) {
	if err := s.lintCRL(a, info, list, info.ThisUpdate); err != nil {
		return nil, err
	}
	req := bulkhead.CRLRequest{Authority: a.ID, Shard: shard, Number: info.Number, Object: fmt.Sprintf("crls/%s/%d/%d.crl", a.ID, shard, info.Number)}
	if err := s.takeNumber(req); err != nil {
		return nil, err
	}
	var der bytes.Buffer
	if _, err := list.write(&der, info, func(t crl.ToSign) ([]byte, error) { return s.signCRL(ctx, req, a, t) }); err != nil {
		return nil, err
	}
	return der.Bytes(), nil
}

// DestroyKey destroys the key of a revoked authority whose record names it no more, wherever this ring has it, and looks
// afterwards. A key that is gone already is no fault: a crash may have come between. KindConflict when the key is not the
// authority's; then it stays.
func (s *Signer) DestroyKey(ctx context.Context, id bulkhead.AuthorityID, uri string) error {
	a, err := s.answering(ctx, id)
	if err != nil {
		return err
	}
	if a.State != bulkhead.AuthorityRevoked && a.State != bulkhead.AuthorityDestroyed || a.KeyURI != "" {
		return bulkhead.Faultf(bulkhead.KindConflict, "the key of authority %s, which is %s, still serves", a.ID, a.State).WithHint("revoke the authority first")
	}
	key, err := s.cfg.Keys.Open(ctx, uri)
	switch {
	case bulkhead.KindOf(err) == bulkhead.KindNotFound:
	case err != nil:
		return err
	default:
		if pub, ok := a.cert.PublicKey.(publicKey); !ok || !pub.Equal(key.Public()) {
			return bulkhead.Faultf(bulkhead.KindConflict, "key %s is not that of authority %s; it stays", uri, id).WithHint("see: bulkhead keys list")
		}
		if err := s.cfg.Keys.Destroy(ctx, uri); err != nil {
			return err
		}
	}
	return s.lookForKey(ctx, a)
}

// lookForKey fails while any key of the ring is the authority's.
func (s *Signer) lookForKey(ctx context.Context, a *authority) error {
	uris, err := s.cfg.Keys.List(ctx)
	if err != nil {
		return err
	}
	want := a.cert.PublicKey.(publicKey)
	for _, uri := range uris {
		if key, err := s.cfg.Keys.Open(ctx, uri); err == nil && want.Equal(key.Public()) {
			return bulkhead.Faultf(bulkhead.KindUnavailable, "the key of authority %s is still here, at %s", a.ID, uri).WithHint("remove the copy; the destruction goes on by itself")
		}
	}
	return nil
}
