package notice_test

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/notice"
)

// TestLetterSaysWhatWasSeen: a certificate at whose names somebody looked has its own steps in the letter, in the letter's
// language; one at which nobody did has none.
func TestLetterSaysWhatWasSeen(t *testing.T) {
	l := notice.Letter{House: "CA", Incident: "i", Step: bulkhead.NoticeStep{Day: "key-compromise", What: `{"en":"w","ja":"w"}`, Do: `{"en":"d","ja":"d"}`, Until: time.Unix(1_400_000_000, 0)},
		Items: []notice.Item{{Names: []string{"a.test"}, Replace: &notice.Replacement{Seen: map[string]string{"en": "[to do] 2. Make a new key\n    the OLD key\n", "ja": "[未対応] 2. 鍵"}}},
			{Names: []string{"b.test"}, Replace: &notice.Replacement{}}}}
	for language, want := range map[string]string{"en": "    what we have seen of it:\n      [to do] 2. Make a new key\n          the OLD key\n", "ja": "    弊社で確認した状況:\n      [未対応] 2. 鍵\n"} {
		_, body, err := l.Write(language)
		if err != nil || strings.Count(body, want) != 1 {
			t.Errorf("%v: %s", err, body)
		}
	}
}
