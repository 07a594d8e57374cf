//! What is to be done with a declared job, before devices are looked at. An ordered table: the first row that fits
//! wins.

use std::sync::Arc;

use crate::ledger::{Claim, Ledger, Past, RunRecord, Standing};
use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::Job;

/// What is to be done with a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Class<'a> {
    /// Never claimed and `suspend: true`: nothing until it is `false`.
    Suspended,
    /// Never claimed: resolve its target and run it.
    Run,
    /// Claimed with another spec: refused.
    Edited { record: Option<&'a RunRecord> },
    /// Open, and `suspend: true`: no new device starts.
    Stop,
    /// Open and already stopped, and `suspend: true`.
    Stopped,
    /// Open: go on with its pending devices.
    Continue,
    /// Claimed, not ended, and its journal is gone: close it without sending anything.
    Close,
    /// Ended.
    Done { record: &'a RunRecord },
    /// It says that it was renamed, and its run under the old name is under way.
    RenamedEarly { old: Name },
}

/// A declared job with what is to be done with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified<'a> {
    pub job: &'a Job,
    pub class: Class<'a>,
    /// The claim of its run.
    pub claim: Option<&'a Claim>,
    /// The claim of all of its runs that was made last.
    pub newest: Option<&'a Claim>,
}

/// Returns what is to be done with a job.
pub fn classify<'a>(job: &Job, ledger: &'a Ledger) -> Class<'a> {
    class_of(job, &ledger.standing(&job.name, &job.run), ledger)
}

/// Returns what is to be done with each declared job, sorted by name.
pub fn classify_all<'a>(declared: &'a Declared, ledger: &'a Ledger) -> Vec<Classified<'a>> {
    let pasts = ledger.pasts(declared.jobs.iter().map(|(name, job)| (name, &job.run)));
    let classified = |(job, past): (&'a Arc<Job>, Past<'a>)| {
        let claim = match past.standing {
            Standing::Unclaimed => None,
            Standing::Open(claim, _) | Standing::JournalLost(claim) | Standing::Ended(claim, _) => Some(claim),
        };
        Classified { job, class: class_of(job, &past.standing, ledger), claim, newest: past.newest }
    };
    declared.jobs.values().zip(pasts).map(classified).collect()
}

fn class_of<'a>(job: &Job, standing: &Standing<'a>, ledger: &'a Ledger) -> Class<'a> {
    let claim = match standing {
        Standing::Unclaimed if !job.previous_names.is_empty() => return classify_renamed(job, ledger),
        Standing::Unclaimed if job.suspend => return Class::Suspended,
        Standing::Unclaimed => return Class::Run,
        Standing::Open(claim, _) | Standing::JournalLost(claim) | Standing::Ended(claim, _) => *claim,
    };
    if claim.spec_digest != job.spec_digest {
        let record = match standing {
            Standing::Ended(_, record) => Some(*record),
            Standing::Unclaimed | Standing::Open(..) | Standing::JournalLost(_) => None,
        };
        return Class::Edited { record };
    }
    match standing {
        Standing::Unclaimed => Class::Run,
        Standing::Ended(_, record) => Class::Done { record },
        Standing::JournalLost(_) => Class::Close,
        Standing::Open(_, open) => match job.suspend {
            true if ledger.is_stop_published(&job.name, &job.run, open) => Class::Stopped,
            true => Class::Stop,
            false => Class::Continue,
        },
    }
}

/// Returns what is to be done with a job that was never claimed under its name and names older ones: what ended under
/// one of these has ended.
fn classify_renamed<'a>(job: &Job, ledger: &'a Ledger) -> Class<'a> {
    for old in &job.previous_names {
        match ledger.standing(old, &job.run) {
            Standing::Ended(claim, record) if claim.spec_digest == job.spec_digest => return Class::Done { record },
            Standing::Ended(_, record) => return Class::Edited { record: Some(record) },
            Standing::Open(..) | Standing::JournalLost(_) => return Class::RenamedEarly { old: old.clone() },
            Standing::Unclaimed => {}
        }
    }
    if job.suspend { Class::Suspended } else { Class::Run }
}
