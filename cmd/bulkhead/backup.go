package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/run"
)

func (a *app) backup() *cobra.Command {
	var o run.BackupOptions
	c := &cobra.Command{Use: "backup", Short: "one encrypted file from which a blank host answers as this house does", Args: exactly(0, "no arguments"),
		Long: "Writes the record, the evidence log, the published objects, configuration, profiles and the sealed keys into one new file,\nwhile the house runs. What opens the sealed keys is not in it unless --with-identity is given: keep that elsewhere.",
		RunE: func(c *cobra.Command, _ []string) error {
			o.Dir, o.Version = a.opts.Dir, buildVersion()
			r, err := run.Backup(c.Context(), o)
			if err != nil {
				return err
			}
			for _, l := range r.Left {
				a.say("left out: %s", l)
			}
			return a.show(r, "%s holds %s up to status head %d and evidence row %d: %d files, %d octets before encryption, %.1f s\nnext: bulkhead backup verify %s, and carry it to another place",
				r.File, r.House, r.Head, r.Evidence, r.Files, r.Bytes, r.Seconds, r.File)
		}}
	c.Flags().StringVar(&o.Out, "out", "", "the new file")
	c.Flags().StringSliceVar(&o.Recipients, "recipient", nil, "age recipient that can open it (age1…); may be repeated")
	c.Flags().StringVar(&o.PassphraseFile, "passphrase-file", "", "file with a passphrase, instead of recipients")
	c.Flags().BoolVar(&o.WithIdentity, "with-identity", false, "include what opens the sealed keys: whoever opens the backup can then sign")
	c.AddCommand(a.backupVerify())
	return c
}

// openers are the flags that open a backup.
func openers(c *cobra.Command, identity, passphrase *string) {
	c.Flags().StringVar(identity, "identity", "", "age identity file that opens the backup")
	c.Flags().StringVar(passphrase, "passphrase-file", "", "file with the passphrase, when it was made with one")
}

func (a *app) backupVerify() *cobra.Command {
	var identity, passphrase string
	c := &cobra.Command{Use: "verify FILE", Short: "read a backup to its end and hold it against its manifest", Args: exactly(1, "a backup"), RunE: func(c *cobra.Command, args []string) error {
		r, err := run.VerifyBackup(c.Context(), args[0], identity, passphrase)
		if err != nil {
			return err
		}
		return a.show(r, "%s is whole: %s of %s up to status head %d and evidence row %d, %d files, %d octets", r.File, r.House, r.At.Format("2006-01-02 15:04:05Z07:00"), r.Head, r.Evidence, r.Files, r.Bytes)
	}}
	openers(c, &identity, &passphrase)
	return c
}

func (a *app) restore() *cobra.Command {
	var o run.RestoreOptions
	c := &cobra.Command{Use: "restore FILE", Short: "make a data directory from a backup, on a blank host", Args: exactly(1, "a backup"),
		Long: "The directory of --data must be new or empty. Everything is made beside it, checked like fsck does, and renamed; interrupted,\nthe command is given again. A backup that is older than what is public is refused.",
		RunE: func(c *cobra.Command, args []string) error {
			if !c.Flags().Changed("data") && os.Getenv("BULKHEAD_DATA") == "" {
				return bulkhead.NewFault(bulkhead.KindUsage, "say where to restore to").WithHint("bulkhead restore " + args[0] + " --data DIR with a new or empty DIR")
			}
			o.File, o.Dir = args[0], a.opts.Dir
			r, err := run.Restore(c.Context(), o)
			if err != nil {
				return err
			}
			old := 0
			for _, f := range r.Findings {
				if f.Level != "ok" {
					old++
					a.say("%s: %s", f.Check, f.Detail)
				}
			}
			return a.show(r, "%s is restored into %s (%s) up to status head %d and evidence row %d\nit took %.1f s; documented for this size: at most %.0f s; findings: %d\nnext: %s",
				r.House, r.Dir, r.Store, r.Head, r.Evidence, r.Seconds, r.Documented, old, strings.Join(r.Next, "\nnext: "))
		}}
	openers(c, &o.IdentityFile, &o.PassphraseFile)
	c.Flags().StringVar(&o.Store, "store", "", "sqlite:FILE or postgres:FILE for the record; default as in the backup; may be the other engine")
	c.Flags().StringVar(&o.SeenHead, "seen-head", "", "file with a status head that an edge has seen: refuse a backup that is older")
	return c
}
