package run

import (
	_ "embed"
	"strings"
)

//go:generate go test -run TestReference -update

// exampleConfig is every key with its default and what config.go says of it; TestReference makes it.
//
//go:embed bulkhead.example.yaml
var exampleConfig []byte

// ExampleConfig is bulkhead.yaml with every key, its default and its meaning.
func ExampleConfig() []byte { return exampleConfig }

// Flag is the flag of `bulkhead up` that sets a key of SettingKeys.
func Flag(key string) string { return "--" + strings.NewReplacer("_", "-", ".", "-").Replace(key) }

// Variable is the environment variable that sets a key of SettingKeys.
func Variable(key string) string {
	return "BULKHEAD_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(key))
}
