//! Rounds until nothing is left that can go on now: what an apply and its rehearsal do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::reconciler::Reconciler;
use super::stops::Stops;
use super::terms::{RoundEvent, Terms};
use super::{ReconcileError, Seen};
use crate::execute::{Clock, Inbox, Progress};
use crate::model::id::Name;
use crate::plan::{ActionKind, Frozen, Plan, SavedPlan, Subject};
use crate::prepare::{Findings, Freshness, OnError, Planned, View, freshness};
use crate::repo::UpstreamError;

/// How often a running apply looks for stops that were committed meanwhile, and pushes what waits.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Shows a plan and its findings and returns whether to go on. Called once, for the first plan; of one that changes
/// nothing it is told too, and its answer counts for nothing.
pub type Agree<'a> = dyn FnMut(&Plan, &Findings) -> bool + 'a;

/// What is asked before the first plan is carried out.
pub struct Agreement<'a> {
    /// A saved plan: only its changes are made, and only when nothing about them has moved.
    pub saved: Option<&'a SavedPlan>,
    /// `None` once it was asked.
    pub agree: Option<&'a mut Agree<'a>>,
}

/// How the rounds ended.
#[derive(Debug, Default)]
pub struct Quiet {
    pub was_interrupted: bool,
    /// The first plan was not agreed to.
    pub was_declined: bool,
    /// There was nothing to do.
    pub was_empty: bool,
    /// What the first plan held: suspended or stopped jobs, and those that wait for others.
    pub held: u64,
    /// Why jobs that came after others could not be claimed: found when their targets were resolved.
    pub refused: Option<Findings>,
    /// What would have started if it were not frozen.
    pub frozen: BTreeMap<Subject, Frozen>,
}

impl Agreement<'_> {
    /// Returns whether to carry out a plan, and restricts it to the changes of the saved one.
    fn accept(&mut self, view: &View<'_>, planned: &mut Planned, quiet: &mut Quiet) -> Result<bool, ReconcileError> {
        if let Some(saved) = self.saved {
            if self.agree.is_some() {
                refuse_stale(saved, view, &planned.plan)?;
            }
            planned.plan = planned.plan.restricted(|change| saved.touches(&change.subject));
        }
        quiet.frozen.extend(planned.plan.frozen.clone());
        if let Some(agree) = self.agree.take() {
            let plan = &planned.plan;
            quiet.was_empty = !plan.has_changes();
            quiet.held = plan.changes.iter().filter(|change| change.action() == ActionKind::Hold).count() as u64;
            if !agree(plan, &view.findings(planned.diagnostics.clone())) || quiet.was_empty {
                quiet.was_declined = !quiet.was_empty;
                return Ok(false);
            }
        }
        if let Some(saved) = self.saved {
            // What is done in the name of a saved plan bears its id: it is how a second use is seen.
            planned.plan.id = saved.id().to_string();
        }
        Ok(true)
    }
}

/// Refuses a saved plan that was applied before, or whose changes the plan of now does not have.
fn refuse_stale(saved: &SavedPlan, view: &View<'_>, plan: &Plan) -> Result<(), ReconcileError> {
    let help = "Make a new plan with `fleetform plan --out FILE`.".to_string();
    let what = match freshness(saved, view, plan)? {
        Freshness::Fresh => return Ok(()),
        Freshness::Foreign(what) => return Err(ReconcileError::Unusable { what, help }),
        Freshness::Used(how) => format!("the saved plan was applied before: {how}"),
        Freshness::Stale(clauses) => {
            format!("the fleet has changed since the plan was saved, at {}", clauses.join(", and at "))
        }
    };
    Err(ReconcileError::Held { what, help })
}

/// Makes rounds and executes what runs, until nothing is left that can go on now.
pub fn until_quiet<'w>(
    reconciler: &mut Reconciler<'w>,
    seen: &Seen<'w>,
    mut stops: Option<Stops>,
    agreement: &mut Agreement<'_>,
    (clock, inbox): (&dyn Clock, &Inbox),
    observer: &mut dyn FnMut(&Progress),
) -> Result<Quiet, ReconcileError> {
    let mut quiet = Quiet::default();
    // A run that was left (it waits, it was stopped or interrupted) is not taken up again by the same apply.
    let mut left: BTreeSet<Name> = BTreeSet::new();
    let (mut is_due, mut is_postponed, mut has_deferred) = (true, false, false);
    loop {
        if is_due {
            let is_first = agreement.agree.is_some();
            let saved = agreement.saved.filter(|_| is_first);
            let accept = &mut |view: &View<'_>, planned: &mut Planned| agreement.accept(view, planned, &mut quiet);
            let mut terms = Terms { on_error: OnError::Refuse, starts_occurrences: false, left: &left, accept };
            let mut tell = |event: &RoundEvent<'_>| {
                if let RoundEvent::Progress(progress) = event {
                    observer(progress);
                }
            };
            let round = reconciler.round(seen, &mut terms, clock.now(), &mut tell).and_then(|round| {
                // Nothing that goes on was executed yet.
                if let Some(saved) = saved.filter(|_| round.is_begun) {
                    reconciler.note_plan(saved.id(), clock.now())?;
                }
                Ok(round)
            });
            match round {
                Ok(round) if !round.is_begun => return Ok(quiet),
                Ok(round) => (is_postponed, has_deferred) = (false, round.has_deferred),
                // What runs is not held up by what cannot be claimed.
                Err(ReconcileError::Invalid(findings)) if !is_first => {
                    (quiet.refused, has_deferred, is_postponed) = (Some(*findings), false, false);
                }
                // What runs goes on. When all of it has ended, the next try says whether the remote is still away.
                Err(ReconcileError::Upstream(
                    error @ (UpstreamError::Unanswered { .. } | UpstreamError::Remote(_)),
                )) if !reconciler.running.is_empty() => {
                    (is_postponed, has_deferred) = (matches!(error, UpstreamError::Unanswered { .. }), true);
                }
                Err(error) => {
                    reconciler.abandon(clock, inbox, observer);
                    return Err(error);
                }
            }
            if reconciler.running.is_empty() {
                return Ok(quiet);
            }
        }
        let next_look = clock.now().checked_add(LOOK_INTERVAL).unwrap_or(Timestamp::MAX);
        let until = if stops.is_some() || reconciler.upstream.is_some() { next_look } else { Timestamp::MAX };
        let ended = reconciler.run_until(until, clock, inbox, observer)?;
        left.extend(ended.iter().filter(|record| !record.status.is_final()).map(|record| record.job.clone()));
        is_due = reconciler.running.is_empty() || has_deferred && !ended.is_empty();
        is_due |= is_postponed && !reconciler.is_awaited();
        if inbox.is_interrupted() {
            if reconciler.running.is_idle() {
                quiet.was_interrupted = true;
                return Ok(quiet);
            }
            is_due = false;
        } else if let Some(stops) = &mut stops {
            reconciler.look_for_stops(stops, observer);
        }
    }
}
