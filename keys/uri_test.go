package keys

import (
	"path/filepath"
	"testing"
)

// FuzzFileName: no URI leads out of the folder.
func FuzzFileName(f *testing.F) {
	for _, uri := range []string{"file:root.age", "file:../root.age", "file:/root.age", "file:a/b.age", "file:.age", "file:a\x00.age", "pkcs11:token=a"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		name, err := fileName(uri)
		if err != nil {
			return
		}
		if name != filepath.Base(name) || filepath.Dir(filepath.Join("keys", name)) != "keys" || fileScheme+name != uri {
			t.Fatalf("%q leads to %q", uri, name)
		}
	})
}
