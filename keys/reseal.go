package keys

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"bulkhead"
	"bulkhead/keys/internal/agefile"
)

// Reseal copies every key of one folder into another, new folder, sealed to other recipients: an identity replaced, or a
// secret that is held in shares. The old folder is left as it is. It returns the URIs. KindConflict when the new folder
// is not empty.
func Reseal(from, to Config) ([]string, error) {
	src, err := agefile.Open(agefile.Config{Dir: from.Dir, IdentityFile: from.IdentityFile, Passphrase: from.Passphrase, WorkFactor: from.WorkFactor})
	if err != nil {
		return nil, fault(err, from.Dir)
	}
	if entries, err := os.ReadDir(to.Dir); err == nil && len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "%s is not an empty folder", to.Dir).WithHint("name a new folder").WithCause(err)
	}
	dst, err := agefile.Open(agefile.Config{Dir: to.Dir, IdentityFile: to.IdentityFile, Passphrase: to.Passphrase, WorkFactor: to.WorkFactor})
	if err != nil {
		return nil, fault(err, to.Dir)
	}
	names, err := src.List(fileSuffix)
	if err != nil {
		return nil, fault(err, from.Dir)
	}
	var uris []string
	for _, name := range names {
		if !checkURI(fileScheme + name) {
			continue
		}
		if err := copyKey(src, dst, name); err != nil {
			return nil, err
		}
		uris = append(uris, fileScheme+name)
	}
	if len(uris) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "%s holds no keys", from.Dir).WithHint("name the folder with the root key")
	}
	slices.Sort(uris)
	return uris, nil
}

func copyKey(src, dst *agefile.Folder, name string) error {
	der, err := src.Read(name)
	if err != nil {
		return fault(err, fileScheme+name)
	}
	defer clear(der)
	if err := dst.Create(name, der); err != nil {
		return fault(err, fileScheme+name)
	}
	return nil
}
