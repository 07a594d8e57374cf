//! The planner: one pass over imports, one over jobs in the order in which they start.

use std::collections::{BTreeMap, BTreeSet};

use super::change::{ActionKind, Batches, PlannedChange, RunStep, Step, Subject, Targets};
use super::classify::{Class, Classified};
use super::codec::plan_id_of;
use super::conflict::{conflicts, spared};
use super::diff::diff;
use super::input::{Frozen, PlanInput};
use super::order::{Indexes, in_start_order};
use super::refusal::{Notice, Refusal};
use super::resized::resized;
use super::upcoming::plan_schedules;
use super::{Plan, PlannedRun};
use crate::ledger::{Claim, Ledger, RunCause, RunRecord, Standing};
use crate::model::digest::Digest;
use crate::model::fleet::{Declared, HeldDocuments};
use crate::model::id::{Name, RunToken};
use crate::model::job::{Action, Job};
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::marks::Marks;
use crate::model::observation::{Mismatch, Observation};
use crate::model::outcome::{Counts, RunStatus};

/// Ids of a target that a plan carries for people.
const SAMPLE_IDS: usize = 3;

/// Why a run is closed of which the journal is gone.
const JOURNAL_LOST: &str = "this registry has no journal of it: closed as failed, nothing is sent";

/// Returns the plan of an input.
///
/// # Panics
/// When the input lacks the observation of a job that is to run: a bug of its builder.
pub fn plan(input: PlanInput<'_>) -> Plan {
    let (source, base) = (input.source.clone(), input.base.clone());
    let mut plan = Plan { source, base, ..Plan::empty(input.observed_at) };
    plan_imports(&input, &mut plan);
    note_history(&input, &mut plan);
    let PlanInput {
        declared,
        classified,
        ledger,
        mut observations,
        mut mismatching,
        ages,
        pending,
        scheduled,
        at_work,
        held,
        gone,
        frozen,
        ..
    } = input;
    let (mut progress, mut unwritten) = (BTreeMap::new(), BTreeMap::new());
    // Then a template that keeps a device out now may be another one when its batch starts.
    let may_move = classified.iter().any(|one| {
        matches!(one.job.action, Action::DeviceTemplate(_)) && matches!(one.class, Class::Run | Class::Continue)
    });
    let awaited: BTreeSet<&Name> = declared.jobs.values().flat_map(|job| &job.after).collect();
    let indexes = Indexes::default();
    for one in in_start_order(&classified, &ages) {
        let job = one.job;
        let wait = wait_of(job, &progress);
        let seen = observations.remove(&job.name).map(|observation| ObservedJob {
            observation,
            mismatching: mismatching.remove(&job.name).unwrap_or_default(),
            manifest: declared.manifest_digest(&job.action),
            marks: declared.marks(&job.action),
        });
        if let Some(seen) = &seen {
            unwritten.insert(job.name.clone(), spared(&seen.observation, may_move));
        }
        let frozen = frozen.get(&Subject::Job(job.name.clone())).filter(|_| one.class == Class::Run);
        match frozen {
            Some(frozen) => hold_frozen(Subject::Job(job.name.clone()), Some(job.run.clone()), frozen, &mut plan),
            None => plan_job(one, (declared, held, ledger, &indexes), seen, &wait, &mut plan),
        }
        if awaited.contains(&job.name) {
            let action = plan.changes.last().map(PlannedChange::action);
            progress.insert(
                &job.name,
                PredecessorState { class: &one.class, is_under_way: action.is_some_and(ActionKind::goes_on) },
            );
        }
    }
    plan_held(declared, held, &mut plan);
    plan_undeclared(declared, held, ledger, &mut plan);
    plan_gone(&gone, ledger, &mut plan);
    if let Some(at_work) = at_work {
        // A journal that is not here is with the process that works with the other registry.
        for change in plan.changes.iter_mut().filter(|change| change.action() == ActionKind::Close) {
            change.step = Step::Hold;
            change.reason = format!("under way with another registry: {at_work}");
        }
    }
    plan_schedules(declared, &scheduled, &mut plan);
    plan.refusals.extend(conflicts(declared, &plan.runs, &unwritten, &pending).into_iter().map(Refusal::Conflict));
    plan.changes.sort_by_key(|change| rank(change.action()));
    plan.id = plan_id_of(&plan);
    plan
}

/// Notes that the registry or the results branch is not the one that the history was made with.
fn note_history(input: &PlanInput<'_>, plan: &mut Plan) {
    let is_new = input.ledger.applied_imports.is_empty() && input.imports.values().any(|found| found.counts.new > 0);
    // What was marked as done wrote nothing.
    let is_adopted = |record: &RunRecord| record.cause == Some(RunCause::Adopted);
    let adopted = input.ledger.records.values().filter(|record| is_adopted(record)).count();
    let runs = input.ledger.claims.len().saturating_sub(adopted) as u64;
    if is_new && runs > 0 {
        plan.notices.push(Notice::NewRegistry { runs });
    }
    if let Some(branch) = &input.ledger.gone_branch {
        let runs = input.ledger.claims.len() as u64;
        plan.notices.push(Notice::BranchGone { branch: branch.clone(), runs });
    }
}

/// What is shown first; the order within a rank stays.
fn rank(action: ActionKind) -> u8 {
    match action {
        ActionKind::Import => 0,
        ActionKind::Close => 1,
        ActionKind::Stop => 2,
        ActionKind::Continue => 3,
        ActionKind::Run => 4,
        ActionKind::Schedule => 5,
        ActionKind::Hold => 6,
        ActionKind::Gone => 7,
        ActionKind::Done => 8,
    }
}

fn plan_imports(input: &PlanInput<'_>, plan: &mut Plan) {
    for (name, declared) in &input.declared.imports {
        let subject = Subject::Import(name.clone());
        if input.unusable.contains(name) {
            plan.changes.push(PlannedChange::new(subject, Step::Hold, "its file cannot be used"));
            continue;
        }
        if let Some(frozen) = input.frozen.get(&subject) {
            hold_frozen(subject, None, frozen, plan);
            continue;
        }
        let Some(observed) = input.imports.get(name) else {
            plan.changes.push(PlannedChange::new(subject, Step::Done, "the file is imported"));
            continue;
        };
        let counts = observed.counts;
        let step = Step::Import { counts, declared_digest: observed.digest };
        let mut change = PlannedChange::new(subject, step, "the file or its options changed");
        if !input.ledger.applied_imports.contains_key(name) {
            change.reason = "the registry has not imported it yet".to_string();
        }
        plan.changes.push(change);
        let (rows, rejected) = (counts.rows, counts.rejected);
        let (devices, removed) = (counts.devices(), counts.removed + counts.deleted);
        if !declared.expect.allows(devices, removed, rejected) {
            let (import, expect) = (name.clone(), declared.expect);
            plan.refusals.push(Refusal::UnexpectedImport { import, devices, removed, rejected, expect });
        }
        if rows == rejected {
            plan.refusals.push(Refusal::NothingImported { import: name.clone(), rows, rejected });
        } else if rejected > 0 {
            plan.notices.push(Notice::RejectedRows { import: name.clone(), rejected, rows });
        }
    }
}

/// Plans what would start if it were not frozen.
fn hold_frozen(subject: Subject, run: Option<RunToken>, frozen: &Frozen, plan: &mut Plan) {
    let mut change = PlannedChange::new(subject.clone(), Step::Hold, &*frozen.why);
    change.run = run;
    plan.changes.push(change);
    plan.frozen.insert(subject, frozen.clone());
}

/// Where a job is that others may wait for.
struct PredecessorState<'a> {
    class: &'a Class<'a>,
    /// This plan runs it or goes on with it.
    is_under_way: bool,
}

/// What a job waits for.
enum Wait {
    Nothing,
    /// For jobs of this plan.
    Deferred(String),
    /// For what this plan does not bring about.
    Held(String),
}

/// Returns what a job waits for; the jobs before it in start order have been planned.
fn wait_of(job: &Job, progress: &BTreeMap<&Name, PredecessorState<'_>>) -> Wait {
    let mut deferred = Vec::new();
    for name in &job.after {
        let Some(other) = progress.get(name) else {
            return Wait::Held(format!("waits for {name}, which is not declared"));
        };
        match other.class {
            Class::Done { record } if record.status == RunStatus::Completed => {}
            Class::Done { record } => {
                return Wait::Held(format!("waits for {name}, which was {}", record.status.as_str()));
            }
            _ if other.is_under_way => deferred.push(name.as_str()),
            _ => return Wait::Held(format!("waits for {name}, which is held")),
        }
    }
    if deferred.is_empty() { Wait::Nothing } else { Wait::Deferred(deferred.join(", ")) }
}

/// What was found out about a job that is to run.
struct ObservedJob {
    observation: Observation,
    mismatching: BTreeSet<Name>,
    /// The digest of the edge manifest that the job assigns.
    manifest: Option<Digest>,
    /// The marks of the components that the job writes to.
    marks: Marks,
}

/// What a job is judged by.
type JobContext<'k, 'a> = (&'a Declared, &'a HeldDocuments, &'a Ledger, &'k Indexes<'a>);

fn plan_job(one: &Classified<'_>, known: JobContext<'_, '_>, seen: Option<ObservedJob>, wait: &Wait, plan: &mut Plan) {
    let Classified { job, class, newest, .. } = one;
    let (declared, _, ledger, indexes) = known;
    let subject = Subject::Job(job.name.clone());
    let mut change = match class {
        Class::Run if let Some(claim) = renamed_from(job, known) => {
            let (old, run) = (claim.job.clone(), claim.run.clone());
            let reason = format!("looks like {old}, renamed");
            plan.refusals.push(Refusal::Renamed { job: job.name.clone(), old, run });
            PlannedChange::new(subject, Step::Hold, reason)
        }
        Class::Run if let Some(previous) = unknown_name(job, known) => {
            plan.refusals.push(Refusal::UnknownName { job: job.name.clone(), previous: previous.clone() });
            PlannedChange::new(subject, Step::Hold, format!("was named {previous}, of which nothing is known"))
        }
        Class::RenamedEarly { old } => {
            let (name, old, run) = (job.name.clone(), old.clone(), job.run.clone());
            plan.refusals.push(Refusal::RenamedEarly { job: name, old, run });
            PlannedChange::new(subject, Step::Hold, "renamed while its run was under way")
        }
        Class::Run => {
            let seen = seen.expect("a job that is to run has been observed");
            match wait {
                Wait::Held(reason) => PlannedChange::new(subject, Step::Hold, reason.clone()),
                Wait::Nothing => {
                    let count = seen.observation.ids.len() as u64;
                    plan.notices.extend(resized(job, count, ledger, indexes.of_group(declared, job)));
                    plan_run(job, seen, "never claimed", false, plan)
                }
                Wait::Deferred(names) => {
                    plan_run(job, seen, &format!("after {names}; its target is resolved then"), true, plan)
                }
            }
        }
        Class::Suspended => PlannedChange::new(subject, Step::Hold, "suspended before it was claimed"),
        Class::Stopped => PlannedChange::new(subject, Step::Hold, format!("stopped, {}", progress(job, ledger))),
        Class::Stop => PlannedChange::new(subject, Step::Stop, progress(job, ledger)),
        Class::Continue => PlannedChange::new(subject, Step::Continue, progress(job, ledger)),
        Class::Close => PlannedChange::new(subject, Step::Close, JOURNAL_LOST),
        Class::Done { record } => PlannedChange::new(subject, Step::Done, ended(record)),
        Class::Edited { record } => {
            let (name, run) = (job.name.clone(), job.run.clone());
            plan.refusals.push(Refusal::EditedRun { job: name, run, record: record.cloned().map(Box::new) });
            PlannedChange::new(subject, Step::Hold, "edited after its run was claimed")
        }
    };
    change.run = Some(job.run.clone());
    if let Some(newest) = newest
        && newest.run != job.run
        && change.action() == ActionKind::Done
    {
        let notice = Notice::OldToken { job: job.name.clone(), run: job.run.clone(), newest: newest.run.clone() };
        plan.notices.push(notice);
    }
    plan.changes.push(change);
}

/// Returns the claim of a job that is gone and had the very spec of this one, which was never claimed. A copy beside
/// the original is a new job.
fn renamed_from<'a>(job: &Job, (declared, held, ledger, indexes): JobContext<'_, 'a>) -> Option<&'a Claim> {
    // A schedule has another name when it is another one; what it did under the old one was at other times.
    if declared.schedules.values().any(|schedule| schedule.owns(&job.name, &job.run)) {
        return None;
    }
    let is_old = |claim: &&Claim| {
        claim.job != job.name
            && !declared.has_runs_named(claim.job.as_str())
            && !held.may_have(Kind::Job, &claim.job)
            && !job.previous_names.contains(&claim.job)
    };
    indexes.of_spec(ledger, &job.spec_digest).iter().copied().find(is_old)
}

/// Returns the former name of a job of which nothing is known: it was never claimed, and it is not declared. What ran
/// under a name before that one would run again.
fn unknown_name<'j>(job: &'j Job, (declared, held, ledger, _): JobContext<'_, '_>) -> Option<&'j Name> {
    let is_known =
        |name: &Name| ledger.knows(name) || declared.has_runs_named(name.as_str()) || held.may_have(Kind::Job, name);
    // A schedule may have had no occurrence under its former name.
    let is_occurrence = declared.schedules.values().any(|schedule| schedule.owns(&job.name, &job.run));
    let first = job.previous_names.first().filter(|_| !is_occurrence)?;
    (!job.previous_names.iter().any(is_known)).then_some(first)
}

/// Shows the jobs, imports and schedules that cannot be used now. A schedule that is declared all the same is shown
/// with its times: what is held of it is the occurrence that is due.
fn plan_held(declared: &Declared, held: &HeldDocuments, plan: &mut Plan) {
    let jobs = held.of_kind(Kind::Job).map(|(name, why)| (Subject::Job(name.clone()), why));
    let imports = held.of_kind(Kind::DeviceImport).map(|(name, why)| (Subject::Import(name.clone()), why));
    let schedules = held.of_kind(Kind::Schedule).filter(|(name, _)| !declared.schedules.contains_key(*name));
    let schedules = schedules.map(|(name, why)| (Subject::Schedule(name.clone()), why));
    plan.changes.extend(
        jobs.chain(imports).chain(schedules).map(|(subject, why)| PlannedChange::new(subject, Step::Hold, why)),
    );
}

/// Plans the runs that have not ended and that nothing declares any more: their file is gone, or has another token.
/// They are stopped, what is done stays; those whose journal was lost are closed as they would be if they were
/// declared. An occurrence of a schedule is declared for as long as the schedule is.
/// Tells what has left the files after it ran. What is still open is told as it is stopped.
fn plan_gone(gone: &[Subject], ledger: &Ledger, plan: &mut Plan) {
    for subject in gone {
        let mut change = PlannedChange::new(subject.clone(), Step::Gone, "what it imported stays");
        if let Subject::Schedule(_) = subject {
            change.reason = "no further occurrence; what ran stays".to_string();
        }
        if let Subject::Job(name) = subject {
            let Some(claim) = ledger.claims_of(name).pop() else { continue };
            let Standing::Ended(_, record) = ledger.standing(name, &claim.run) else { continue };
            let Counts { total, completed, .. } = record.counts;
            let status = record.status.as_str();
            change.reason = format!("{status}: {completed} of {total} devices completed; what it wrote stays");
            change.run = Some(claim.run.clone());
        }
        plan.changes.push(change);
    }
}

fn plan_undeclared(declared: &Declared, held: &HeldDocuments, ledger: &Ledger, plan: &mut Plan) {
    for claim in ledger.unended() {
        let (name, run) = (&claim.job, &claim.run);
        if held.may_have(Kind::Job, name) || held.why(Kind::Schedule, name).is_some() {
            continue;
        }
        let is_declared = declared.jobs.get(name).is_some_and(|job| job.run == *run);
        let is_renamed = declared.jobs.values().any(|job| job.previous_names.contains(name) && job.run == *run);
        if is_declared || is_renamed {
            continue;
        }
        let is_occurrence = declared.schedules.values().any(|schedule| schedule.owns(name, run));
        let subject = Subject::Job(name.clone());
        let mut change = match ledger.standing(name, run) {
            Standing::Unclaimed | Standing::Ended(..) => continue,
            Standing::JournalLost(_) if is_occurrence => PlannedChange::new(subject, Step::Close, JOURNAL_LOST),
            Standing::JournalLost(_) => {
                PlannedChange::new(subject, Step::Close, format!("not declared any more; {JOURNAL_LOST}"))
            }
            Standing::Open(_, open) if is_occurrence => {
                let done = open.completed + open.failed;
                let reason = format!("an occurrence that is under way, {done} of {} done", open.total);
                PlannedChange::new(subject, Step::Hold, reason)
            }
            Standing::Open(_, open) => {
                let is_stopped = ledger.is_stop_published(name, run, open);
                let step = if is_stopped { Step::Hold } else { Step::Stop };
                let done = open.completed + open.failed;
                let pending = open.total - done;
                let reason = format!("not declared any more; {done} of {} done, {pending} stay pending", open.total);
                PlannedChange::new(subject, step, reason)
            }
        };
        change.run = Some(run.clone());
        plan.changes.push(change);
    }
}

fn plan_run(job: &Job, seen: ObservedJob, reason: &str, is_deferred: bool, plan: &mut Plan) -> PlannedChange {
    let ObservedJob { observation, mismatching, manifest, marks } = seen;
    let found = diff(job, manifest, &marks, &observation);
    let count = observation.ids.len() as u64;
    let targets_digest = Digest::of_texts(observation.ids.iter());
    let sizes = job.delivery.batch_sizes(count);
    let targets = Targets {
        count,
        digest: targets_digest,
        sample: observation.ids.iter().take(SAMPLE_IDS).map(str::to_string).collect(),
        unchanged: found.unchanged,
        blocked: found.blocked,
        mismatched: found.mismatched.clone(),
        missing: observation.missing.len() as u64,
    };
    let step = Step::Run(Box::new(RunStep {
        work: job.action.word(),
        declared_digest: job.spec_digest,
        targets,
        diff: found.lines,
        batches: Batches { count: sizes.count(count), sizes },
        threshold: job.delivery.threshold,
    }));
    let change = PlannedChange::new(Subject::Job(job.name.clone()), step, reason);
    if is_deferred {
        // Judged when the target is resolved for good.
    } else if let Some(expect) = job.target.expect
        && !expect.holds(count)
    {
        plan.refusals.push(Refusal::Unexpected { job: job.name.clone(), count, expect });
    } else if sizes.count(count) > limits::BATCHES_MAX {
        plan.refusals.push(Refusal::TooManyBatches { job: job.name.clone(), count, size: sizes.size });
    } else if count == 0 {
        plan.notices.push(Notice::EmptyTarget { job: job.name.clone() });
    }
    judge_fit(job, found.mismatched, found.fits_none, count, is_deferred, plan);
    if let Action::DeviceTemplate(template) = &job.action
        && !observation.strays.names.is_empty()
    {
        let (job, template) = (job.name.clone(), template.clone());
        plan.notices.push(Notice::StrayProperties { job, template, strays: observation.strays });
    }
    if !observation.missing.is_empty() {
        let sample = observation.missing.iter().take(SAMPLE_IDS).cloned().collect();
        let count = observation.missing.len() as u64;
        plan.notices.push(Notice::MissingDevices { job: job.name.clone(), count, sample });
    }
    plan.runs.push(PlannedRun {
        job: job.name.clone(),
        run: job.run.clone(),
        ids: observation.ids,
        targets_digest,
        mismatching,
        is_deferred,
    });
    change
}

/// Refuses a job that fits no device, and warns of one that does not fit some. A target that is resolved later is
/// judged then: what comes before may change the templates.
fn judge_fit(
    job: &Job,
    mismatched: BTreeMap<Mismatch, u64>,
    fits_none: bool,
    count: u64,
    is_deferred: bool,
    plan: &mut Plan,
) {
    let job = job.name.clone();
    if fits_none && !is_deferred {
        plan.refusals.push(Refusal::FitsNone { job, count, mismatched });
    } else if !mismatched.is_empty() {
        plan.notices.push(Notice::Mismatches { job, count, mismatched, is_deferred });
    }
}

fn progress(job: &Job, ledger: &Ledger) -> String {
    match ledger.open.get(&(job.name.clone(), job.run.clone())) {
        None => "not started".to_string(),
        Some(open) => {
            let done = open.completed + open.failed;
            let pending = open.total - done;
            format!("{done} of {} done, {} in flight, {pending} pending", open.total, open.in_flight)
        }
    }
}

fn ended(record: &RunRecord) -> String {
    let day = record.finished_at.map_or(String::new(), |time| format!(" {}", time.strftime("%F")));
    let failed = record.counts.failed;
    let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    format!("{}{day}{failures}", record.status.as_str())
}
