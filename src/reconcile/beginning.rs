//! The beginning of a plan's work: imports, claims, stops, and runs that are closed.

use std::collections::{BTreeMap, BTreeSet};

use super::claims::{Claims, reopen};
use super::closing::Closing;
use super::imports::import;
use super::open_fleet::OpenFleet;
use super::stops::stop_running;
use super::{ReconcileError, Upstream};
use crate::execute::{CrashPoints, Progress, RunInput, Running};
use crate::model::id::{Name, RunToken};
use crate::plan::{ActionKind, PlannedRun, Subject};
use crate::prepare::{Planned, View};

/// Begins the work of a plan.
pub(super) struct Beginning<'a, 'w> {
    pub session: &'a mut OpenFleet<'w>,
    pub upstream: Option<&'a mut Upstream>,
    pub running: &'a mut Running,
    pub crash: &'a CrashPoints,
}

impl Beginning<'_, '_> {
    /// Does what needs no device (imports, claims, closing), and adds the runs that need devices to those that are
    /// executed.
    pub fn begin(
        mut self,
        planned: &Planned,
        left: &BTreeSet<Name>,
        observer: &mut dyn FnMut(&Progress),
    ) -> Result<(), ReconcileError> {
        let OpenFleet { view, done, head, .. } = &mut *self.session;
        let (running, crash) = (&mut *self.running, self.crash);
        let Planned { plan, staged, made_at: now, .. } = planned;
        let runs: BTreeMap<&Name, &PlannedRun> = plan.runs.iter().map(|run| (&run.job, run)).collect();
        let mut to_claim = Vec::new();
        for change in &plan.changes {
            let run = change.run.as_ref();
            match (&change.subject, change.action()) {
                (Subject::Import(name), ActionKind::Import) => {
                    if let Some(file) = staged.iter().find(|file| file.import == *name) {
                        let report = import(view, file, (head, &plan.id, *now), crash)?;
                        observer(&Progress::ImportFinished { import: name.clone(), report: report.clone() });
                        done.imports.push((name.clone(), report));
                    }
                }
                (Subject::Job(name), ActionKind::Run) => {
                    let run = runs.get(name).expect("a plan has the devices of each run");
                    to_claim.extend((!run.is_deferred).then_some(*run));
                }
                (Subject::Job(name), ActionKind::Stop) if running.has(name, run) => {
                    stop_running(name, head, running, observer);
                }
                (Subject::Job(name), ActionKind::Stop) => {
                    let is_declared = is_declared(view, name, run);
                    let mut closing = Closing { view, crash, now: *now };
                    if let Some(record) = closing.end_again(name, run)? {
                        observer(&Progress::RunFinished { record: record.clone() });
                        done.records.push(record);
                    } else if !is_declared {
                        let record = closing.stop_undeclared(name, run)?;
                        observer(&Progress::RunPaused { record: record.clone(), waiting: 0 });
                        done.records.push(record);
                    } else if !left.contains(name) {
                        running.add(reopen(view, name, true)?);
                    }
                }
                (Subject::Job(name), ActionKind::Continue) if !running.has(name, run) && !left.contains(name) => {
                    running.add(reopen(view, name, false)?);
                }
                (Subject::Job(name), ActionKind::Close) => {
                    let record = Closing { view, crash, now: *now }.close_lost(name, run)?;
                    observer(&Progress::RunFinished { record: record.clone() });
                    done.records.push(record);
                }
                _ => {}
            }
        }
        let upstream = self.upstream.as_deref_mut();
        let mut claims = Claims { view, upstream, crash, head, plan_id: &plan.id, now: *now };
        claims.wait_for_remote(&to_claim, !running.is_empty())?;
        claims.claim_all(&to_claim, &mut |input: RunInput| {
            let (job, run) = (input.claim.job.clone(), input.claim.run.clone());
            observer(&Progress::RunClaimed { job, run, total: input.claim.total });
            running.add(input);
        })
    }
}

/// Returns true when a run is declared.
fn is_declared(view: &View<'_>, name: &Name, run: Option<&RunToken>) -> bool {
    view.declared.jobs.get(name).is_some_and(|job| Some(&job.run) == run)
}
