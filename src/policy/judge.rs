//! The judge.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::document::{Does, PolicedDocument};
use super::judges::{Judges, Origin, SourcedPolicy, Unreadable};
use crate::ledger::{Ledger, RunCause};
use crate::model::delivery::{Amount, Delivery, Threshold, ThresholdScope};
use crate::model::fleet::{Declared, DeviceImport};
use crate::model::id::{Name, RunToken};
use crate::model::job::{Action, SectionPatch};
use crate::model::kind::Kind;
use crate::model::patch::Section;
use crate::model::policy::PathPattern;
use crate::model::text::{devices_of, matches_wildcard};
use crate::plan::{ActionKind, ImportCounts, Plan, PlannedChange, RunStep, Step, Subject};

/// The time that `devicesPerDay` looks back.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What is known of the fleet beside the plan.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub declared: &'a Declared,
    pub ledger: &'a Ledger,
    pub judges: &'a Judges,
    /// The tags that policies forbid and that imports of the plan change, by import.
    pub set_tags: &'a BTreeMap<Name, Vec<SetTag>>,
    /// The devices of the fleet, with those that the plan imports.
    pub devices: u64,
}

/// A tag that rows of an import change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetTag {
    pub pattern: PathPattern,
    /// The dotted path of the first one.
    pub path: String,
    /// The line of the file on which its row starts, from 1.
    pub line: u64,
    /// Devices that get another value, the new ones among them.
    pub devices: u64,
}

/// What a policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A rule is broken.
    Broken {
        subject: Subject,
        policy: Name,
        /// The file of the policy, relative to the fleet's folder.
        file: String,
        origin: Origin,
        /// The pointer of the rule in the policy, such as `/spec/limits/devicesPerJob`.
        rule: &'static str,
        /// The pointer of what breaks it, in a job or an import.
        pointer: &'static str,
        /// What was found, and what is allowed: phrases.
        found: String,
        allowed: String,
    },
    /// What would judge it cannot be read.
    Unjudged { subject: Subject, unreadable: Unreadable },
}

impl Violation {
    /// Returns the document that it is about.
    pub fn subject(&self) -> &Subject {
        match self {
            Violation::Broken { subject, .. } | Violation::Unjudged { subject, .. } => subject,
        }
    }
}

/// Returns what the policies do not allow of a plan, in the order of its changes. Only what is to start is judged: runs
/// that were claimed go on, and what was done stays.
pub fn judge(plan: &Plan, facts: &Facts<'_>) -> Vec<Violation> {
    let mut court = Court { facts, now: plan.observed_at, days: BTreeMap::new(), running: 0, found: Vec::new() };
    court.running = plan.changes.iter().filter(|change| change.action() == ActionKind::Continue).count() as u64;
    for change in &plan.changes {
        // What is frozen is judged as far as it is known: it would be refused when it starts.
        let is_frozen = plan.frozen.contains_key(&change.subject);
        if is_frozen || matches!(change.step, Step::Import { .. } | Step::Run(_) | Step::Schedule(_)) {
            court.hear(change);
        }
    }
    court.found
}

struct Court<'a> {
    facts: &'a Facts<'a>,
    now: Timestamp,
    /// For each policy, by name and commit: the devices of the runs that were claimed within a day, and of the changes
    /// that were heard.
    days: BTreeMap<(Name, Option<String>), u64>,
    /// Jobs that go on, and those of the changes that were heard.
    running: u64,
    found: Vec<Violation>,
}

/// A change that is judged by one policy.
struct Case<'c> {
    subject: &'c Subject,
    sourced: &'c SourcedPolicy,
}

impl Court<'_> {
    fn hear(&mut self, change: &PlannedChange) {
        let subject = &change.subject;
        let Some(document) = PolicedDocument::of(subject, self.facts.declared) else { return };
        if let Some(unreadable) = self.facts.judges.unreadable(subject) {
            self.found.push(Violation::Unjudged { subject: subject.clone(), unreadable: unreadable.clone() });
            return;
        }
        if change.run_step().is_some() {
            self.running += 1;
        }
        for sourced in self.facts.judges.of(subject, &document) {
            let case = Case { subject, sourced };
            if sourced.policy.require.expect && !document.has_expect() {
                let pointer = if document.kind == Kind::DeviceImport { "/spec" } else { "/spec/target" };
                self.object(&case, "/spec/require/expect", pointer, "no `expect`", "only documents that have one");
            }
            match (document.does, &change.step) {
                (Does::Import(import), step) => {
                    if sourced.policy.forbid.removed.iter().any(|word| word == import.removed.as_str()) {
                        let found = format!("`removed: {}`", import.removed.as_str());
                        self.object(&case, "/spec/forbid/removed", "/spec/removed", found, "no import with that");
                    }
                    if let Step::Import { counts, .. } = step {
                        self.removals(&case, *counts);
                        self.set_tags(&case, import);
                    }
                }
                (Does::Work { action, delivery, .. }, step) => {
                    self.forbidden(&case, action);
                    self.threshold(&case, delivery, change.run_step());
                    if let Step::Run(run) = step {
                        self.size(&case, run);
                        self.batches(&case, run);
                        self.day(&case, run.targets.count);
                        self.at_once(&case);
                    }
                }
            }
        }
    }

    fn object(
        &mut self,
        case: &Case<'_>,
        rule: &'static str,
        pointer: &'static str,
        found: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        self.found.push(Violation::Broken {
            subject: case.subject.clone(),
            policy: case.sourced.policy.name.clone(),
            file: case.sourced.policy.file.clone(),
            origin: case.sourced.origin.clone(),
            rule,
            pointer,
            found: found.into(),
            allowed: allowed.into(),
        });
    }

    fn forbidden(&mut self, case: &Case<'_>, action: &Action) {
        let forbid = &case.sourced.policy.forbid;
        if let Some(word) = forbid.actions.iter().find(|word| action.words().contains(&word.as_str())) {
            let found = format!("the action `{word}`");
            self.object(case, "/spec/forbid/actions", "/spec/action", found, "no job with it");
        }
        if let Action::Command(command) = action {
            let full = command.component.as_ref().map(|component| format!("{component}*{}", command.name));
            let names = || std::iter::once(command.name.as_str()).chain(full.as_deref());
            if let Some(pattern) =
                forbid.commands.iter().find(|pattern| names().any(|name| matches_wildcard(pattern, name)))
            {
                let found = format!("the command `{}`", command.name);
                let allowed = format!("none that is `{pattern}`");
                self.object(case, "/spec/forbid/commands", "/spec/action/command/name", found, allowed);
            }
        }
        for SectionPatch { section, patch, pointer } in action.patches() {
            let (patterns, rule) = match section {
                Section::Desired => (&forbid.properties, "/spec/forbid/properties"),
                Section::Tags => (&forbid.tags, "/spec/forbid/tags"),
                Section::Cloud | Section::Reported => continue,
            };
            for assignment in patch.assignments() {
                if let Some(pattern) = patterns.iter().find(|pattern| pattern.touches(&assignment.path)) {
                    let found = format!("`{}` is set", assignment.dotted());
                    self.object(case, rule, pointer, found, format!("nothing that is `{pattern}`"));
                }
            }
        }
    }

    fn set_tags(&mut self, case: &Case<'_>, import: &DeviceImport) {
        for pattern in &case.sourced.policy.forbid.tags {
            let set = self.facts.set_tags.get(&import.name).into_iter().flatten();
            for SetTag { path, line, devices, .. } in set.filter(|set| set.pattern == *pattern) {
                let found = format!("the tag `{path}` of {} is set ({}:{line})", devices_of(*devices), import.file);
                self.object(case, "/spec/forbid/tags", "/spec/file", found, format!("nothing that is `{pattern}`"));
            }
        }
    }

    fn threshold(&mut self, case: &Case<'_>, delivery: &Delivery, run: Option<&RunStep>) {
        let (rule, pointer) = ("/spec/require/cancellationThreshold", "/spec/delivery/cancellationThreshold");
        let Some(most) = case.sourced.policy.require.threshold else { return };
        let allowed = || format!("a threshold of at most {most}");
        let Some(threshold) = delivery.threshold else {
            self.object(case, rule, "/spec/delivery", "no `cancellationThreshold`", allowed());
            return;
        };
        let is_wider = match (most, threshold.failures, run) {
            (Amount::Percent(most), Amount::Percent(own), _) => own > most,
            (Amount::Count(most), Amount::Count(own), _) => own > most,
            (_, _, Some(run)) => {
                // A batch has its own number of devices, the first one perhaps fewer.
                let scope = match threshold.per {
                    ThresholdScope::Job => run.targets.count,
                    ThresholdScope::Batch => run.batches.sizes.size.min(run.targets.count),
                };
                threshold.allowed(scope) > Threshold { failures: most, ..threshold }.allowed(scope)
            }
            // What a percentage comes to is known when an occurrence starts.
            (_, _, None) => false,
        };
        if is_wider {
            self.object(case, rule, pointer, format!("a threshold of {}", threshold.failures), allowed());
        }
    }

    fn size(&mut self, case: &Case<'_>, run: &RunStep) {
        let Some(limit) = case.sourced.policy.limits.devices_per_job else { return };
        let (count, most) = (run.targets.count, of_fleet(limit, self.facts.devices));
        if count > most {
            let allowed = at_most(limit, most);
            self.object(case, "/spec/limits/devicesPerJob", "/spec/target", devices_of(count), allowed);
        }
    }

    fn batches(&mut self, case: &Case<'_>, run: &RunStep) {
        let (total, sizes) = (run.targets.count, run.batches.sizes);
        let first = sizes.first.min(total);
        if let Some(most) = case.sourced.policy.require.canary.filter(|most| first > *most) {
            let found = format!("a first batch of {}", devices_of(first));
            let (rule, pointer) = ("/spec/require/canary", "/spec/delivery");
            self.object(case, rule, pointer, found, format!("at most {most} (`delivery.canary: {most}`)"));
        }
        if let Some(amount) = case.sourced.policy.require.batch_size {
            let (largest, most) = (sizes.size.min(total.saturating_sub(first)).max(first), amount.batch_size(total));
            if largest > most {
                let found = format!("batches of {}", devices_of(largest));
                let allowed = at_most(amount, most);
                self.object(case, "/spec/require/batchSize", "/spec/delivery", found, allowed);
            }
        }
    }

    fn day(&mut self, case: &Case<'_>, count: u64) {
        let SourcedPolicy { policy, origin } = case.sourced;
        let Some(limit) = policy.limits.devices_per_day else { return };
        let commit = match origin {
            Origin::Tree => None,
            Origin::Commit(commit) | Origin::Former(commit) => Some(commit.clone()),
        };
        let before = claimed_within(policy, self.facts, self.now);
        let sum = self.days.entry((policy.name.clone(), commit)).or_insert(before);
        *sum += count;
        let (sum, most) = (*sum, of_fleet(limit, self.facts.devices));
        if sum > most && count > 0 {
            let found = format!("{} within 24 hours with this one", devices_of(sum));
            self.object(case, "/spec/limits/devicesPerDay", "/spec/target", found, at_most(limit, most));
        }
    }

    fn at_once(&mut self, case: &Case<'_>) {
        let Some(most) = case.sourced.policy.limits.running_jobs else { return };
        let running = self.running.min(u64::from(self.facts.declared.fleet.limits.running_jobs));
        if running > u64::from(most) {
            let found = format!("{running} jobs at once with this one");
            let allowed = format!("at most {most} (or `limits.runningJobs: {most}` of the fleet, where others wait)");
            self.object(case, "/spec/limits/runningJobs", "/metadata/name", found, allowed);
        }
    }

    fn removals(&mut self, case: &Case<'_>, counts: ImportCounts) {
        let Some(limit) = case.sourced.policy.limits.removals_per_import else { return };
        let (removed, most) = (counts.removed + counts.deleted + counts.blocked, of_fleet(limit, self.facts.devices));
        if removed > most {
            let found = format!("{} blocked or deleted", devices_of(removed));
            self.object(case, "/spec/limits/removalsPerImport", "/spec/file", found, at_most(limit, most));
        }
    }
}

/// Returns the devices of the runs that were claimed within a day and that a policy applies to. Of a run that nothing
/// declares any more that is not known, so it counts.
fn claimed_within(policy: &crate::model::policy::Policy, facts: &Facts<'_>, now: Timestamp) -> u64 {
    let is_recent = |at: Timestamp| at <= now && now.duration_since(at) < DAY;
    // Of another run than the declared one it is not known where it was.
    let is_other = |name: &Name, run: &RunToken| facts.declared.jobs.get(name).is_some_and(|job| job.run != *run);
    let applies = |name: &Name, run: &RunToken| {
        is_other(name, run)
            || PolicedDocument::of(&Subject::Job(name.clone()), facts.declared)
                .is_none_or(|document| policy.scope.has(document.kind, document.organization))
    };
    let is_adopted = |key: &(Name, RunToken)| {
        facts.ledger.records.get(key).is_some_and(|record| record.cause == Some(RunCause::Adopted))
    };
    let claims = facts.ledger.claims.iter().filter(|(key, claim)| is_recent(claim.claimed_at) && !is_adopted(key));
    claims.filter(|(_, claim)| applies(&claim.job, &claim.run)).map(|(_, claim)| claim.total).sum()
}

/// Returns a limit in devices: a percentage of those of the fleet is rounded down.
fn of_fleet(limit: Amount, devices: u64) -> u64 {
    match limit {
        Amount::Count(count) => count,
        Amount::Percent(percent) => u64::from(percent) * devices / 100,
    }
}

fn at_most(limit: Amount, most: u64) -> String {
    match limit {
        Amount::Count(_) => format!("at most {most}"),
        Amount::Percent(_) => format!("at most {most} ({limit})"),
    }
}
