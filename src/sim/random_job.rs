//! Jobs as a seed draws them.

use super::{DeclaredJob, Kind, Random, Target};
use crate::model::delivery::{Amount, Threshold, ThresholdScope};

/// Returns a job of any kind that comes after no other.
pub(super) fn random_job(name: &str, devices: u64, random: &mut Random) -> DeclaredJob {
    let kinds = [
        Kind::Property,
        Kind::Acknowledged,
        Kind::Tags,
        Kind::Cloud,
        Kind::Command { idempotent: false },
        Kind::Command { idempotent: false },
        Kind::Command { idempotent: true },
        Kind::Command { idempotent: true },
    ];
    let mut job = DeclaredJob::new(name, *random.pick(&kinds));
    let amount = |random: &mut Random, most: u64| {
        if random.chance(50) {
            Amount::Count(random.between(1, most))
        } else {
            Amount::Percent(random.between(1, 60) as u8)
        }
    };
    job.target = match random.between(0, 3) {
        0 => Target::Even,
        1 => Target::Listed(random.between(1, devices)),
        _ => Target::All,
    };
    if random.chance(70) {
        job.batch_size = Some(amount(random, 12));
    }
    if random.chance(50) {
        let per = *random.pick(&[ThresholdScope::Job, ThresholdScope::Batch]);
        let failures = if random.chance(20) { Amount::Count(0) } else { amount(random, 6) };
        job.threshold = Some(Threshold { failures, per });
    }
    job.retries = random.between(0, 4).saturating_sub(2);
    job.waits_online = random.chance(30);
    job.max_execution = random.chance(15).then(|| random.between(1, 30));
    job
}
