//! The job of a schedule, made of its spec alone.

use serde_json::{Value, json};

use super::lower::{self, Draft};
use super::structure::Validators;
use super::v1::API_VERSION;
use super::yaml;
use crate::diag::FileId;
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::schedule::ScheduledJob;

/// Returns the job of [`ScheduledJob::spec`]; `None` when the text is no such spec. References are not checked.
pub fn scheduled_job(spec: &str) -> Option<ScheduledJob> {
    let spec: Value = serde_json::from_str(spec).ok()?;
    // The times of a schedule do not matter for its job.
    let document = json!({
        "apiVersion": API_VERSION,
        "kind": Kind::Schedule.as_str(),
        "metadata": {"name": "kept"},
        "spec": {"start": "2000-01-01T00:00:00", "timeZone": "UTC", "recurrence": "once", "job": spec},
    });
    let text = document.to_string();
    let (parsed, found) = yaml::parse(FileId::UNPLACED, &text);
    let root = parsed.documents.into_iter().next().filter(|_| !found.has_errors())?.root;
    let (parsed, found) = lower::lower(Kind::Schedule, root, "", &text, &mut Validators::default());
    match parsed.draft.filter(|_| !found.has_errors())? {
        Draft::Schedule { schedule, organization, .. } => {
            let last = organization.as_ref().and_then(|text| text.rsplit('/').next());
            Some(ScheduledJob { organization: last.and_then(|name| Name::parse(name).ok()), ..schedule.job })
        }
        Draft::Fleet(_)
        | Draft::Organization { .. }
        | Draft::DeviceTemplate { .. }
        | Draft::DeviceGroup { .. }
        | Draft::EdgeManifest
        | Draft::DeviceImport(_)
        | Draft::Job { .. }
        | Draft::Policy { .. }
        | Draft::Access(_) => None,
    }
}
