package tlog

import (
	"fmt"

	"bulkhead"
)

// KindName is the word for a kind in JSON and text: "certificate-outcome". A kind that this version does not know is
// "kind-N".
func KindName(k bulkhead.EvidenceKind) string {
	names := map[bulkhead.EvidenceKind]string{
		bulkhead.EvCertificateIntent:   "certificate-intent",
		bulkhead.EvCertificateOutcome:  "certificate-outcome",
		bulkhead.EvCertificateAbandon:  "certificate-abandon",
		bulkhead.EvBatchIntent:         "batch-intent",
		bulkhead.EvBatchOutcome:        "batch-outcome",
		bulkhead.EvLiveWindow:          "live-window",
		bulkhead.EvLiveOutcome:         "live-outcome",
		bulkhead.EvValidation:          "validation",
		bulkhead.EvCAA:                 "caa",
		bulkhead.EvAccount:             "account",
		bulkhead.EvOrderRefused:        "order-refused",
		bulkhead.EvKeyBlocked:          "key-blocked",
		bulkhead.EvChangePlanned:       "change-planned",
		bulkhead.EvChangePreviewed:     "change-previewed",
		bulkhead.EvChangeApproved:      "change-approved",
		bulkhead.EvChangeStaged:        "change-staged",
		bulkhead.EvChangeActivated:     "change-activated",
		bulkhead.EvChangePublished:     "change-published",
		bulkhead.EvChangeSettled:       "change-settled",
		bulkhead.EvChangeRefused:       "change-refused",
		bulkhead.EvRevocation:          "revocation",
		bulkhead.EvAuthority:           "authority",
		bulkhead.EvOperator:            "operator",
		bulkhead.EvApproval:            "approval",
		bulkhead.EvStop:                "stop",
		bulkhead.EvResume:              "resume",
		bulkhead.EvCredential:          "credential",
		bulkhead.EvCompromise:          "compromise",
		bulkhead.EvPartner:             "partner",
		bulkhead.EvSecondApproval:      "second-approval",
		bulkhead.EvPartnerRefused:      "partner-refused",
		bulkhead.EvAccessReview:        "access-review",
		bulkhead.EvAlarm:               "alarm",
		bulkhead.EvStart:               "start",
		bulkhead.EvCeremony:            "ceremony",
		bulkhead.EvRehearsal:           "rehearsal",
		bulkhead.EvKeyDestroyed:        "key-destroyed",
		bulkhead.EvStandby:             "standby",
		bulkhead.EvChainSwitched:       "chain-switched",
		bulkhead.EvPruned:              "pruned",
		bulkhead.EvIncidentOpened:      "incident-opened",
		bulkhead.EvIncidentNote:        "incident-note",
		bulkhead.EvIncidentScope:       "incident-scope",
		bulkhead.EvIncidentHold:        "incident-hold",
		bulkhead.EvIncidentRelease:     "incident-release",
		bulkhead.EvIncidentDelayed:     "incident-delayed",
		bulkhead.EvIncidentClosed:      "incident-closed",
		bulkhead.EvCampaignPlanned:     "campaign-planned",
		bulkhead.EvCampaignStarted:     "campaign-started",
		bulkhead.EvCampaignPaused:      "campaign-paused",
		bulkhead.EvCampaignResumed:     "campaign-resumed",
		bulkhead.EvCampaignClosed:      "campaign-closed",
		bulkhead.EvCampaignItems:       "campaign-items",
		bulkhead.EvCampaignKeys:        "campaign-keys",
		bulkhead.EvCampaignAttempt:     "campaign-attempt",
		bulkhead.EvIncidentField:       "incident-field",
		bulkhead.EvNoticesPlanned:      "notices-planned",
		bulkhead.EvNoticesSent:         "notices-sent",
		bulkhead.EvNoticesBounced:      "notices-bounced",
		bulkhead.EvTicketIssued:        "ticket-issued",
		bulkhead.EvTicketRedeemed:      "ticket-redeemed",
		bulkhead.EvChangeCanary:        "change-canary",
		bulkhead.EvChangeVerified:      "change-verified",
		bulkhead.EvRollback:            "rollback",
		bulkhead.EvTakenBack:           "taken-back",
		bulkhead.EvRestoration:         "restoration",
		bulkhead.EvCachesPurged:        "caches-purged",
		bulkhead.EvCachesVerified:      "caches-verified",
		bulkhead.EvChangeProblem:       "change-problem",
		bulkhead.EvImported:            "imported",
		bulkhead.EvImportedCertificate: "imported-certificate",
		bulkhead.EvImportedRevocation:  "imported-revocation",
		bulkhead.EvAlarmAcknowledged:   "alarm-acknowledged",
		bulkhead.EvAlarmUndelivered:    "alarm-undelivered",
	}
	if name, ok := names[k]; ok {
		return name
	}
	return fmt.Sprintf("kind-%d", k)
}
