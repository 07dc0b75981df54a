//go:build !pkcs11

package keys

import "bulkhead"

func openPKCS11(string) (Ring, error) {
	return nil, bulkhead.NewFault(bulkhead.KindUsage, "this program was built without PKCS#11").WithHint("CGO_ENABLED=1 go build -tags pkcs11 ./cmd/...")
}
