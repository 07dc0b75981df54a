package custody_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/keys/custody"
)

// people makes custodians with identity files.
func people(t testing.TB, n int) (out []custody.Custodian, files []string) {
	t.Helper()
	for i := range n {
		path := filepath.Join(t.TempDir(), "identity")
		recipient, err := keys.NewIdentity(path)
		if err != nil {
			t.Fatal(err)
		}
		out, files = append(out, custody.Custodian{Name: fmt.Sprintf("person-%d", i+1), Recipient: recipient}), append(files, path)
	}
	return out, files
}

func want(t *testing.T, what string, err error, kind bulkhead.Kind) {
	t.Helper()
	if bulkhead.KindOf(err) != kind {
		t.Errorf("%s: %v, want kind %q", what, err, kind)
	}
	if err != nil && bulkhead.AsFault(err).Hint == "" {
		t.Errorf("%s: no hint", what)
	}
}

// TestThreeOfFive: every three combine to the secret, no two do, and a share counts once.
func TestThreeOfFive(t *testing.T) {
	who, ids := people(t, 5)
	secret, r, files, err := custody.Split(rand.Reader, 3, who)
	want(t, "split", err, "")
	text, err := json.Marshal(r)
	want(t, "record", err, "")
	r, err = custody.ParseRecord(text)
	want(t, "record read back", err, "")
	var shares []custody.Share
	for i, p := range who {
		s, err := custody.Open(r, files[p.Name], ids[i])
		want(t, p.Name, err, "")
		shares = append(shares, s)
	}
	for a := range 5 {
		for b := range a {
			for c := range b {
				got, err := custody.Combine(r, []custody.Share{shares[a], shares[b], shares[c]})
				if err != nil || !bytes.Equal(got, secret) {
					t.Fatalf("shares %d %d %d: %v", a, b, c, err)
				}
			}
			_, err := custody.Combine(r, []custody.Share{shares[a], shares[b], shares[a]})
			want(t, "two people, one of them twice", err, bulkhead.KindGate)
		}
	}
	if bytes.Contains(text, secret) {
		t.Error("the public record holds the secret")
	}
}

// TestRefusals plants a fault in each thing that a custodian brings.
func TestRefusals(t *testing.T) {
	who, ids := people(t, 3)
	_, r, files, err := custody.Split(rand.Reader, 2, who)
	want(t, "split", err, "")
	_, other, otherFiles, err := custody.Split(rand.Reader, 2, who)
	want(t, "another split", err, "")
	_, err = custody.Open(r, files["person-1"], ids[1])
	want(t, "another's identity", err, bulkhead.KindUnauthorized)
	_, err = custody.Open(r, otherFiles["person-1"], ids[0])
	want(t, "a share of another split", err, bulkhead.KindGate)
	damaged := bytes.Clone(files["person-1"])
	damaged[len(damaged)-1] ^= 1
	_, err = custody.Open(r, damaged, ids[0])
	if err == nil {
		t.Error("a damaged share opens")
	}
	mixed := r
	mixed.Commitment = [][]byte{r.Commitment[0], other.Commitment[1]}
	_, err = custody.Open(mixed, files["person-1"], ids[0])
	want(t, "other commitments", err, bulkhead.KindGate)
	if err := os.Chmod(ids[0], 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = custody.Open(r, files["person-1"], ids[0])
	want(t, "an identity that others read", err, bulkhead.KindUnauthorized)
	for what, x := range map[string]struct {
		needed int
		people []custody.Custodian
	}{
		"one is enough": {1, who}, "more than there are": {4, who},
		"one recipient twice": {2, []custody.Custodian{{Name: "a", Recipient: who[0].Recipient}, {Name: "b", Recipient: who[0].Recipient}}},
		"no recipient":        {2, []custody.Custodian{{Name: "a", Recipient: "age1x"}, who[0]}},
	} {
		_, _, _, err := custody.Split(rand.Reader, x.needed, x.people)
		want(t, what, err, bulkhead.KindUsage)
	}
}

func FuzzParseRecord(f *testing.F) {
	who, _ := people(f, 2)
	_, r, _, err := custody.Split(rand.Reader, 2, who)
	if err != nil {
		f.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":"bulkhead custody 1","needed":0}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := custody.ParseRecord(text); err == nil && (r.Needed < 2 || r.Needed != len(r.Commitment)) {
			t.Fatalf("accepted %+v", r)
		}
	})
}
