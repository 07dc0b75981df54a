package check

import (
	"bulkhead"
	"bulkhead/scan/advice"
)

// pageWords is everything that the page says, in one language.
type pageWords struct {
	Title, Intro, Label, Example, Button, Wait, Switch     string
	ResultOf, LookedAt, SharedUntil, Todo, Nodes, Reason   string
	Certificate, Key, Notes, Meaning, What, Problem, Scope string
	verdicts                                               map[bulkhead.Verdict]string
	refusals                                               map[bulkhead.Kind]string
	until                                                  string
	rules                                                  map[string]string // findings of looks; empty shows their own words
}

// Big is the verdict in a word or two.
func (t *pageWords) Big(v bulkhead.Verdict) string { return t.verdicts[v] }

var texts = map[advice.Language]*pageWords{advice.English: {
	Title: "Heartbleed check", Intro: "Tells whether a server returns its memory to strangers (CVE-2014-0160), and what to do. For owners who check their own servers.",
	Label: "Host name or address", Example: "www.example.com, 192.0.2.1, or smtp://mail.example.com", Button: "Check", Wait: "A look takes up to 40 seconds.", Switch: "日本語",
	ResultOf: "Result for", LookedAt: "Looked at", SharedUntil: "This page can be shared until", Todo: "What to do", Nodes: "Each address", Reason: "Reason",
	Certificate: "Certificate", Key: "Key", Notes: "Notes", Problem: "Not checked",
	What:  "One byte that the server was not sent is the proof; it is counted and dropped. Who asks is not kept.",
	Scope: "The fault is in OpenSSL 1.0.1 to 1.0.1f on the server. It is not a fault of certificates or of the authority that issued them.",
	verdicts: map[bulkhead.Verdict]string{bulkhead.Vulnerable: "Vulnerable", bulkhead.Patched: "Not vulnerable: patched", bulkhead.NotSupported: "Not vulnerable: no heartbeat",
		bulkhead.Unreachable: "Not reached: nothing is known", bulkhead.Inconclusive: "Could not tell: not an all-clear"},
	refusals: map[bulkhead.Kind]string{
		bulkhead.KindUsage: "This is no host name or address. Write www.example.com, 192.0.2.1, or smtp://mail.example.com.", bulkhead.KindMalformed: "The request cannot be read.",
		bulkhead.KindForbidden: "This host is not looked at: its address is private or reserved, or the port is none of those at which TLS is spoken.",
		bulkhead.KindNotFound:  "There is no such result, or it has expired.", bulkhead.KindRateLimited: "Too many looks. Each asker and each host has a limit; please wait a minute.",
		bulkhead.KindUnavailable: "Many looks are under way. Please try again in a moment.", bulkhead.KindInternal: "Something is wrong on our side. Nothing was looked at; please try again later.",
	},
	until: "valid until ",
}, advice.Japanese: {
	Title: "Heartbleed チェック", Intro: "サーバーがメモリの内容を第三者に返さないか(CVE-2014-0160)を確認し、必要な対応をお知らせします。ご自身が管理するサーバーにご利用ください。",
	Label: "ホスト名または IP アドレス", Example: "www.example.jp、192.0.2.1、smtp://mail.example.jp など", Button: "確認する", Wait: "確認には最大 40 秒かかります。", Switch: "English",
	ResultOf: "確認結果:", LookedAt: "確認日時", SharedUntil: "このページの公開期限", Todo: "必要な対応", Nodes: "アドレスごとの結果", Reason: "理由",
	Certificate: "証明書", Key: "鍵", Notes: "備考", Problem: "確認できませんでした",
	What:  "判定に使うのは、サーバーに送っていない 1 バイトだけです。内容は数えた後、直ちに破棄します。確認した方の情報は保存しません。",
	Scope: "この脆弱性はサーバー上の OpenSSL 1.0.1 ~ 1.0.1f のものです。証明書や認証局の問題ではありません。",
	verdicts: map[bulkhead.Verdict]string{bulkhead.Vulnerable: "脆弱性あり", bulkhead.Patched: "影響なし:修正済み", bulkhead.NotSupported: "影響なし:Heartbeat 非対応",
		bulkhead.Unreachable: "接続できません:安全かどうか不明", bulkhead.Inconclusive: "判定できません:「影響なし」ではありません"},
	refusals: map[bulkhead.Kind]string{
		bulkhead.KindUsage: "ホスト名または IP アドレスではありません。www.example.jp、192.0.2.1、smtp://mail.example.jp のように入力してください。", bulkhead.KindMalformed: "リクエストを読み取れません。",
		bulkhead.KindForbidden: "このホストは確認できません。プライベートアドレスや予約済みアドレス、または TLS で使用されないポートです。",
		bulkhead.KindNotFound:  "結果が存在しないか、公開期限が過ぎています。", bulkhead.KindRateLimited: "確認の回数が多すぎます。しばらくお待ちください。",
		bulkhead.KindUnavailable: "混み合っています。しばらくしてからもう一度お試しください。", bulkhead.KindInternal: "システムに問題が発生しました。確認は行われていません。",
	},
	until: "有効期限: ",
	rules: map[string]string{
		"certificate-unreadable": "証明書を読み取れません", "certificate-expired": "証明書の有効期間外です", "certificate-expiring": "証明書の有効期限が近づいています", "name-mismatch": "証明書の名前がホスト名と一致しません",
		"chain-incomplete": "中間 CA 証明書が送信されていません", "chain-superfluous": "不要な証明書が送信されています", "chain-disorder": "証明書の順序が正しくありません", "key-weak": "弱い鍵です",
		"key-shared": "ほかのホストと同じ鍵です", "key-kept": "脆弱性が確認された後も、同じ鍵が使用されています。新しい鍵を作成してください", "key-unchanged": "前回の確認時と同じ鍵です", "key-blocked": "この鍵は漏えいなどの理由で使用できません",
		"staple-bad": "ステープリングされた OCSP 応答が有効ではありません", "staple-revoked": "証明書は失効しています(OCSP ステープリング)", "suites-weak": "弱い暗号スイートを受け付けます",
		"revoked": "証明書は失効しています", "status-disagrees": "失効情報の配布元により回答が異なります", "status-missing": "失効情報を取得できません", "caa-forbids": "CAA レコードは、この証明書の認証局による発行を許可していません",
	},
}}
