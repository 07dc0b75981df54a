package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

func (a *app) compromise() *cobra.Command {
	c := &cobra.Command{Use: "compromise", Short: "key, list: what to do when a private key is in other hands"}
	c.AddCommand(a.compromiseKey(), &cobra.Command{Use: "list", Short: "compromised keys, and how many of their certificates are left", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/compromises", func(v console.CompromiseList) string {
			var rows []string
			for _, x := range v.Compromises {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%d\t%d\t%s\t%s", x.KeySHA256, x.At.Format("2006-01-02 15:04:05"), x.Revoked, x.Left, x.Actor, x.Reason))
			}
			return table("KEY SHA-256\tBLOCKED (UTC)\tREVOKED\tLEFT\tBY\tREASON", rows)
		})
	}})
	return c
}

func (a *app) compromiseKey() *cobra.Command {
	var in console.CompromiseRequest
	var cert, key, spki string
	var dry, noWait bool
	c := &cobra.Command{Use: "key", Short: "block a key for ever and revoke everything on it; one person", Args: exactly(0, "no arguments"),
		Long: "Blocks the key at once, on every entry point and in the signer, and revokes for keyCompromise every certificate in\nforce that holds it, whoever ordered it. Of a private key only the public half leaves this machine. Without --no-wait it\ngoes on until no certificate is left.",
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if in.KeySHA256, err = compromised(cert, key, spki); err != nil {
				return err
			}
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			const path = "/api/v1/compromises"
			if dry {
				return a.rehearse(c.Context(), cl, http.MethodPost, path, in)
			}
			var v console.CompromiseView
			if err := cl.Do(c.Context(), http.MethodPost, path, in, &v); err != nil {
				return err
			}
			for !noWait && v.Left > 0 {
				a.say("blocked; %d certificates revoked, %d to go", v.Revoked, v.Left)
				select {
				case <-c.Context().Done():
					return c.Context().Err()
				case <-time.After(time.Second):
				}
				if err := cl.Do(c.Context(), http.MethodGet, path+"/"+v.KeySHA256.String(), nil, &v); err != nil {
					return err
				}
			}
			if v.Left > 0 {
				a.code = exitPartly
				return a.show(v, "the key is blocked for ever; %d certificates are revoked, %d are being revoked\nkey   %s\nnext: bulkhead compromise list", v.Revoked, v.Left, v.KeySHA256)
			}
			return a.show(v, "the key is blocked for ever; %d certificates are revoked, none in force holds it\nkey      %s\nchanges  %s", v.Revoked, v.KeySHA256, strings.Join(v.Changes, " "))
		}}
	f := c.Flags()
	f.StringVar(&cert, "cert", "", "a certificate that holds the key, PEM or DER")
	f.StringVar(&key, "key", "", "the private or public key, PEM or DER; a private key stays here")
	f.StringVar(&spki, "spki", "", "SHA-256 of the DER SubjectPublicKeyInfo, in hex")
	f.StringVar(&in.Reason, "reason", "", "what happened, for the record")
	f.BoolVar(&noWait, "no-wait", false, "return while certificates are still being revoked (exit code 4)")
	dryRunFlag(c, &dry)
	return c
}

// compromised is the hash of the one key that the flags name.
func compromised(cert, key, spki string) (bulkhead.Hash, error) {
	none := bulkhead.Hash{}
	given := 0
	for _, x := range []string{cert, key, spki} {
		if x != "" {
			given++
		}
	}
	if given != 1 {
		return none, bulkhead.NewFault(bulkhead.KindUsage, "compromise key takes one of --cert, --key and --spki").WithHint("bulkhead compromise key --cert FILE --reason TEXT")
	}
	if spki != "" {
		h, err := bulkhead.ParseHash(strings.ToLower(spki))
		if err != nil {
			return none, bulkhead.Faultf(bulkhead.KindUsage, "--spki %q is not a SHA-256 in hex", spki).WithHint("openssl pkey -in KEY -pubout -outform DER | sha256sum")
		}
		return h, nil
	}
	path := cert + key
	body, err := os.ReadFile(path)
	if err != nil {
		return none, bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", path).WithHint("name a file in PEM or DER").WithCause(err)
	}
	if cert != "" {
		der := body
		if block, _ := pem.Decode(body); block != nil && block.Type == "CERTIFICATE" {
			der = block.Bytes
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return none, bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no certificate", path).WithHint("name a certificate in PEM or DER").WithCause(err)
		}
		return bulkhead.Digest(c.RawSubjectPublicKeyInfo), nil
	}
	pub, err := publicHalf(body)
	clear(body)
	if err != nil {
		return none, bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no key that can be read", path).WithHint("openssl pkey -in KEY -pubout -out KEY.pub, then --key KEY.pub")
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	return bulkhead.Digest(der), err
}

// publicHalf reads a public key, or the public half of a private one: PKCS #8, PKCS #1, SEC 1 or SubjectPublicKeyInfo.
func publicHalf(body []byte) (crypto.PublicKey, error) {
	var last error = fmt.Errorf("no key")
	blocks := [][]byte{}
	for block, rest := pem.Decode(body); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block.Bytes) // an EC key file begins with its parameters
	}
	if len(blocks) == 0 {
		blocks = append(blocks, body)
	}
	for _, der := range blocks {
		for _, parse := range []func([]byte) (any, error){
			x509.ParsePKCS8PrivateKey, x509.ParsePKIXPublicKey,
			func(p []byte) (any, error) { return x509.ParsePKCS1PrivateKey(p) },
			func(p []byte) (any, error) { return x509.ParseECPrivateKey(p) },
			func(p []byte) (any, error) { return x509.ParsePKCS1PublicKey(p) },
		} {
			k, err := parse(der)
			if err != nil {
				last = err
				continue
			}
			if private, ok := k.(interface{ Public() crypto.PublicKey }); ok {
				return private.Public(), nil
			}
			return k, nil
		}
	}
	return nil, last
}
