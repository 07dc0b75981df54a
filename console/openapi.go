package console

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"bulkhead"
)

//go:generate go test -run TestOpenAPI -update

// openAPIPath serves the description of the API to anybody: it holds nothing that the source does not.
const openAPIPath = "/api/v1/openapi.json"

// OpenAPI is the description of the API, made from its routes.
func OpenAPI() ([]byte, error) {
	a, err := build(Config{})
	if err != nil {
		return nil, err
	}
	return a.document, nil
}

// object keeps JSON objects short to write. encoding/json sorts its keys, so the document is always the same.
type object = map[string]any

// openAPI describes operations (OpenAPI 3.1, JSON Schema 2020-12).
func openAPI(operations []description) ([]byte, error) {
	s := schemas{components: object{}}
	paths := object{}
	for _, op := range operations {
		methods, ok := paths[op.path].(object)
		if !ok {
			methods = object{}
			paths[op.path] = methods
		}
		methods[strings.ToLower(op.method)] = s.operation(op)
	}
	paths[openAPIPath] = object{"get": object{"operationId": "openapi", "summary": "this document", "security": []any{},
		"responses": object{"200": object{"description": "OpenAPI 3.1", "content": object{jsonType: object{"schema": object{"type": "object"}}}}}}}
	doc := object{
		"openapi": "3.1.0",
		"info": object{"title": "bulkhead", "version": "1", "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Certificates, authorities, operators and changes of status. Refusals are problem documents (RFC 9457) with the next step in \"hint\". " +
				"Times are RFC 3339 in UTC; serials and digests are lower-case hex. Calls that change something take dry_run and an Idempotency-Key."},
		"paths": paths,
		"components": object{
			"schemas":   s.components,
			"responses": object{"Problem": s.problem()},
			"parameters": object{
				"DryRun": object{"name": "dry_run", "in": "query", "schema": object{"type": "boolean"},
					"description": "Say what would happen and change nothing. May stand in the body instead."},
				"IdempotencyKey": object{"name": idempotencyHeader, "in": "header", "schema": object{"type": "string", "minLength": 1, "maxLength": maxKey, "pattern": "^[!-~]+$"},
					"description": "Remembered for 24 hours with asker, method, path and body: the same request gets the same answer and does nothing; another request is refused (409). Use a random UUID: answers are sealed under it."},
			},
			"securitySchemes": object{
				"token": object{"type": "http", "scheme": "bearer", "description": "the token of an API account: bulkhead account add"},
				"session": object{"type": "apiKey", "in": "cookie", "name": "__Host-bulkhead-session",
					"description": "operators: signed in with a browser at /signin/; a change carries the proof of its page in X-Bulkhead-Session"},
				"operator": object{"type": "apiKey", "in": "header", "name": "Authorization",
					"description": "\"Bulkhead-Operator \" and base64url(JSON of key, method, path, body, at, nonce) \".\" base64url(Ed25519 signature): signed by the command line with --operator-key"},
			},
		},
	}
	body, err := json.MarshalIndent(doc, "", "  ")
	return append(body, '\n'), err
}

// schemas collects the named types that operations use.
type schemas struct{ components object }

var pathParameter = regexp.MustCompile(`\{([a-z_]+)\}`)

func (s *schemas) operation(op description) object {
	parameters := []any{}
	for _, m := range pathParameter.FindAllStringSubmatch(op.path, -1) {
		parameters = append(parameters, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range op.query {
		schema := object{"type": "string"}
		if p.kind != nil {
			schema = s.of(p.kind)
		}
		if len(p.values) > 0 {
			schema["enum"] = p.values
		}
		parameters = append(parameters, object{"name": p.name, "in": "query", "description": p.about, "schema": schema})
	}
	good := s.of(op.out)
	if op.changes {
		parameters = append(parameters, object{"$ref": "#/components/parameters/DryRun"}, object{"$ref": "#/components/parameters/IdempotencyKey"})
		good = object{"anyOf": []any{good, s.of(reflect.TypeFor[Plan]())}}
	}
	security := []any{object{"operator": []any{}}, object{"session": []any{}}}
	switch op.access {
	case anybodyKnown, partnersToo:
		security = append(security, object{"token": []any{}})
	case partnersOnly:
		security = []any{object{"token": []any{}}}
	case anybody:
		security = []any{}
	}
	out := object{"operationId": op.id, "summary": op.summary, "security": security, "parameters": parameters, "responses": object{
		"200":     object{"description": "done", "content": object{jsonType: object{"schema": good}}},
		"default": object{"$ref": "#/components/responses/Problem"},
	}}
	if op.in != reflect.TypeFor[none]() {
		out["requestBody"] = object{"required": true, "content": object{jsonType: object{"schema": s.of(op.in)}}}
	}
	return out
}

func (s *schemas) problem() object {
	kinds := []string{"about:blank"}
	for _, k := range bulkhead.Kinds {
		kinds = append(kinds, ProblemType(k))
	}
	s.of(reflect.TypeFor[problem]())
	for _, name := range []string{"Problem", "Subproblem"} {
		s.components[name].(object)["properties"].(object)["type"] = object{"type": "string", "enum": kinds}
	}
	return object{"description": "refused; nothing was changed unless \"change\" names a change that waits for approvals",
		"headers": object{"Retry-After": object{"description": "seconds after which to try again", "schema": object{"type": "integer"}}},
		"content": object{problemType: object{"schema": object{"$ref": "#/components/schemas/Problem"}}}}
}

// enum lists the values of the closed types.
func enum(t reflect.Type) []any {
	switch t {
	case reflect.TypeFor[bulkhead.CertificateKind]():
		return values(certificateKinds)
	case reflect.TypeFor[bulkhead.CertificateState]():
		return []any{bulkhead.Reserved, bulkhead.Issued, bulkhead.Revoked, bulkhead.Abandoned}
	case reflect.TypeFor[bulkhead.AuthorityKind]():
		return []any{bulkhead.RootAuthority, bulkhead.IssuingAuthority, bulkhead.InfrastructureAuthority}
	case reflect.TypeFor[bulkhead.AuthorityState]():
		return []any{bulkhead.AuthorityPending, bulkhead.AuthorityActive, bulkhead.AuthorityRetired, bulkhead.AuthorityRevoked, bulkhead.AuthorityDestroyed,
			bulkhead.AuthorityForeign, bulkhead.AuthorityForeignServed}
	case reflect.TypeFor[bulkhead.ChangeState]():
		return []any{bulkhead.ChangePlanned, bulkhead.ChangePreviewed, bulkhead.ChangeApproved, bulkhead.ChangeStaged, bulkhead.ChangeActivated,
			bulkhead.ChangePublished, bulkhead.ChangeSettled, bulkhead.ChangeRefused}
	case reflect.TypeFor[bulkhead.RequestState]():
		return []any{bulkhead.RequestOpen, bulkhead.RequestApproved, bulkhead.RequestExecuted, bulkhead.RequestRefused}
	case reflect.TypeFor[bulkhead.StopKind]():
		return values(bulkhead.StopKinds)
	case reflect.TypeFor[bulkhead.Severity]():
		return []any{bulkhead.Critical, bulkhead.Warning, bulkhead.Notice}
	case reflect.TypeFor[bulkhead.IdentifierType]():
		return []any{bulkhead.DNS, bulkhead.IP, bulkhead.Email}
	default:
		return nil
	}
}

func values[T ~string](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// of is the schema of a type as encoding/json writes it.
func (s *schemas) of(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return object{}
	case reflect.TypeFor[[]byte]():
		return object{"type": "string", "contentEncoding": "base64"}
	case reflect.TypeFor[bulkhead.Hash]():
		return object{"type": "string", "pattern": "^([0-9a-f]{64})?$"}
	case reflect.TypeFor[bulkhead.Serial]():
		return object{"type": "string", "pattern": "^[0-9a-f]{0,40}$"}
	}
	if list := enum(t); list != nil {
		return object{"type": "string", "enum": list}
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.component(t)
	default:
		panic(fmt.Sprintf("console: %s has no schema", t)) // TestOpenAPI proves this unreachable
	}
}

// component describes a struct once and refers to it.
func (s *schemas) component(t reflect.Type) object {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	ref := object{"$ref": "#/components/schemas/" + name}
	if _, ok := s.components[name]; ok {
		return ref
	}
	properties, required := object{}, []string{}
	s.components[name] = object{"type": "object", "properties": properties}
	for _, f := range members(t) {
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key == "-" {
			continue
		}
		schema := s.of(f.Type)
		if about := f.Tag.Get("about"); about != "" {
			schema["description"] = about
		}
		properties[key] = schema
		if options != "omitempty" && options != "omitzero" {
			required = append(required, key)
		}
	}
	if len(required) > 0 {
		s.components[name].(object)["required"] = required
	}
	return ref
}

// members are the fields of a struct as encoding/json has them: those of embedded structs stand among them.
func members(t reflect.Type) (out []reflect.StructField) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Tag.Get("json") == "" && f.Type.Kind() == reflect.Struct {
			out = append(out, members(f.Type)...)
			continue
		}
		out = append(out, f)
	}
	return out
}
