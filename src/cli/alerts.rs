//! What the daemon tells people: its notes as alerts, to those that the fleet names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::error::CommandError;
use crate::alert::{LOG_TARGET, Receiver, end_all};
use crate::execute::Progress;
use crate::ledger::{RunCause, RunRecord};
use crate::model::alert::{Alert, AlertConfig, AlertKind};
use crate::model::fleet::Fleet;
use crate::model::id::Name;
use crate::model::outcome::RunStatus;
use crate::model::text::sanitize_line;
use crate::ops::watch::{Look, Note};
use crate::ops::{Environment, PassedOver, alerts};

/// The commands that alerts may run.
#[derive(Debug, Clone, Default, Args)]
pub struct AlertArgs {
    /// Let the alerts of the fleet run a command, by the name that they have for it. Several times, or with commas
    #[arg(long = "alert-command", value_name = "NAME=PATH", env = "FLEETFORM_ALERT_COMMANDS", value_delimiter = ',')]
    pub commands: Vec<String>,
}

impl AlertArgs {
    /// Returns the commands by name.
    ///
    /// # Errors
    /// `CommandError::Usage`: one of them is no name and path.
    pub fn open(&self) -> Result<BTreeMap<String, PathBuf>, CommandError> {
        let mut commands = BTreeMap::new();
        for text in self.commands.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
            let parts = text.split_once('=').filter(|(name, path)| Name::parse(name).is_ok() && !path.is_empty());
            let (name, path) = parts.ok_or_else(|| CommandError::Usage {
                what: format!("--alert-command `{}` is no name and path", sanitize_line(text)),
                help: "Write it as mail=/usr/local/bin/mail-alert.".to_string(),
            })?;
            commands.insert(name.to_string(), std::path::absolute(path)?);
        }
        Ok(commands)
    }
}

/// Hears the notes of a daemon, and tells those that its fleet names.
#[derive(Debug, Default)]
pub struct Alarm {
    commands: BTreeMap<String, PathBuf>,
    receivers: Vec<(AlertConfig, Receiver)>,
    /// Receivers that cannot be told, with the reason.
    faults: Vec<String>,
    /// The documents that were held before.
    held: BTreeSet<String>,
    commit: Option<String>,
    /// The address of the document because of which the newest commit is passed over, and why.
    passed_over: Option<(String, String)>,
    is_push_denied: bool,
}

impl Alarm {
    pub fn new(commands: BTreeMap<String, PathBuf>) -> Alarm {
        Alarm { commands, ..Alarm::default() }
    }

    /// Hears a note.
    pub fn note(&mut self, note: &Note<'_>, environment: &Environment, now: Timestamp) {
        match note {
            Note::TakenUp { fleet, commit, held, .. } => {
                self.take_up(fleet, environment);
                self.commit = Some(commit.to_string());
                let rows: BTreeMap<String, String> =
                    held.rows().map(|(document, hold)| (document.to_string(), hold.why.clone())).collect();
                for (document, why) in rows.iter().filter(|(document, _)| !self.held.contains(*document)) {
                    self.tell(AlertKind::DocumentHeld, document.clone(), why.clone(), now);
                }
                for document in self.held.iter().filter(|document| !rows.contains_key(*document)) {
                    let receivers = self.receivers.iter().map(|(_, receiver)| receiver);
                    receivers.for_each(|receiver| receiver.withdraw(AlertKind::DocumentHeld, document));
                }
                self.held = rows.into_keys().collect();
            }
            Note::Trouble { passed_over: Some(newest), .. } => self.pass_over(Some(newest), now),
            Note::Progress(Progress::RunFinished { record }) => self.ended(record, now),
            Note::Missed { job, run, reason } => {
                self.tell(AlertKind::OccurrenceMissed, format!("job/{job} run {run}"), reason.to_string(), now);
            }
            Note::Looked(Look { is_push_denied, push_failure, passed_over, .. }) => {
                if passed_over.is_none() {
                    self.pass_over(None, now);
                }
                if *is_push_denied && !self.is_push_denied {
                    let why = push_failure.unwrap_or("it does not say why").to_string();
                    self.tell(AlertKind::RemoteRefused, "the remote".to_string(), why, now);
                }
                self.is_push_denied = *is_push_denied;
            }
            Note::Started { .. }
            | Note::NoEvents { .. }
            | Note::Fetched { .. }
            | Note::Progress(_)
            | Note::Trouble { .. }
            | Note::Link { .. }
            | Note::Recovered
            | Note::Reconciling => {}
        }
    }

    /// Tells of the document because of which the newest commit is passed over; withdraws one that is mended.
    fn pass_over(&mut self, newest: Option<&PassedOver>, now: Timestamp) {
        let newest = newest.map(|one| (one.address(), one.hold.why.clone()));
        if newest == self.passed_over {
            return;
        }
        if let Some((document, _)) = &self.passed_over {
            let receivers = self.receivers.iter().map(|(_, receiver)| receiver);
            receivers.for_each(|receiver| receiver.withdraw(AlertKind::DocumentHeld, document));
        }
        if let Some((document, why)) = &newest {
            self.tell(AlertKind::DocumentHeld, document.clone(), why.clone(), now);
        }
        self.passed_over = newest;
    }

    /// Sends what waits.
    pub fn end(self) {
        end_all(self.receivers.into_iter().map(|(_, receiver)| receiver).collect());
    }

    fn ended(&mut self, record: &RunRecord, now: Timestamp) {
        let is_threshold = matches!(record.cause, Some(RunCause::Threshold(_)));
        let kind = match record.status {
            RunStatus::Canceled if is_threshold => AlertKind::ThresholdCrossed,
            RunStatus::Canceled | RunStatus::Failed => AlertKind::RunFailed,
            _ => return,
        };
        let reason = record.reason.clone().unwrap_or_else(|| record.status.as_str().to_string());
        self.tell(kind, format!("job/{} run {}", record.job, record.run), reason, now);
    }

    fn tell(&self, kind: AlertKind, address: String, reason: String, at: Timestamp) {
        let alert = Alert { kind, at, address, reason, commit: self.commit.clone() };
        for (_, receiver) in self.receivers.iter().filter(|(config, _)| config.on.contains(&kind)) {
            receiver.tell(alert.clone());
        }
    }

    /// Takes up whom a commit names: who is named as before goes on.
    fn take_up(&mut self, fleet: &Fleet, environment: &Environment) {
        let mut before = std::mem::take(&mut self.receivers);
        let mut faults = Vec::new();
        for config in &fleet.alerts {
            if let Some(at) = before.iter().position(|(known, _)| known == config) {
                self.receivers.push(before.swap_remove(at));
                continue;
            }
            let started = alerts::way(environment, config, &self.commands).and_then(|way| {
                let started = Receiver::start(fleet.name.as_str(), &config.name, way, config.every);
                started.map_err(|error| error.to_string())
            });
            match started {
                Ok(receiver) => self.receivers.push((config.clone(), receiver)),
                Err(why) => faults.push(format!("{}: {why}", config.name)),
            }
        }
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            tracing::error!(target: LOG_TARGET, fault = %sanitize_line(fault), "a receiver of alerts cannot be \
                used");
        }
        self.faults = faults;
    }
}
