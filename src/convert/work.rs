//! Jobs and schedules out of what another system does in one job: ours have exactly one action each.

use serde_json::{Map, Value, json};

use super::document::{DocumentKind, Draft};
use super::fields::Notes;
use super::names::Names;
use crate::model::id::Name;

/// One action, which becomes a job or schedule.
#[derive(Debug)]
pub struct Part {
    /// The suffix that distinguishes its name from that of the first part, such as `tags`.
    pub suffix: &'static str,
    /// `spec.action`.
    pub action: Value,
    /// What it adds to the delivery of all parts.
    pub delivery: Map<String, Value>,
    pub notes: Notes,
}

/// Everything that a job of another system says, but its actions.
#[derive(Debug)]
pub struct JobDraft<'a> {
    /// What the name is made of.
    pub base: &'a str,
    pub description: String,
    pub labels: Map<String, Value>,
    pub organization: Option<Name>,
    /// `spec.target`.
    pub target: Value,
    /// `spec.delivery`.
    pub delivery: Map<String, Value>,
    pub is_suspended: bool,
    /// The spec of a schedule without `job`; a job when `None`.
    pub schedule: Option<Map<String, Value>>,
    /// They stand with the first document.
    pub notes: Notes,
}

impl JobDraft<'_> {
    /// Returns a document for each part: jobs each after the one before, or schedules.
    pub fn documents(self, parts: Vec<Part>, names: &mut Names) -> Vec<Draft> {
        let kind = if self.schedule.is_some() { DocumentKind::Schedule } else { DocumentKind::Job };
        let count = parts.len();
        let mut drafts: Vec<Draft> = Vec::new();
        for (at, part) in parts.into_iter().enumerate() {
            let name = names.claim(kind, self.base, (at > 0).then_some(part.suffix));
            let before = drafts.last().map(|draft| draft.name.clone());
            let mut notes = if at == 0 { self.notes.clone() } else { Notes::new() };
            notes.extend(part.notes);
            if count > 1 {
                notes.push(self.note_of_split(at, count, before.as_ref()));
            }
            let mut job = json!({"target": self.target, "action": part.action});
            if let Some(organization) = &self.organization {
                job["organization"] = Value::from(organization.as_str());
            }
            let mut delivery = self.delivery.clone();
            delivery.extend(part.delivery);
            if !delivery.is_empty() {
                job["delivery"] = Value::Object(delivery);
            }
            if let Some(before) = before.filter(|_| self.schedule.is_none()) {
                job["after"] = json!([before.as_str()]);
            }
            let mut spec = match &self.schedule {
                Some(schedule) => {
                    let mut spec = Value::Object(schedule.clone());
                    spec["job"] = job;
                    spec
                }
                None => job,
            };
            if self.is_suspended {
                spec["suspend"] = Value::Bool(true);
            }
            let (description, labels) = (self.description.clone(), self.labels.clone());
            drafts.push(Draft { kind, name, description, labels, spec, notes, files: Vec::new() });
        }
        drafts
    }

    fn note_of_split(&self, at: usize, count: usize, before: Option<&Name>) -> String {
        let split = format!("A job here has exactly one action, so it became {count}; this is number {}.", at + 1);
        match (&self.schedule, before) {
            (Some(_), _) => format!("{split} Their occurrences start at the same time, in no order."),
            (None, Some(before)) if self.is_suspended => {
                format!("{split} It starts when `{before}` has completed, and not when that is canceled or fails.")
            }
            (None, Some(before)) => format!(
                "{split} It starts when `{before}` has completed, and not when that is canceled or fails. \
                 `adopt --mark-done` of that job alone would start this one: mark both."
            ),
            (None, None) => split,
        }
    }
}
