package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead"
)

// signedProof is a request as two operators sign it, with files of their public keys.
func signedProof(t testing.TB, dir string) (proof map[string]any, keyFiles []string, keys []ed25519.PrivateKey) {
	t.Helper()
	payload := []byte(`{"stop":"s-1","scope":"all"}`)
	digest := bulkhead.Digest(append([]byte("issuance.resume\n"), payload...))
	statement := []byte("bulkhead approval v1\nr-1\nissuance.resume\n" + digest.String() + "\n")
	var approvals []map[string]any
	for i := range 2 {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize))
		pub := key.Public().(ed25519.PublicKey)
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, fmt.Sprintf("op-%d.pub", i))
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, keyFiles = append(keys, key), append(keyFiles, file)
		approvals = append(approvals, map[string]any{"operator": fmt.Sprintf("op-%d", i), "key_sha256": bulkhead.Digest(pub), "signature": ed25519.Sign(key, statement), "at": "2026-11-26T12:00:00Z"})
	}
	return map[string]any{"id": "r-1", "action": "issuance.resume", "payload": payload, "needed": 1, "reason": "why", "approvals": approvals}, keyFiles, keys
}

// TestApproval: two signatures over what the file shows are a quorum; each thing that is changed is found.
func TestApproval(t *testing.T) {
	for name, c := range map[string]struct {
		change func(map[string]any)
		code   int
		says   string
	}{
		"good":            {func(map[string]any) {}, exitDone, "signed by op-1"},
		"another payload": {func(p map[string]any) { p["payload"] = []byte(`{"stop":"s-2"}`) }, exitFindings, "not over this action"},
		"another action":  {func(p map[string]any) { p["action"] = "operator.add" }, exitFindings, "not over this action"},
		"another request": {func(p map[string]any) { p["id"] = "r-2" }, exitFindings, "not over this action"},
		"one signature":   {func(p map[string]any) { p["approvals"] = p["approvals"].([]map[string]any)[:1] }, exitFindings, "1 signatures count, 2 are needed"},
		"one key twice": {func(p map[string]any) {
			a := p["approvals"].([]map[string]any)
			p["approvals"] = []map[string]any{a[0], a[0]}
		}, exitFindings, "had signed already"},
		"a stranger": {func(p map[string]any) { p["approvals"].([]map[string]any)[1]["key_sha256"] = strings.Repeat("ab", 32) }, exitFindings, "none of those given"},
		"no request": {func(p map[string]any) { delete(p, "id") }, exitFailed, "is no approval"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p, keys, _ := signedProof(t, dir)
			c.change(p)
			body, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "proof.json")
			if err := os.WriteFile(file, body, 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errOut bytes.Buffer
			code := run([]string{"approval", file, "--operator-key", keys[0], "--operator-key", keys[1]}, nil, &out, &errOut)
			if code != c.code || !strings.Contains(out.String()+errOut.String(), c.says) {
				t.Errorf("%d %s%s", code, &out, &errOut)
			}
		})
	}
	var out, errOut bytes.Buffer
	if code := run([]string{"approval", "x"}, nil, &out, &errOut); code != exitUsage {
		t.Errorf("without keys: %d", code)
	}
}

// FuzzApproval: no file is taken for a quorum of keys that did not sign it.
func FuzzApproval(f *testing.F) {
	p, _, _ := signedProof(f, f.TempDir())
	good, err := json.Marshal(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"id":"r","action":"a","approvals":[{}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := parseProof(body)
		if err != nil {
			return
		}
		if counted, found := judgeApproval(p, map[bulkhead.Hash]trustedKey{}, 1, place{}); len(counted) > 0 || len(found) == 0 {
			t.Errorf("counted %v", counted)
		}
	})
}
