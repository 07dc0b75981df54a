package run

import (
	"gopkg.in/yaml.v3"

	"bulkhead"
	"bulkhead/pki/profile"
)

// ProfileDifference is what a change of a profile means, for the command line.
type ProfileDifference = profile.Difference

// DiffProfiles compares two profiles as files hold them; see profile.Diff for what it refuses.
func DiffProfiles(before, after []byte) (ProfileDifference, error) {
	return profile.Diff(before, after)
}

// ProfileName is the name of the profile in a file, which need not be a good one otherwise.
func ProfileName(text []byte) (string, error) {
	var head struct {
		Name string `yaml:"name"`
	}
	if err := yaml.Unmarshal(text, &head); err != nil || head.Name == "" {
		return "", bulkhead.NewFault(bulkhead.KindMalformed, "the file names no profile").WithHint("bulkhead profile show tls-server prints one").WithCause(err)
	}
	return head.Name, nil
}
