//! Who is told when something goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Lowering;
use crate::diag::{code, shown};
use crate::manifest::node::pointer;
use crate::manifest::v1;
use crate::model::alert::{AlertBody, AlertConfig, AlertKind, AlertTarget};
use crate::model::id::Name;
use crate::model::limits::{ALERT_INTERVAL_MIN, ALERT_RECEIVERS_MAX};
use crate::model::secret::SecretRef;
use crate::model::text::duration;

/// How often somebody is told at most who does not say how often.
const EVERY_DEFAULT: Duration = Duration::from_secs(300);

impl Lowering<'_> {
    pub(super) fn alerts(&mut self, alerts: BTreeMap<String, v1::AlertTo>) -> Vec<AlertConfig> {
        if alerts.len() > ALERT_RECEIVERS_MAX {
            let detail =
                format!("A fleet tells at most {ALERT_RECEIVERS_MAX} receivers, and these are {}.", alerts.len());
            self.report(code::ALERT, "/spec/alerts", detail);
        }
        alerts.into_iter().take(ALERT_RECEIVERS_MAX).map(|(name, alert)| self.alert(name, alert)).collect()
    }

    fn alert(&mut self, name: String, written: v1::AlertTo) -> AlertConfig {
        let at = pointer(["spec", "alerts", &name]);
        if Name::parse(&name).is_err() {
            let detail = format!("`{}` is no name: lower-case letters, digits and `-`.", shown(&name));
            self.report(code::ALERT, &at, detail);
        }
        let v1::AlertTo { on, webhook, command, every } = written;
        self.exactly_one(&at, &["webhook", "command"]);
        let every = self.duration(every.as_ref(), &format!("{at}/every"), EVERY_DEFAULT);
        if every < ALERT_INTERVAL_MIN {
            let detail = format!("Messages come at most every {}.", duration(ALERT_INTERVAL_MIN));
            self.report(code::ALERT, &format!("{at}/every"), detail);
        }
        let to = match (webhook, command) {
            (Some(webhook), _) => self.webhook(webhook, &format!("{at}/webhook")),
            (None, Some(command)) => {
                if Name::parse(&command).is_err() {
                    let detail = format!(
                        "`{}` is not the name of a command: the fleet names it, and `--alert-command NAME=PATH` says \
                         what it is.",
                        shown(&command)
                    );
                    self.report(code::ALERT, &format!("{at}/command"), detail);
                }
                AlertTarget::Command { name: command }
            }
            (None, None) => AlertTarget::Command { name: String::new() },
        };
        let on = match on {
            Some(kinds) => kinds.into_iter().map(kind).collect(),
            None => AlertKind::ALL.into_iter().collect(),
        };
        AlertConfig { name, on, to, every }
    }

    fn webhook(&mut self, written: v1::AlertWebhook, at: &str) -> AlertTarget {
        let v1::AlertWebhook { url, secret, body } = written;
        if url.is_none() {
            self.report(code::ALERT, at, "A webhook needs an address: `url: {env: NAME}`.");
        }
        let url = url.and_then(|place| self.credential(place, &format!("{at}/url")));
        let secret = secret.and_then(|place| self.credential(place, &format!("{at}/secret")));
        let body = match body {
            Some(v1::AlertBody::Text) => AlertBody::Text,
            Some(v1::AlertBody::Json) | None => AlertBody::Json,
        };
        AlertTarget::Webhook { url: url.unwrap_or(SecretRef::Env(String::new())), secret, body }
    }
}

fn kind(written: v1::AlertOn) -> AlertKind {
    match written {
        v1::AlertOn::RunFailed => AlertKind::RunFailed,
        v1::AlertOn::ThresholdCrossed => AlertKind::ThresholdCrossed,
        v1::AlertOn::DocumentHeld => AlertKind::DocumentHeld,
        v1::AlertOn::OccurrenceMissed => AlertKind::OccurrenceMissed,
        v1::AlertOn::RemoteRefused => AlertKind::RemoteRefused,
    }
}
