//! Looks up many jobs at once.

use super::{Claim, Ledger, Standing};
use crate::model::id::{Name, RunToken};

/// What the ledger has about a job and one of its runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Past<'a> {
    pub standing: Standing<'a>,
    /// The claim of the job's run that was claimed last.
    pub newest: Option<&'a Claim>,
}

impl Ledger {
    /// Returns what the ledger has about each of some jobs and their runs. The jobs must be sorted, each one once. This
    /// walks over the claims once: to look 10,000 jobs up one by one takes ten times as long.
    pub fn pasts<'a>(&'a self, runs: impl Iterator<Item = (&'a Name, &'a RunToken)>) -> Vec<Past<'a>> {
        let (mut claims, mut records) = (self.claims.iter().peekable(), self.records.iter().peekable());
        let mut pasts = Vec::with_capacity(runs.size_hint().0);
        for (job, run) in runs {
            let (mut of_run, mut newest): (Option<&Claim>, Option<&Claim>) = (None, None);
            while claims.next_if(|((name, _), _)| name < job).is_some() {}
            while let Some(((_, token), claim)) = claims.next_if(|((name, _), _)| name == job) {
                of_run = of_run.or_else(|| (token == run).then_some(claim));
                if newest.is_none_or(|newest| (newest.claimed_at, &newest.run) <= (claim.claimed_at, &claim.run)) {
                    newest = Some(claim);
                }
            }
            while records.next_if(|((name, token), _)| (name, token) < (job, run)).is_some() {}
            let record = records.next_if(|((name, token), _)| (name, token) == (job, run)).map(|(_, record)| record);
            let standing = match (of_run, record) {
                (None, _) => Standing::Unclaimed,
                (Some(claim), Some(record)) if record.status.is_final() => Standing::Ended(claim, record),
                // Few runs are open, so this lookup is cheap.
                (Some(claim), _) => match self.open.get(&(job.clone(), run.clone())) {
                    Some(open) => Standing::Open(claim, open),
                    None => Standing::JournalLost(claim),
                },
            };
            pasts.push(Past { standing, newest });
        }
        pasts
    }

    /// Returns the claims of the runs that have not ended, by job and run.
    pub fn unended(&self) -> impl Iterator<Item = &Claim> {
        let mut ended = self.records.iter().filter(|(_, record)| record.status.is_final()).peekable();
        let mut has_ended = move |key: &(Name, RunToken)| {
            while ended.next_if(|(other, _)| *other < key).is_some() {}
            ended.next_if(|(other, _)| *other == key).is_some()
        };
        self.claims.iter().filter(move |(key, _)| !has_ended(key)).map(|(_, claim)| claim)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::{Published, RunRecord};
    use crate::model::digest::Digest;
    use crate::model::outcome::{Counts, RunStatus};

    fn key(job: usize, run: usize) -> (Name, RunToken) {
        (Name::parse(&format!("job-{job}")).unwrap(), RunToken::parse(&format!("r{run}")).unwrap())
    }

    /// Job `n` has as many claims as the number of ones in `n`, in an order that differs from that of their tokens;
    /// every third run has ended, every fifth was stopped.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for job in 0..40 {
            for run in (0..4).filter(|run| job & (1 << run) != 0) {
                let (name, token) = key(job, run);
                let claimed_at = jiff::Timestamp::from_second(((job + run) * 7 % 5) as i64).unwrap();
                let claim = Claim {
                    job: name.clone(),
                    run: token.clone(),
                    spec_digest: Digest::of_bytes(b""),
                    total: 0,
                    targets_digest: Digest::of_bytes(b""),
                    source_commit: String::new(),
                    plan_id: String::new(),
                    claimed_at,
                };
                let status = [RunStatus::Completed, RunStatus::Stopped][usize::from(job % 5 == 0)];
                let record = RunRecord {
                    job: name,
                    run: token,
                    status,
                    reason: None,
                    cause: None,
                    counts: Counts::default(),
                    started_at: None,
                    finished_at: None,
                    source_commit: String::new(),
                    plan_id: String::new(),
                    spec_digest: claim.spec_digest,
                    per_batch: Vec::new(),
                    published: Published::default(),
                    late: 0,
                };
                Arc::make_mut(&mut ledger.claims).insert(key(job, run), claim);
                if (job + run) % 3 == 0 || job % 5 == 0 {
                    Arc::make_mut(&mut ledger.records).insert(key(job, run), record);
                }
            }
        }
        ledger
    }

    #[test]
    fn many_are_looked_up_as_each_is() {
        let ledger = ledger();
        let mut runs: Vec<(Name, RunToken)> = (0..44).map(|job| key(job, job % 4)).collect();
        runs.sort();
        let pasts = ledger.pasts(runs.iter().map(|(job, run)| (job, run)));
        assert_eq!(pasts.len(), runs.len());
        for ((job, run), past) in runs.iter().zip(pasts) {
            assert_eq!(past.standing, ledger.standing(job, run), "{job} {run}");
            assert_eq!(past.newest, ledger.claims_of(job).last().copied(), "{job}");
        }
        let is_open = |claim: &&Claim| !matches!(ledger.standing(&claim.job, &claim.run), Standing::Ended(..));
        let open: Vec<&Claim> = ledger.claims.values().filter(is_open).collect();
        assert_eq!(ledger.unended().collect::<Vec<_>>(), open);
        assert!(open.len() > 5 && open.len() < ledger.claims.len());
    }
}
