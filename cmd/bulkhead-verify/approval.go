package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/pki/approval"
)

// approvalProof is what `bulkhead approve ID --proof` prints.
type approvalProof struct {
	ID        string `json:"id"`
	Action    string `json:"action"`
	Payload   []byte `json:"payload"`
	Needed    int    `json:"needed"`
	Reason    string `json:"reason"`
	Approvals []struct {
		Operator  string        `json:"operator"`
		KeySHA256 bulkhead.Hash `json:"key_sha256"`
		Signature []byte        `json:"signature"`
		At        time.Time     `json:"at"`
	} `json:"approvals"`
}

// maxProof bounds what is read.
const maxProof = 16 << 20

func (t *tool) approvalCommand() *cobra.Command {
	var keys []string
	var needed int
	var at place
	c := &cobra.Command{
		Use:   "approval FILE",
		Short: "verify the operators' signatures under a request, without the house",
		Long: "Recomputes the digest of action and payload from FILE (bulkhead approve ID --proof > FILE) and verifies each signature\n" +
			"over it with public keys that the auditor got from the operators themselves. Exit 3 when fewer than needed count.",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(keys) == 0 || needed < 1 {
				return bulkhead.NewFault(bulkhead.KindUsage, "approval takes the public key of each operator, and how many a quorum needs").
					WithHint("bulkhead-verify approval FILE --operator-key ALICE.pub --operator-key BOB.pub --needed 2")
			}
			return t.approval(args[0], keys, needed, at)
		},
	}
	c.Flags().StringArrayVar(&keys, "operator-key", nil, "PEM file with the public key of an operator's key file or security key, once for each; as NAME=FILE two keys of a NAME count as one person")
	c.Flags().StringArrayVar(&at.origins, "origin", nil, "where operators' security keys were used: https://HOST[:PORT]; may be given more than once")
	c.Flags().StringVar(&at.rpID, "rp-id", "", "the name for which they were registered; without both no security key counts")
	c.Flags().IntVar(&needed, "needed", 2, "signatures by different keys that make a quorum; what FILE says of it is not believed")
	return c
}

// trustedKey is a key that the auditor got from a person. Without an owner the name in the file is believed.
type trustedKey struct {
	owner string
	pub   crypto.PublicKey
}

// place is where security keys were used, which the auditor knows and FILE is not asked.
type place struct {
	rpID    string
	origins []string
}

func (t *tool) approval(path string, keyFiles []string, needed int, at place) error {
	f, err := os.Open(path)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindNotFound, "cannot read the approval: %v", err).WithHint("bulkhead approve ID --proof > FILE")
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxProof))
	if err != nil {
		return err
	}
	p, err := parseProof(body)
	if err != nil {
		return err
	}
	trusted := map[bulkhead.Hash]trustedKey{}
	for _, name := range keyFiles {
		owner, file, named := strings.Cut(name, "=")
		if !named {
			owner, file = "", name
		}
		hashes, pub, err := operatorKey(file)
		if err != nil {
			return err
		}
		for _, h := range hashes {
			trusted[h] = trustedKey{owner, pub}
		}
	}
	counted, found := judgeApproval(p, trusted, needed, at)
	out := map[string]any{"ok": len(found) == 0, "id": p.ID, "action": p.Action, "payload": json.RawMessage(p.Payload), "counted": counted, "findings": found}
	if !json.Valid(p.Payload) {
		out["payload"] = string(p.Payload)
	}
	if t.json {
		if err := writeJSON(t.stdout, out); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(t.stdout, "request %s: %s\n  %s\n", p.ID, p.Action, p.Payload)
		for _, n := range counted {
			fmt.Fprintf(t.stdout, "signed by %s\n", n)
		}
		for _, x := range found {
			fmt.Fprintf(t.stdout, "FOUND %s: %s\n", x.Rule, x.Message)
		}
	}
	if len(found) > 0 {
		return errFindings
	}
	return nil
}

func parseProof(body []byte) (approvalProof, error) {
	var p approvalProof
	if err := json.Unmarshal(body, &p); err != nil || p.ID == "" || p.Action == "" {
		return p, bulkhead.NewFault(bulkhead.KindMalformed, "the file is no approval").WithHint("bulkhead approve ID --proof > FILE").WithCause(err)
	}
	return p, nil
}

// judgeApproval counts the signatures by different trusted keys over the statement of exactly this action and payload. Two
// keys of one name are one person.
func judgeApproval(p approvalProof, trusted map[bulkhead.Hash]trustedKey, needed int, at place) (counted []string, found []finding) {
	found = []finding{}
	counted = []string{}
	request := bulkhead.ApprovalRequest{ID: p.ID, Action: p.Action, Payload: p.Payload}
	seen := map[bulkhead.Hash]bool{}
	for _, a := range p.Approvals {
		key, known := trusted[a.KeySHA256]
		if key.owner != "" {
			a.Operator = key.owner
		}
		switch {
		case !known:
			found = append(found, finding{Rule: "unknown-key", Message: fmt.Sprintf("the key of %s (%s) is none of those given", a.Operator, a.KeySHA256)})
		case seen[a.KeySHA256]:
			found = append(found, finding{Rule: "same-key", Message: fmt.Sprintf("%s signed with a key that had signed already", a.Operator)})
		case slices.Contains(counted, a.Operator):
			found = append(found, finding{Rule: "same-person", Message: fmt.Sprintf("%s signed with two keys and counts once", a.Operator)})
		case signs(key.pub, request, a.Signature, at) != nil:
			found = append(found, finding{Rule: "signature", Message: fmt.Sprintf("the signature of %s is not over this action and payload: %s", a.Operator, bulkhead.AsFault(signs(key.pub, request, a.Signature, at)).Detail)})
		default:
			seen[a.KeySHA256] = true
			counted = append(counted, a.Operator)
		}
	}
	if len(counted) < needed {
		found = append(found, finding{Rule: "quorum", Message: fmt.Sprintf("%d signatures count, %d are needed", len(counted), needed)})
	}
	return counted, found
}

// signs verifies one signature: of a key file, or what a security key gave at the place that the auditor named.
func signs(pub crypto.PublicKey, r bulkhead.ApprovalRequest, signature []byte, at place) error {
	if file, ok := pub.(ed25519.PublicKey); ok && len(signature) == ed25519.SignatureSize {
		return approval.Key{Ed25519: file}.Verify(r, signature, nil)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return err
	}
	a, err := approval.ParseAssertion(signature)
	if err != nil {
		return err
	}
	if at.rpID == "" || len(at.origins) == 0 {
		return bulkhead.NewFault(bulkhead.KindUsage, "where the security key was used is not given").WithHint("--rp-id HOST --origin https://HOST:PORT")
	}
	return a.Verify(approval.SecurityKey{ID: a.CredentialID, PublicKey: der, RPID: at.rpID, Origin: at.origins[0]}, approval.Challenge(r), at.origins)
}

// operatorKey reads a public key and how approvals name it: by the key alone of a key file, by its DER of a security key.
func operatorKey(path string) ([]bulkhead.Hash, crypto.PublicKey, error) {
	wrong := bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no public key in PEM", path).WithHint("openssl pkey -in KEY -pubout -out KEY.pub, or the public_key of bulkhead operator keys --json")
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, bulkhead.Faultf(bulkhead.KindNotFound, "cannot read the operator's key: %v", err).WithHint(wrong.Hint)
	}
	block, _ := pem.Decode(body)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, nil, wrong
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, nil, wrong.WithCause(err)
	}
	if pub, ok := k.(ed25519.PublicKey); ok {
		return []bulkhead.Hash{bulkhead.Digest(pub), bulkhead.Digest(block.Bytes)}, pub, nil
	}
	return []bulkhead.Hash{bulkhead.Digest(block.Bytes)}, k, nil
}
