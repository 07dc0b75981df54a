//go:build pkcs11

package keys

import "bulkhead/keys/internal/pkcs11"

// openPKCS11 opens the ring of a token.
func openPKCS11(uri string) (Ring, error) {
	u, err := pkcs11.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	pin, err := readSecret(u.PINSource)
	if err != nil {
		return nil, err
	}
	t, err := pkcs11.Open(u, pin)
	if err != nil {
		return nil, err
	}
	return tokenRing{t}, nil
}
