//! What is gathered for the next message.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::alert::{Alert, AlertBody, AlertKind};
use crate::model::limits::{ALERT_REASON_CHARS_MAX, ALERTS_OF_MESSAGE_MAX};
use crate::model::text::{sanitize_line, shorten};

/// The version of a message; an incompatible change makes it 2.
const FORMAT_VERSION: u32 = 1;

/// Alerts that wait for the next message: the first ones whole, of the others their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gathered {
    alerts: Vec<Alert>,
    counts: BTreeMap<AlertKind, u64>,
    /// Alerts of messages that could not be delivered.
    lost: u64,
}

/// The content of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub fleet: String,
    pub at: Timestamp,
    gathered: Gathered,
}

impl Gathered {
    pub fn add(&mut self, alert: Alert) {
        *self.counts.entry(alert.kind).or_default() += 1;
        if self.alerts.len() < ALERTS_OF_MESSAGE_MAX {
            self.alerts.push(alert);
        }
    }

    /// Takes back what was told of something that is mended meanwhile; what was only counted stays counted.
    pub fn withdraw(&mut self, kind: AlertKind, address: &str) {
        let before = self.alerts.len();
        self.alerts.retain(|alert| alert.kind != kind || alert.address != address);
        let gone = (before - self.alerts.len()) as u64;
        if let Some(count) = self.counts.get_mut(&kind) {
            *count -= gone;
        }
        self.counts.retain(|_, count| *count > 0);
    }

    /// Notes that a message was not delivered: the next one says how much it missed.
    pub fn lose(&mut self, batch: &Batch) {
        self.lost += batch.count() + batch.gathered.lost;
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Takes all of it for a message.
    pub fn take(&mut self, fleet: &str, at: Timestamp) -> Batch {
        Batch { fleet: fleet.to_string(), at, gathered: std::mem::take(self) }
    }
}

impl Batch {
    /// Returns how many alerts it is about.
    pub fn count(&self) -> u64 {
        self.gathered.counts.values().sum()
    }

    /// Returns it in one line, such as `acme: 2 runs failed, 1 document is held`.
    pub fn summary(&self) -> String {
        let counts: Vec<String> = self.gathered.counts.iter().map(|(kind, count)| kind.counted(*count)).collect();
        format!("{}: {}", self.fleet, counts.join(", "))
    }

    /// Returns the body of its message.
    pub fn body(&self, form: AlertBody) -> Value {
        match form {
            AlertBody::Json => {
                let alerts: Vec<Value> = self.gathered.alerts.iter().map(|alert| safe(alert).to_json()).collect();
                let counts: BTreeMap<&str, u64> =
                    self.gathered.counts.iter().map(|(kind, count)| (kind.word(), *count)).collect();
                json!({
                    "format_version": FORMAT_VERSION,
                    "fleet": self.fleet,
                    "at": self.at.to_string(),
                    "summary": self.summary(),
                    "counts": counts,
                    "alerts": alerts,
                    "omitted": self.omitted(),
                    "lost": self.gathered.lost,
                })
            }
            AlertBody::Text => json!({"text": self.text()}),
        }
    }

    /// Returns it for people: a line for each, and one for those that are left out.
    fn text(&self) -> String {
        // In chats `<…>` is a link or calls everybody.
        let plain = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let mut text = plain(&self.summary());
        for alert in self.gathered.alerts.iter().map(safe) {
            text.push_str(&plain(&format!("\n{}: {}", alert.address, alert.reason)));
        }
        if self.omitted() > 0 {
            text.push_str(&format!("\n… {} more", self.omitted()));
        }
        if self.gathered.lost > 0 {
            text.push_str(&format!("\n{} earlier ones could not be delivered", self.gathered.lost));
        }
        text
    }

    fn omitted(&self) -> u64 {
        self.count() - self.gathered.alerts.len() as u64
    }
}

/// Returns an alert with texts that are one short line each: they come from devices, files and remotes.
fn safe(alert: &Alert) -> Alert {
    let line = |text: &str| {
        let line = sanitize_line(text).replace(['\n', '\r'], " ");
        shorten(&line, ALERT_REASON_CHARS_MAX).into_owned()
    };
    Alert { address: line(&alert.address), reason: line(&alert.reason), ..alert.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(kind: AlertKind, number: u32) -> Alert {
        let (at, address) = (Timestamp::UNIX_EPOCH, format!("job/dim run {number}"));
        Alert { kind, at, address, reason: "63 of 1,240\u{1b}[31m failed\nall".to_string(), commit: None }
    }

    #[test]
    fn a_thousand_failures_are_one_message() {
        let mut gathered = Gathered::default();
        (0..1_000).for_each(|number| gathered.add(alert(AlertKind::RunFailed, number)));
        gathered.add(alert(AlertKind::DocumentHeld, 1));
        let batch = gathered.take("acme", Timestamp::UNIX_EPOCH);
        assert!(gathered.is_empty());
        assert_eq!(batch.summary(), "acme: 1000 runs failed, 1 document is held");
        let body = batch.body(AlertBody::Json);
        assert_eq!(body["alerts"].as_array().unwrap().len(), ALERTS_OF_MESSAGE_MAX);
        assert_eq!(body["omitted"], 1_001 - ALERTS_OF_MESSAGE_MAX as u64);
        assert_eq!(body["counts"], json!({"run_failed": 1_000, "document_held": 1}));
        let reason = body["alerts"][0]["reason"].as_str().unwrap();
        assert!(!reason.contains('\u{1b}') && !reason.contains('\n'), "{reason}");
        gathered.add(alert(AlertKind::DocumentHeld, 7));
        gathered.withdraw(AlertKind::DocumentHeld, "job/dim run 7");
        assert!(gathered.is_empty());
        gathered.lose(&batch);
        gathered.add(alert(AlertKind::RunFailed, 1));
        let text = gathered.take("acme", Timestamp::UNIX_EPOCH).body(AlertBody::Text);
        assert!(text["text"].as_str().unwrap().ends_with("1001 earlier ones could not be delivered"), "{text}");
        let reason = "<!channel> <https://evil.example|Sign in> & more".to_string();
        gathered.add(Alert { reason, ..alert(AlertKind::DocumentHeld, 1) });
        let text = gathered.take("acme", Timestamp::UNIX_EPOCH).body(AlertBody::Text)["text"].to_string();
        assert!(!text.contains('<') && text.contains("&lt;!channel&gt;") && text.contains("&amp; more"), "{text}");
    }
}
