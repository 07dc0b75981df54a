package advice

import "bulkhead"

// vocabulary is everything that is said, in one language.
type vocabulary struct {
	headline                                         map[bulkhead.Verdict]string
	unseen                                           string
	titles                                           [5]string
	done                                             map[Done]string
	patchNo, patchYes, patchOpen                     string
	rekeyLeaking, rekeySame, rekeyEarly, rekeyYes    string
	rekeyOpen                                        string
	reissueYes, reissueNo, reissueOpen, ticket       string
	installYes, installPart, installOld, installOpen string
	chain                                            string
	chainRules                                       map[string]string // rules of the house in this language
	revoked, revokeAt, revokeOpen                    string
	sep, comma, stop                                 string
}

func (w *vocabulary) chainRule(text string) string {
	if t, ok := w.chainRules[text]; ok {
		return t
	}
	return text + w.stop
}

var words = map[Language]*vocabulary{English: {
	headline: map[bulkhead.Verdict]string{
		bulkhead.Vulnerable:   "{host} returns its memory to strangers (CVE-2014-0160, Heartbleed). Its private key must be taken as stolen. Do these five steps, in this order.",
		bulkhead.Patched:      "{host} supports heartbeat and does not return memory now. If it ever ran OpenSSL 1.0.1 to 1.0.1f, what was stolen before stays stolen: check the steps below.",
		bulkhead.NotSupported: "{host} negotiates no heartbeat, so it cannot be asked for memory this way now.",
		bulkhead.Unreachable:  "{host} was not reached. Nothing is known about it.",
		bulkhead.Inconclusive: "{host} was reached, and the look could not tell. This is not an all-clear.",
	},
	unseen: "Nothing was looked at yet.",
	titles: [5]string{"Patch the server and restart it", "Make a new private key and CSR", "Have the certificate reissued", "Install the new certificate on every node", "Have the old certificate revoked"},
	done:   map[Done]string{Yes: "done", No: "to do", Open: "not known"},

	patchNo:   "Update OpenSSL to 1.0.1g or later, or your distribution's fixed package, or rebuild with -DOPENSSL_NO_HEARTBEATS, and restart every service that uses it. 1.0.1 to 1.0.1f and 1.0.2-beta to 1.0.2-beta1 have the fault; 0.9.8 and 1.0.0 do not.",
	patchYes:  "This host is patched, or never had the fault: it was seen without it.",
	patchOpen: "Not seen from here. Look again when the host can be reached.",

	rekeyLeaking: "Patch first: a key that is made on a server that leaks is stolen again. Then make a new key; do not use the old CSR again.",
	rekeySame:    "The server still shows the OLD key. A certificate that was reissued with the same key protects nothing. Make a new key and a new CSR.",
	rekeyEarly:   "The certificate that is shown is older than the last time this host was seen to leak. Make a new key.",
	rekeyYes:     "The server shows another key than the one that may be stolen.",
	rekeyOpen:    "Whether the key is a new one cannot be seen without knowing the old one. If in doubt, make a new key.",

	reissueYes:  "The replacement is issued.",
	reissueNo:   "Order the certificate again with the new CSR, for each name by itself.",
	reissueOpen: "If the server ever had the fault, order the certificate again with the new CSR.",
	ticket:      "You have a code with which this is free of charge.",

	installYes:  "Every node shows the new certificate.",
	installPart: "Partially installed. These nodes still show another certificate: ",
	installOld:  "The server still shows the certificate to be replaced.",
	installOpen: "Put it on every server, load balancer and accelerator behind the name, and look again.",
	chain:       "The chain: ",
	chainRules:  map[string]string{chain2013: "replace the intermediate certificate together with the server certificate, because yours was issued at or before 2013-08-02 20:59 JST."},

	revoked:    "The old certificate was revoked on ",
	revokeAt:   "The old certificate will be revoked on ",
	revokeOpen: "When the new one is seen to work everywhere, have the old one revoked. Until then whoever has the old key can pretend to be you.",
	sep:        " ", comma: ", ", stop: ".",
}, Japanese: {
	headline: map[bulkhead.Verdict]string{
		bulkhead.Vulnerable:   "{host} は、メモリの内容を第三者に返しています(CVE-2014-0160、Heartbleed)。秘密鍵は漏えいしたものとお考えください。次の 5 つの手順を、この順番で実施してください。",
		bulkhead.Patched:      "{host} は Heartbeat に対応しており、現在はメモリの内容を返しません。過去に OpenSSL 1.0.1 ~ 1.0.1f を利用していた場合、修正前に漏えいした情報は取り戻せません。以下の手順をご確認ください。",
		bulkhead.NotSupported: "{host} は Heartbeat に対応していないため、現在この方法でメモリの内容を読み取ることはできません。",
		bulkhead.Unreachable:  "{host} に接続できませんでした。安全かどうかは分かりません。",
		bulkhead.Inconclusive: "{host} に接続しましたが、判定できませんでした。これは「影響なし」という意味ではありません。",
	},
	unseen: "まだ確認していません。",
	titles: [5]string{"サーバーを修正し、再起動する", "新しい秘密鍵と CSR を作成する", "サーバー証明書を再発行する", "新しい証明書をすべてのサーバーに設定する", "以前の証明書を失効する"},
	done:   map[Done]string{Yes: "完了", No: "未対応", Open: "未確認"},

	patchNo:   "OpenSSL を 1.0.1g 以降、またはご利用の OS の修正済みパッケージへ更新するか、-DOPENSSL_NO_HEARTBEATS を付けて再コンパイルし、OpenSSL を利用するすべてのサービスを再起動してください。影響があるのは 1.0.1 ~ 1.0.1f と 1.0.2-beta ~ 1.0.2-beta1 です。0.9.8 と 1.0.0 は影響を受けません。",
	patchYes:  "このホストは修正済みか、もともと影響がありません(確認済み)。",
	patchOpen: "こちらからは確認できませんでした。接続できる状態にしてから、もう一度ご確認ください。",

	rekeyLeaking: "先に修正してください。修正前のサーバーで作成した鍵は、再び漏えいします。修正後に新しい秘密鍵を作成し、以前の CSR は使用しないでください。",
	rekeySame:    "サーバーは【以前と同じ鍵】を使用しています。同じ鍵で再発行した証明書では対策になりません。新しい秘密鍵と CSR を作成してください。",
	rekeyEarly:   "設定されている証明書は、このホストで脆弱性が最後に確認された日時より前のものです。新しい秘密鍵を作成してください。",
	rekeyYes:     "漏えいの可能性がある鍵とは別の鍵が使用されています。",
	rekeyOpen:    "以前の鍵が分からないため、新しい鍵かどうかは確認できません。不明な場合は、新しい秘密鍵を作成してください。",

	reissueYes:  "再発行は完了しています。",
	reissueNo:   "新しい CSR で、証明書を 1 枚ずつ再申請してください。",
	reissueOpen: "影響のあるバージョンを利用していたことがある場合は、新しい CSR で再申請してください。",
	ticket:      "無償再発行用のチケットコードをご利用いただけます。",

	installYes:  "すべてのサーバーに新しい証明書が設定されています。",
	installPart: "一部のサーバーに設定されていません。別の証明書を使用しているサーバー: ",
	installOld:  "サーバーは、まだ以前の証明書を使用しています。",
	installOpen: "ご利用のすべてのサーバー、ロードバランサー、SSL アクセラレーターに設定し、もう一度ご確認ください。",
	chain:       "中間 CA 証明書: ",
	chainRules:  map[string]string{chain2013: "再発行元の証明書の発行日が 2013 年 8 月 2 日 20:59(JST)以前のため、中間 CA 証明書もあわせて変更してください。"},

	revoked:    "以前の証明書の失効日時: ",
	revokeAt:   "以前の証明書の失効予定日時: ",
	revokeOpen: "新しい証明書の動作を確認してから、以前の証明書を失効してください。失効するまで、以前の鍵を持つ第三者がお客様になりすますことができます。",
	sep:        "", comma: "、", stop: "。",
}}

// chain2013 is the text of the rule of the notice of 8 April 2014 as campaigns give it.
const chain2013 = "replace the intermediate certificate together with the server certificate"
