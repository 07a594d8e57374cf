//! In which order jobs start, and by what else many of them are looked up.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::classify::Classified;
use crate::ledger::{Claim, Ledger};
use crate::model::digest::Digest;
use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::{Job, Selector};

/// When a job starts among others that may start: first what was claimed, in that order, then what has been declared
/// for longer, then by name. The last is the place of the job among all, which are sorted by name.
type Turn = (bool, Option<Timestamp>, std::cmp::Reverse<Option<u64>>, usize);

/// Returns jobs, which come sorted by name, so that each comes after those that it waits for, otherwise by their turn
/// (Kahn's algorithm). Cycles were refused with the files.
pub fn in_start_order<'c, 'a>(jobs: &'c [Classified<'a>], ages: &BTreeMap<Name, u64>) -> Vec<&'c Classified<'a>> {
    let turn = |at: usize| -> Turn {
        let Classified { job, claim, .. } = &jobs[at];
        let claimed_at = claim.map(|claim| claim.claimed_at);
        (claimed_at.is_none(), claimed_at, std::cmp::Reverse(ages.get(&job.name).copied()), at)
    };
    let place = |name: &Name| jobs.binary_search_by(|one| one.job.name.cmp(name)).ok();
    let mut waits = vec![0_usize; jobs.len()];
    let mut followers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, one) in jobs.iter().enumerate() {
        if one.job.after.is_empty() {
            continue;
        }
        let before: BTreeSet<usize> = one.job.after.iter().filter_map(place).collect();
        waits[at] = before.len();
        before.into_iter().for_each(|other| followers.entry(other).or_default().push(at));
    }
    if followers.is_empty() {
        let mut turns: Vec<Turn> = (0..jobs.len()).map(turn).collect();
        turns.sort_unstable();
        return turns.into_iter().map(|(.., at)| &jobs[at]).collect();
    }
    let mut free: BTreeSet<Turn> = (0..jobs.len()).filter(|at| waits[*at] == 0).map(turn).collect();
    let mut ordered = Vec::with_capacity(jobs.len());
    while let Some((.., at)) = free.pop_first() {
        ordered.push(&jobs[at]);
        for follower in followers.get(&at).into_iter().flatten() {
            waits[*follower] -= 1;
            if waits[*follower] == 0 {
                free.insert(turn(*follower));
            }
        }
    }
    assert_eq!(ordered.len(), jobs.len(), "jobs that wait for each other were refused with the files");
    ordered
}

/// What is asked of each new job, in the order of all of them. Most plans have none, and then nothing is put in order.
#[derive(Default)]
pub struct Indexes<'a> {
    claims: OnceCell<BTreeMap<Digest, Vec<&'a Claim>>>,
    groups: OnceCell<BTreeMap<&'a Name, Vec<&'a Job>>>,
}

impl<'a> Indexes<'a> {
    /// Returns the claims of a spec, by job and run.
    pub fn of_spec(&self, ledger: &'a Ledger, spec: &Digest) -> &[&'a Claim] {
        let claims = self.claims.get_or_init(|| {
            let mut by_spec: BTreeMap<Digest, Vec<&Claim>> = BTreeMap::new();
            ledger.claims.values().for_each(|claim| by_spec.entry(claim.spec_digest).or_default().push(claim));
            by_spec
        });
        claims.get(spec).map_or(&[], Vec::as_slice)
    }

    /// Returns the jobs that select from the same group as one does, by name; none when it selects otherwise.
    pub fn of_group(&self, declared: &'a Declared, job: &Job) -> &[&'a Job] {
        let Selector::Group(group) = &job.target.selector else { return &[] };
        let groups = self.groups.get_or_init(|| {
            let mut by_group: BTreeMap<&Name, Vec<&Job>> = BTreeMap::new();
            for job in declared.jobs.values() {
                if let Selector::Group(group) = &job.target.selector {
                    by_group.entry(group).or_default().push(job);
                }
            }
            by_group
        });
        groups.get(group).map_or(&[], Vec::as_slice)
    }
}
