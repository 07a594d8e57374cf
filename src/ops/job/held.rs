//! A job that cannot be used as it is declared.

use super::{Environment, OpsError, Workspace};
use crate::model::fleet::Hold;
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::prepare::{Files, OnError, TreeChoice};

/// A job or a schedule that is held.
#[derive(Debug, Clone)]
pub struct HeldJob {
    pub job: Name,
    /// The run token; `None` when it cannot be read, and for a schedule.
    pub run: Option<String>,
    pub hold: Hold,
}

/// Returns a job or schedule that is held, with a run token when that is given; `None` when there is no such one.
///
/// # Errors
/// The Fleet document is invalid, or the files cannot be read.
pub fn held(environment: &Environment, job: &str, run: Option<&str>) -> Result<Option<HeldJob>, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let held = files.held_within(&environment.sight, files.usable()?);
    let is_it = |kind: Kind, name: &Name| matches!(kind, Kind::Job | Kind::Schedule) && name.as_str() == job;
    let found = held.documents.into_iter().find(|((kind, name), _)| is_it(*kind, name));
    let Some(((_, job), hold)) = found else { return Ok(None) };
    let own = files.loaded.job(job.as_str()).map(|seen| seen.run.to_string());
    let is_meant = run.is_none_or(|run| own.as_deref() == Some(run));
    Ok(is_meant.then_some(HeldJob { job, run: own, hold }))
}
