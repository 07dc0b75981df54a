package lint

// caUsageMissing wants an extended key usage below the root, so that an authority for TLS is one for nothing else. A
// warning, because an enterprise root may sign an authority by its own rules.
func caUsageMissing() rule {
	return rule{
		name: "bulkhead_ca_usage_missing", source: "BR 7.1.2.6, 7.1.2.10.6", severity: Warn, from: br200, sets: subCASets,
		check: func(s *subject, report report) {
			if len(s.cert.ExtKeyUsage)+len(s.cert.UnknownExtKeyUsage) == 0 {
				report("no extended key usage limits what the authority may sign")
			}
		},
	}
}
