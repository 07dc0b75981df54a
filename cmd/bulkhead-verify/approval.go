package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
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
			return t.approval(args[0], keys, needed)
		},
	}
	c.Flags().StringArrayVar(&keys, "operator-key", nil, "PEM file with an operator's public key; once for each operator")
	c.Flags().IntVar(&needed, "needed", 2, "signatures by different keys that make a quorum; what FILE says of it is not believed")
	return c
}

func (t *tool) approval(path string, keyFiles []string, needed int) error {
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
	trusted := map[bulkhead.Hash]ed25519.PublicKey{}
	for _, name := range keyFiles {
		pub, err := operatorKey(name)
		if err != nil {
			return err
		}
		trusted[bulkhead.Digest(pub)] = pub
	}
	counted, found := judgeApproval(p, trusted, needed)
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

// judgeApproval counts the signatures by different trusted keys over the statement of exactly this action and payload.
func judgeApproval(p approvalProof, trusted map[bulkhead.Hash]ed25519.PublicKey, needed int) (counted []string, found []finding) {
	found = []finding{}
	counted = []string{}
	digest := bulkhead.Digest(append([]byte(p.Action+"\n"), p.Payload...))
	statement := []byte("bulkhead approval v1\n" + p.ID + "\n" + p.Action + "\n" + digest.String() + "\n")
	seen := map[bulkhead.Hash]bool{}
	for _, a := range p.Approvals {
		pub, known := trusted[a.KeySHA256]
		switch {
		case !known:
			found = append(found, finding{Rule: "unknown-key", Message: fmt.Sprintf("the key of %s (%s) is none of those given", a.Operator, a.KeySHA256)})
		case seen[a.KeySHA256]:
			found = append(found, finding{Rule: "same-key", Message: fmt.Sprintf("%s signed with a key that had signed already", a.Operator)})
		case !ed25519.Verify(pub, statement, a.Signature):
			found = append(found, finding{Rule: "signature", Message: fmt.Sprintf("the signature of %s is not over this action and payload", a.Operator)})
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

func operatorKey(path string) (ed25519.PublicKey, error) {
	wrong := bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no Ed25519 public key in PEM", path).WithHint("openssl pkey -in KEY -pubout -out KEY.pub")
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "cannot read the operator's key: %v", err).WithHint(wrong.Hint)
	}
	block, _ := pem.Decode(body)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, wrong
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, wrong.WithCause(err)
	}
	pub, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, wrong
	}
	return pub, nil
}
