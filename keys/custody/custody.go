// Package custody puts a root key into the hands of m of n people.
//
// Purpose: the key folder is sealed to a random secret; the secret is split (Shamir over Ristretto255) and each share is
// sealed with age to one custodian, with commitments (Feldman) by which anybody can check a share without the others.
//
// Invariant: the secret exists whole only in the memory of Split and Combine; fewer than m shares say nothing about it;
// a share that does not fit the commitments is never combined.
//
// Refuses: m below 2 or above n, two custodians with one name or one recipient, a share of another split, a damaged one.
package custody

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"filippo.io/age"
	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"bulkhead"
	"bulkhead/keys"
)

const (
	recordFormat = "bulkhead custody 1"
	maxShare     = 64 << 10
	maxPeople    = 32
)

// curve is the group of the shares.
var curve = group.Ristretto255

// Custodian is one person and the age recipient whose identity that person keeps.
type Custodian struct {
	Name      string `json:"name"`
	Recipient string `json:"recipient"` // age1…
}

// Record is public: it says who holds shares, how many are needed, and how a share is checked.
type Record struct {
	Format     string      `json:"format"`
	Needed     int         `json:"needed"`
	Custodians []Custodian `json:"custodians"` // number i holds share i+1
	Commitment [][]byte    `json:"commitment"`
	Keys       []string    `json:"keys"` // URIs of the keys that the secret opens
}

// share is what is inside a custodian's file.
type share struct {
	Format string `json:"format"`
	Name   string `json:"name"`
	ID     []byte `json:"id"`
	Value  []byte `json:"value"`
	Record []byte `json:"record"` // SHA-256 of the commitments: which split it belongs to
}

// Share is one custodian's part, opened and checked.
type Share struct {
	Name  string
	inner secretsharing.Share
}

// Split makes a secret and its shares: files holds each custodian's sealed share by name. The secret is the passphrase
// with which the caller seals the key folder, and is to be cleared afterwards.
func Split(random io.Reader, needed int, people []Custodian) (secret []byte, r Record, files map[string][]byte, err error) {
	recipients, err := check(needed, people)
	if err != nil {
		return nil, r, nil, err
	}
	scalar := curve.RandomNonZeroScalar(random)
	split := secretsharing.New(random, uint(needed-1), scalar)
	r = Record{Format: recordFormat, Needed: needed, Custodians: people, Keys: []string{}}
	for _, e := range split.CommitSecret() {
		b, err := e.MarshalBinaryCompress()
		if err != nil {
			return nil, r, nil, fmt.Errorf("commitment: %w", err)
		}
		r.Commitment = append(r.Commitment, b)
	}
	files = map[string][]byte{}
	for i, s := range split.Share(uint(len(people))) {
		if files[people[i].Name], err = seal(r, people[i].Name, s, recipients[i]); err != nil {
			return nil, r, nil, err
		}
	}
	secret, err = passphrase(scalar)
	return secret, r, files, err
}

func check(needed int, people []Custodian) ([]age.Recipient, error) {
	if needed < 2 || needed > len(people) || len(people) > maxPeople {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%d of %d is no custody: at least 2 are needed, of at most %d people", needed, len(people), maxPeople).WithHint("--needed 3 and five --custodian NAME=age1…")
	}
	var recipients []age.Recipient
	names, texts := map[string]bool{}, map[string]bool{}
	for _, p := range people {
		if keys.CheckName(p.Name) != nil || names[p.Name] || texts[p.Recipient] {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "custodian %q has no slug as a name, or shares name or recipient with another", p.Name).WithHint("one person, one name, one age recipient")
		}
		x, err := age.ParseX25519Recipient(p.Recipient)
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "the recipient of %s is no age recipient", p.Name).WithHint("each custodian makes one: age-keygen").WithCause(err)
		}
		names[p.Name], texts[p.Recipient] = true, true
		recipients = append(recipients, x)
	}
	return recipients, nil
}

func seal(r Record, name string, s secretsharing.Share, to age.Recipient) ([]byte, error) {
	id, err := s.ID.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	value, err := s.Value.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	text, err := json.Marshal(share{Format: recordFormat, Name: name, ID: id, Value: value, Record: r.digest()})
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	defer clear(text)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("seal share of %s: %w", name, err)
	}
	return out.Bytes(), nil
}

func (r Record) digest() []byte {
	h := sha256.New()
	for _, c := range r.Commitment {
		h.Write(c)
	}
	return h.Sum(nil)
}

// ParseRecord reads a record strictly.
func ParseRecord(text []byte) (Record, error) {
	var r Record
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(&r)
	if _, more := dec.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("text after the document")
	}
	if err == nil && (r.Format != recordFormat || r.Needed != len(r.Commitment)) {
		err = fmt.Errorf("format %q, %d commitments", r.Format, len(r.Commitment))
	}
	if err == nil {
		_, err = check(r.Needed, r.Custodians)
	}
	if err == nil {
		_, err = r.commitment()
	}
	if err != nil {
		return Record{}, bulkhead.NewFault(bulkhead.KindMalformed, "this is no custody record").WithHint("custody.json, as custody split wrote it").WithCause(err)
	}
	return r, nil
}

func (r Record) commitment() (secretsharing.SecretCommitment, error) {
	var out secretsharing.SecretCommitment
	for _, b := range r.Commitment {
		e := curve.NewElement()
		if err := e.UnmarshalBinary(b); err != nil {
			return nil, fmt.Errorf("commitment: %w", err)
		}
		out = append(out, e)
	}
	return out, nil
}

// Open opens a custodian's share with that person's identity file and checks it against the record. KindUnauthorized
// for another identity, or an identity file that others may read; KindGate for a share that does not fit.
func Open(r Record, sealed []byte, identityFile string) (Share, error) {
	ids, err := identities(identityFile)
	if err != nil {
		return Share{}, err
	}
	in, err := age.Decrypt(bytes.NewReader(sealed), ids...)
	if err != nil {
		return Share{}, bulkhead.Faultf(bulkhead.KindUnauthorized, "%s does not open this share", identityFile).WithHint("each share opens with its own custodian's identity").WithCause(errors.New("age: no identity matched, or the file is damaged"))
	}
	text, err := io.ReadAll(io.LimitReader(in, maxShare))
	defer clear(text)
	var s share
	if err != nil || json.Unmarshal(text, &s) != nil || s.Format != recordFormat {
		return Share{}, bulkhead.NewFault(bulkhead.KindMalformed, "this is no share of a root key").WithHint("share-NAME.age, as custody split wrote it")
	}
	if !bytes.Equal(s.Record, r.digest()) {
		return Share{}, bulkhead.Faultf(bulkhead.KindGate, "the share of %s belongs to another split", s.Name).WithHint("use the custody.json that was written with it")
	}
	out := Share{Name: s.Name, inner: secretsharing.Share{ID: curve.NewScalar(), Value: curve.NewScalar()}}
	c, err := r.commitment()
	if err != nil {
		return Share{}, err
	}
	if out.inner.ID.UnmarshalBinary(s.ID) != nil || out.inner.Value.UnmarshalBinary(s.Value) != nil || !secretsharing.Verify(uint(r.Needed-1), out.inner, c) {
		return Share{}, bulkhead.Faultf(bulkhead.KindGate, "the share of %s does not fit the commitments: it is damaged or forged", s.Name).WithHint("use another custodian's share, and split anew")
	}
	return out, nil
}

func identities(path string) ([]age.Identity, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "the identity %s cannot be read", path).WithHint("bring the custodian's identity file").WithCause(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, bulkhead.Faultf(bulkhead.KindUnauthorized, "the identity %s can be read by others", path).WithHint("chmod 600 " + path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "the identity %s cannot be read", path).WithHint("bring the custodian's identity file").WithCause(err)
	}
	defer f.Close()
	ids, err := age.ParseIdentities(io.LimitReader(f, maxShare))
	if err != nil {
		// The parser's error is left out: it may quote the line.
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no age identity", path).WithHint("the file that age-keygen wrote")
	}
	return ids, nil
}

// Combine rebuilds the secret from shares of different custodians. KindGate when there are too few.
func Combine(r Record, shares []Share) ([]byte, error) {
	var inner []secretsharing.Share
	var names []string
	for _, s := range shares {
		if !slices.Contains(names, s.Name) {
			names, inner = append(names, s.Name), append(inner, s.inner)
		}
	}
	if len(inner) < r.Needed {
		return nil, bulkhead.Faultf(bulkhead.KindGate, "%d shares of different custodians are here, %d are needed", len(inner), r.Needed).WithHint("bring more custodians: --share FILE --share-identity FILE for each")
	}
	scalar, err := secretsharing.Recover(uint(r.Needed-1), inner)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindGate, "the shares do not combine").WithHint("check each share: bulkhead-root custody check").WithCause(err)
	}
	return passphrase(scalar)
}

// passphrase derives what seals the folder; the commitments say nothing about it that helps.
func passphrase(s group.Scalar) ([]byte, error) {
	b, err := s.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	defer clear(b)
	sum := sha256.Sum256(append([]byte("bulkhead custody secret 1\n"), b...))
	return []byte(hex.EncodeToString(sum[:])), nil
}
