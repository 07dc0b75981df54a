package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/quorum"
	"bulkhead/run/client"
)

func (a *app) partnerPersonKey() *cobra.Command {
	var pubFile string
	var in console.PersonKeyRequest
	var dry bool
	c := &cobra.Command{Use: "key PARTNER NAME", Short: "propose the key by which a person at a partner approves orders; takes two operators", Args: exactly(2, "a partner and a person"),
		RunE: func(c *cobra.Command, args []string) error {
			body, err := os.ReadFile(pubFile)
			if err != nil {
				return bulkhead.Faultf(bulkhead.KindUsage, "the public key %q cannot be read", pubFile).WithHint("openssl genpkey -algorithm ed25519 -out KEY && openssl pkey -in KEY -pubout -out KEY.pub").WithCause(err)
			}
			if in.PublicKey, err = quorum.ParsePublicKey(body); err != nil {
				return err
			}
			return a.proposeAndWait(c, "/api/v1/partners/"+url.PathEscape(args[0])+"/people/"+url.PathEscape(args[1])+"/key", in, dry)
		}}
	c.Flags().StringVar(&pubFile, "public-key", "", "PEM file with the person's Ed25519 public key")
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) partnerApprove() *cobra.Command {
	var in console.ReasonRequest
	var keyFile string
	var dry bool
	c := &cobra.Command{Use: "approve ORDER", Short: "the second word for an order with a high-value name", Args: exactly(1, "the id of an order"),
		Long: "With the token of a person at a partner (BULKHEAD_TOKEN) and the key that operators bound to that person (--key): that\nperson's signed word, for an order of the partner whose account somebody else made. As an operator: asks for the approvals\nof two operators; the exit code is 3 until they have approved.",
		RunE: func(c *cobra.Command, args []string) error {
			if a.opts.Token == "" {
				return a.proposeAndWait(c, "/api/v1/orders/"+url.PathEscape(args[0])+"/approval", in, dry)
			}
			word, err := a.signOrder(c, args[0], keyFile)
			if err != nil {
				return err
			}
			return confirmed(a, c, "/api/v1/partner/orders/"+url.PathEscape(args[0])+"/approval", word, !dry, func(v console.OrderView) string {
				return fmt.Sprintf("order %s has a second person's word: its client finalizes again", v.ID)
			})
		}}
	c.Flags().StringVar(&keyFile, "key", "", "with a partner's token: the person's own key, bound by bulkhead partner person key")
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

// signOrder shows an order and signs exactly the names that were shown.
func (a *app) signOrder(c *cobra.Command, id, keyFile string) (console.SignedWord, error) {
	if keyFile == "" {
		return console.SignedWord{}, bulkhead.NewFault(bulkhead.KindUsage, "a person at a partner approves with a key of his own").WithHint("bulkhead partner approve " + id + " --key FILE; operators bind it: bulkhead partner person key PARTNER NAME --public-key FILE")
	}
	key, err := client.ReadKey(keyFile)
	if err != nil {
		return console.SignedWord{}, err
	}
	cl, err := client.New(a.opts)
	if err != nil {
		return console.SignedWord{}, err
	}
	var me console.PartnerView
	if err := cl.Do(c.Context(), http.MethodGet, "/api/v1/partner", nil, &me); err != nil {
		return console.SignedWord{}, err
	}
	var o console.OrderView
	if err := cl.Do(c.Context(), http.MethodGet, "/api/v1/partner/orders/"+url.PathEscape(id), nil, &o); err != nil {
		return console.SignedWord{}, err
	}
	var names []string
	for _, n := range o.Names {
		names = append(names, n.Value)
	}
	a.say("order %s of account %s: %s", o.ID, o.Account, strings.Join(names, " "))
	return console.SignedWord{Signature: quorum.SignOrder(key, me.ID, me.You, o.ID, o.Names)}, nil
}
