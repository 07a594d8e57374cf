//! What must hold of every finished plan, whatever went in.

use std::collections::BTreeSet;

use super::{ActionKind, Plan, PlannedChange};

/// Asserts the invariants of a plan.
///
/// # Panics
/// When one is broken: an address twice, runs that do not match the changes, counts that do not add up. A bug of the
/// planner.
pub fn check(plan: &Plan) {
    let address = |change: &'_ PlannedChange| (change.subject.clone(), change.run.clone());
    let (done, others): (Vec<_>, Vec<_>) = plan.changes.iter().partition(|one| one.action() == ActionKind::Done);
    let mut addresses = BTreeSet::new();
    for change in &others {
        let is_new = addresses.insert(address(change));
        assert!(is_new, "an address is in a plan once for each run: {}", change.subject);
    }
    // Most of a large plan is done; those lines come out of maps by name, and are compared with the others only.
    if !addresses.is_empty() {
        let twice = done.iter().find(|change| addresses.contains(&address(change)));
        assert!(twice.is_none(), "what is done is not to be done too: {twice:?}");
    }
    for change in others {
        if let Some(targets) = change.targets() {
            let apart = targets.unchanged + targets.blocked + targets.mismatches();
            assert!(apart <= targets.count, "no device is counted twice");
            let most = targets.count - apart;
            assert!(change.diff().iter().all(|line| line.devices <= most), "a path changes on the devices that change");
        }
        if let Some(import) = change.import() {
            let sum = import.new + import.updated + import.unchanged + import.deleted + import.rejected;
            assert_eq!(sum, import.rows, "every row of an import is in one place");
        }
    }
    let planned: Vec<_> = plan.changes.iter().filter(|change| change.action() == ActionKind::Run).collect();
    assert_eq!(planned.len(), plan.runs.len(), "each run to start has its devices");
    for (change, run) in planned.into_iter().zip(&plan.runs) {
        assert_eq!(change.subject, super::Subject::Job(run.job.clone()), "runs are in the order of their changes");
        let count = change.targets().map(|targets| targets.count);
        assert_eq!(count, Some(run.ids.len() as u64), "the number of devices is that of the list");
    }
}
