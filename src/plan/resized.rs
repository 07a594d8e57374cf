//! A group that is not as large as when a job last ran on it.

use super::refusal::Notice;
use crate::ledger::{Claim, Ledger, RunCause};
use crate::model::job::{Job, Selector};

/// Groups below this are left alone: two devices of five are no news.
const GROUP_SIZE_MIN: u64 = 10;
/// A change by more than one in so many is told.
const SHARE_TOLD: u64 = 5;

/// Returns what is to be known about the size of a job's group, of which `of_group` are the jobs; nothing when the
/// author has said what to expect.
pub fn resized(job: &Job, count: u64, ledger: &Ledger, of_group: &[&Job]) -> Option<Notice> {
    let Selector::Group(group) = &job.target.selector else { return None };
    if job.target.expect.is_some() {
        return None;
    }
    let last = last_claim(job, ledger, of_group)?;
    let before = last.total;
    let is_told = before.max(count) >= GROUP_SIZE_MIN && before.abs_diff(count).saturating_mul(SHARE_TOLD) > before;
    is_told.then(|| Notice::GroupResized {
        job: job.name.clone(),
        group: group.clone(),
        last: (last.job.clone(), last.run.clone()),
        before,
        count,
    })
}

/// Returns the newest claim of the job, or of another one that selects from the group alike.
fn last_claim<'a>(job: &Job, ledger: &'a Ledger, of_group: &[&Job]) -> Option<&'a Claim> {
    let own = ledger.claims_of(&job.name).into_iter().filter(|claim| claim.run != job.run);
    let is_alike = |other: &&&Job| other.name != job.name && other.organization == job.organization;
    let others = of_group.iter().filter(is_alike);
    let claimed = others.filter_map(|other| ledger.claims.get(&(other.name.clone(), other.run.clone())));
    // What was marked as done ran on no device.
    let is_adopted = |claim: &&Claim| {
        let record = ledger.records.get(&(claim.job.clone(), claim.run.clone()));
        record.is_some_and(|record| record.cause == Some(RunCause::Adopted))
    };
    own.chain(claimed).filter(|claim| !is_adopted(claim)).max_by_key(|claim| (claim.claimed_at, &claim.job, &claim.run))
}
