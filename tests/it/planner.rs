//! The planner over generated fleets, jobs and ledgers: deterministic, complete, and right about conflicts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetform::ledger::{BatchRecord, Claim, Ledger, OpenRun, Published, RunRecord};
use fleetform::model::delivery::{Amount, Delivery};
use fleetform::model::digest::Digest;
use fleetform::model::fleet::{
    Declared, EdgeManifest, Fleet, FleetLimits, HeldDocuments, LinkConfig, RegistryConfig, ResultDevices, ResultsConfig,
};
use fleetform::model::id::{Name, RunToken};
use fleetform::model::job::{Action, Command, Job, Selector, Target};
use fleetform::model::observation::{Before, Mismatch, Observation};
use fleetform::model::outcome::{Counts, RunStatus};
use fleetform::model::patch::Patch;
use fleetform::plan::{
    ActionKind, Class, Notice, Plan, PlanInput, PlanSource, Refusal, Subject, check, classify, plan, plan_to_json,
};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-11-20T10:00:00Z".parse().unwrap()
}

fn name(n: usize) -> Name {
    Name::parse(&format!("job-{n}")).unwrap()
}

fn fleet() -> Fleet {
    Fleet {
        name: Name::parse("acme").unwrap(),
        registry: RegistryConfig::default(),
        link: LinkConfig::default(),
        results: ResultsConfig { branch: "fleetform/results".to_string(), devices: ResultDevices::All, remote: None },
        limits: FleetLimits { running_jobs: 5, in_flight: 1000 },
        time_zone: None,
        alerts: Vec::new(),
    }
}

/// How far the run of a generated job is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Past {
    Nothing,
    /// Claimed under another token.
    OtherToken,
    Open(RunStatus),
    JournalLost,
    Ended(RunStatus),
    /// Ended, and the spec is another one now.
    Edited,
}

#[derive(Debug, Clone)]
struct Drawn {
    action: Action,
    /// Bits of the devices that it targets, and of those that are blocked.
    devices: u16,
    blocked: u16,
    /// What each device has at each path, by an index.
    values: Vec<u8>,
    suspend: bool,
    /// A job before this one.
    after: Option<usize>,
    past: Past,
    batch: Option<u8>,
}

fn actions() -> impl Strategy<Value = Action> {
    let patch = |value: Value| Patch::new(value.as_object().unwrap().clone()).unwrap();
    let leaf = prop_oneof![Just(json!(1)), Just(json!(2)), Just(Value::Null), Just(json!({})), Just(json!({"c": 1}))];
    let patches = prop::collection::btree_map("[ab]", leaf, 1..3)
        .prop_map(move |members| patch(Value::Object(members.into_iter().collect())));
    let command = Command {
        name: "reboot".to_string(),
        component: None,
        payload: Value::Null,
        connect_timeout: std::time::Duration::from_secs(30),
        response_timeout: std::time::Duration::from_secs(30),
        idempotent: false,
    };
    prop_oneof![
        4 => patches.clone().prop_map(Action::Property),
        2 => patches.clone().prop_map(Action::Tags),
        2 => (patches.clone(), patches).prop_map(|(tags, desired)| Action::Twin { tags, desired }),
        1 => Just(Action::Command(command)),
        1 => (0..2_usize).prop_map(|n| Action::DeviceTemplate(name(n))),
        1 => (0..2_usize).prop_map(|n| Action::EdgeManifest(name(n))),
    ]
}

fn pasts() -> impl Strategy<Value = Past> {
    let ended = prop_oneof![Just(RunStatus::Completed), Just(RunStatus::Failed), Just(RunStatus::Canceled)];
    let open = prop_oneof![Just(RunStatus::Pending), Just(RunStatus::Running), Just(RunStatus::Stopped)];
    prop_oneof![
        6 => Just(Past::Nothing),
        1 => Just(Past::OtherToken),
        1 => open.prop_map(Past::Open),
        1 => Just(Past::JournalLost),
        2 => ended.prop_map(Past::Ended),
        1 => Just(Past::Edited),
    ]
}

fn fleets() -> impl Strategy<Value = Vec<Drawn>> {
    let job = (
        (actions(), any::<u16>(), any::<u16>(), prop::collection::vec(0..4_u8, 32)),
        (prop::bool::weighted(0.1), prop::option::weighted(0.3, 0..6_usize), pasts(), prop::option::of(1..7_u8)),
    );
    let drawn = job.prop_map(|((action, devices, blocked, values), (suspend, after, past, batch))| Drawn {
        action,
        devices,
        blocked: devices & blocked & 0x1111,
        values,
        suspend,
        after,
        past,
        batch,
    });
    prop::collection::vec(drawn, 0..6)
}

/// Everything that a plan reads.
struct Input {
    declared: Declared,
    ledger: Ledger,
    observations: BTreeMap<Name, Observation>,
}

fn device(n: usize) -> String {
    format!("d-{n:02}")
}

impl Input {
    fn of(drawn: &[Drawn]) -> Input {
        let mut input =
            Input { declared: Declared::empty(fleet()), ledger: Ledger::default(), observations: BTreeMap::new() };
        for (n, one) in drawn.iter().enumerate() {
            input.add(n, one);
        }
        for name in (0..2).map(name) {
            let digest = Digest::of_bytes(name.as_str().as_bytes());
            let manifest = EdgeManifest { name: name.clone(), content: serde_json::Map::new(), digest };
            input.declared.edge_manifests.insert(name, manifest);
        }
        input
    }

    fn add(&mut self, n: usize, drawn: &Drawn) {
        let after = drawn.after.filter(|other| *other < n).map(name);
        let job = Job {
            name: name(n),
            previous_names: Vec::new(),
            labels: Default::default(),
            run: RunToken::default(),
            suspend: drawn.suspend,
            spec_digest: Digest::of_bytes(format!("{n}").as_bytes()),
            organization: None,
            target: Target { selector: Selector::Query("*".to_string()), expect: None },
            after: after.into_iter().collect(),
            action: drawn.action.clone(),
            delivery: Delivery {
                batch_size: drawn.batch.map(|size| Amount::Count(u64::from(size))),
                ..Delivery::default()
            },
            file: format!("job-{n}.yaml"),
        };
        self.remember(&job, drawn);
        if matches!(classify(&job, &self.ledger), Class::Run) {
            self.observations.insert(job.name.clone(), observation(&job, drawn));
        }
        self.declared.jobs.insert(job.name.clone(), Arc::new(job));
    }

    fn remember(&mut self, job: &Job, drawn: &Drawn) {
        let run = match drawn.past {
            Past::Nothing => return,
            Past::OtherToken => RunToken::parse("0").unwrap(),
            Past::Open(_) | Past::JournalLost | Past::Ended(_) | Past::Edited => job.run.clone(),
        };
        let spec_digest = if drawn.past == Past::Edited { Digest::of_bytes(b"before") } else { job.spec_digest };
        let key = (job.name.clone(), run.clone());
        let claim = Claim {
            job: job.name.clone(),
            run: run.clone(),
            spec_digest,
            total: 4,
            targets_digest: Digest::of_bytes(b""),
            source_commit: "c".to_string(),
            plan_id: "p".to_string(),
            claimed_at: now(),
        };
        let counts = Counts { total: 4, completed: 4, failed: 0, unchanged: 0 };
        let record = |status| RunRecord {
            job: job.name.clone(),
            run: run.clone(),
            status,
            reason: None,
            cause: None,
            counts,
            started_at: Some(now()),
            finished_at: Some(now()),
            source_commit: "c".to_string(),
            plan_id: "p".to_string(),
            spec_digest,
            per_batch: vec![BatchRecord { counts }],
            published: Published { devices: 4, shards: 1 },
            late: 0,
        };
        Arc::make_mut(&mut self.ledger.claims).insert(key.clone(), claim);
        match drawn.past {
            Past::Nothing | Past::JournalLost => {}
            Past::Open(status) => {
                self.ledger.open.insert(
                    key,
                    OpenRun {
                        unchanged: 0,
                        status,
                        total: 4,
                        completed: 1,
                        failed: 0,
                        in_flight: 1,
                        waiting: 0,
                        late: 0,
                        started_at: None,
                    },
                );
            }
            Past::Ended(status) => drop(Arc::make_mut(&mut self.ledger.records).insert(key, record(status))),
            Past::OtherToken | Past::Edited => {
                drop(Arc::make_mut(&mut self.ledger.records).insert(key, record(RunStatus::Completed)))
            }
        }
    }

    fn plan(&self) -> Plan {
        self.plan_with(self.observations.clone())
    }

    fn plan_with(&self, observations: BTreeMap<Name, Observation>) -> Plan {
        plan(PlanInput {
            ages: BTreeMap::new(),
            pending: BTreeMap::new(),
            mismatching: self.declared.jobs.keys().map(|job| (job.clone(), BTreeSet::from([name(9)]))).collect(),
            unusable: BTreeSet::new(),
            declared: &self.declared,
            classified: fleetform::plan::classify_all(&self.declared, &self.ledger),
            source: PlanSource::default(),
            base: None,
            ledger: &self.ledger,
            observations,
            imports: BTreeMap::new(),
            gone: Vec::new(),
            at_work: None,
            scheduled: BTreeMap::new(),
            frozen: BTreeMap::new(),
            held: &HeldDocuments::default(),
            observed_at: now(),
        })
    }
}

/// The observation of the registry, an entry for each device.
fn observation(job: &Job, drawn: &Drawn) -> Observation {
    let paths = match &job.action {
        Action::Command(_) => 0,
        Action::DeviceTemplate(_) => 1,
        Action::EdgeManifest(_) => 2,
        action => action.patches().iter().map(|one| one.patch.assignments().len()).sum(),
    };
    let values = [None, Some(json!(1)), Some(json!(2)), Some(json!({"c": 1}))];
    let mut found = Observation::default();
    for n in (0..16).filter(|n| drawn.devices >> n & 1 == 1) {
        let entry = Before {
            blocked: drawn.blocked >> n & 1 == 1,
            mismatch: (drawn.values[(n + 7) % 32] == drawn.values[0]).then(|| mismatch(&job.action)),
            values: (0..paths).map(|path| values[drawn.values[(n + path) % 32] as usize].clone()).collect(),
        };
        found.ids.push(&device(n));
        let at = found.table.iter().position(|known| *known == entry).unwrap_or(found.table.len());
        if at == found.table.len() {
            found.table.push(entry);
        }
        found.before.push(u32::try_from(at).unwrap());
    }
    found
}

/// The reason why a device cannot have an action.
fn mismatch(action: &Action) -> Mismatch {
    if action.needs_edge() { Mismatch::NotEdge } else { Mismatch::Template(name(9)) }
}

fn text(plan: &Plan) -> String {
    plan_to_json(plan).to_string()
}

/// The same observation with its table reversed, which must not change a plan.
fn reversed(observation: &Observation) -> Observation {
    let last = observation.table.len().saturating_sub(1);
    Observation {
        before: observation.before.iter().map(|at| u32::try_from(last).unwrap() - at).collect(),
        table: observation.table.iter().rev().cloned().collect(),
        ..observation.clone()
    }
}

/// The values that a device ends with: each path that a patch touches, also as the parent of another.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(key, value)| leaves(value, &format!("{path}{key}/"), found));
        }
        value => found.push((path.to_string(), value.clone())),
    }
}

/// True when two actions want different things of one device, pair by pair.
fn is_contested(left: &Action, right: &Action) -> bool {
    match (left, right) {
        (Action::DeviceTemplate(one), Action::DeviceTemplate(two)) => return one != two,
        (Action::EdgeManifest(one), Action::EdgeManifest(two)) => return one != two,
        _ => {}
    }
    let all = |action: &Action| {
        let mut found = Vec::new();
        for one in action.patches() {
            leaves(&one.patch.to_value(), &format!("{:?}/", one.section), &mut found);
        }
        found
    };
    let (ours, theirs) = (all(left), all(right));
    ours.iter().any(|(path, value)| {
        theirs.iter().any(|(other, wanted)| {
            // An object that only has to exist conflicts with nothing below it.
            let asks_for_object = *value == json!({}) || *wanted == json!({});
            let is_nested = path.starts_with(other.as_str()) || other.starts_with(path.as_str());
            if path == other { value != wanted } else { is_nested && !asks_for_object }
        })
    })
}

/// Jobs that a job waits for, directly or through others.
fn ancestors(declared: &Declared, job: &Name) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    for name in &declared.jobs[job].after {
        found.insert(name.clone());
        found.extend(ancestors(declared, name));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_input_gives_the_same_bytes(drawn in fleets()) {
        let input = Input::of(&drawn);
        let one = input.plan();
        check(&one);
        prop_assert_eq!(text(&one), text(&input.plan()));
        prop_assert_eq!(text(&one), text(&Input::of(&drawn).plan()));
        let other_way = input.observations.iter().map(|(name, found)| (name.clone(), reversed(found))).collect();
        prop_assert_eq!(text(&one), text(&input.plan_with(other_way)));
        let saved = fleetform::plan::SavedPlan::from_json(&plan_to_json(&one)).unwrap();
        prop_assert!(saved.differences(&one).is_empty());
        prop_assert_eq!(plan_to_json(&saved.plan), plan_to_json(&one), "what is read back is what was written");
        let mut document = plan_to_json(&one);
        let id = document.as_object_mut().unwrap().remove("plan_id");
        prop_assert_eq!(id, Some(json!(Digest::of_json(&document).to_string())), "the id is the digest of the rest");
    }

    #[test]
    fn a_run_has_each_observed_device_once_and_no_other(drawn in fleets()) {
        let input = Input::of(&drawn);
        let plan = input.plan();
        prop_assert_eq!(plan.changes.len(), drawn.len(), "every job has a line");
        for run in &plan.runs {
            let ids: Vec<&str> = run.ids.iter().collect();
            prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "sorted, none twice: {:?}", ids);
            let observed: Vec<&str> = input.observations[&run.job].ids.iter().collect();
            prop_assert_eq!(ids, observed);
        }
        for change in &plan.changes {
            let Some(targets) = change.targets() else { continue };
            let batches = change.batches().unwrap();
            prop_assert_eq!(batches.sizes.range(batches.count, targets.count).start, targets.count);
            prop_assert!(batches.sizes.range(batches.count.saturating_sub(1), targets.count).start <= targets.count);
        }
    }

    #[test]
    fn templates_that_a_job_does_not_fit_are_counted_and_judged(drawn in fleets()) {
        let input = Input::of(&drawn);
        let plan = input.plan();
        for run in &plan.runs {
            prop_assert_eq!(&run.mismatching, &BTreeSet::from([name(9)]), "whatever was observed");
            let found = &input.observations[&run.job];
            let entries: Vec<&Before> = found.before.iter().map(|at| &found.table[*at as usize]).collect();
            let mismatches = entries.iter().filter(|entry| entry.mismatch.is_some() && !entry.blocked).count() as u64;
            let change = plan.changes.iter().find(|change| change.subject == Subject::Job(run.job.clone())).unwrap();
            prop_assert_eq!(change.targets().unwrap().mismatches(), mismatches);
            let fits_none = !entries.is_empty() && entries.iter().all(|entry| entry.mismatch.is_some());
            let is_refused =
                plan.refusals.iter().any(|one| matches!(one, Refusal::FitsNone { job, .. } if *job == run.job));
            prop_assert_eq!(is_refused, fits_none && !run.is_deferred);
            let is_told = plan.notices.iter().any(|one| matches!(one, Notice::Mismatches { job, .. } if *job == run.job));
            prop_assert_eq!(is_told, mismatches > 0 && !is_refused);
        }
    }

    #[test]
    fn what_was_claimed_is_never_run(drawn in fleets()) {
        let input = Input::of(&drawn);
        let plan = input.plan();
        for run in &plan.runs {
            prop_assert!(!input.ledger.claims.contains_key(&(run.job.clone(), run.run.clone())));
        }
        for change in plan.changes.iter().filter(|change| change.action() == ActionKind::Run) {
            let Subject::Job(name) = &change.subject else { continue };
            prop_assert!(!input.declared.jobs[name].suspend, "a suspended job is not started");
        }
        // Conversely, a job runs that was never claimed, is not suspended and waits for nothing.
        for job in input.declared.jobs.values().filter(|job| job.after.is_empty() && !job.suspend) {
            let is_claimed = input.ledger.claims.contains_key(&(job.name.clone(), job.run.clone()));
            prop_assert_eq!(!is_claimed, plan.runs.iter().any(|run| run.job == job.name));
        }
    }

    #[test]
    fn a_job_starts_only_behind_those_that_it_waits_for(drawn in fleets()) {
        let input = Input::of(&drawn);
        let plan = input.plan();
        let place = |name: &Name| plan.runs.iter().position(|run| run.job == *name);
        for (at, run) in plan.runs.iter().enumerate() {
            let after = &input.declared.jobs[&run.job].after;
            prop_assert!(after.iter().all(|name| place(name).is_none_or(|before| before < at)));
            let is_open = |name: &Name| {
                let key = (name.clone(), RunToken::default());
                input.ledger.records.get(&key).is_none_or(|record| record.status != RunStatus::Completed)
            };
            prop_assert_eq!(run.is_deferred, after.iter().any(is_open));
        }
    }

    #[test]
    fn conflicts_are_those_of_a_naive_comparison(drawn in fleets()) {
        let input = Input::of(&drawn);
        let plan = input.plan();
        let mut expect = BTreeMap::new();
        let may_move = input.declared.jobs.values().any(|job| {
            let is_under_way = matches!(classify(job, &input.ledger), Class::Run | Class::Continue);
            is_under_way && matches!(job.action, Action::DeviceTemplate(_))
        });
        let is_written = |job: &Name, id: &str| {
            let seen = &input.observations[job];
            let entry = &seen.table[seen.before[seen.ids.find(id).unwrap()] as usize];
            !entry.blocked && (entry.mismatch.is_none() || may_move)
        };
        for left in &plan.runs {
            for right in plan.runs.iter().filter(|right| left.job < right.job) {
                let both: Vec<&str> = left.ids.iter().filter(|id| right.ids.iter().any(|other| other == *id)).collect();
                let both: Vec<&str> =
                    both.into_iter().filter(|id| is_written(&left.job, id) && is_written(&right.job, id)).collect();
                let jobs = &input.declared.jobs;
                let is_ordered = ancestors(&input.declared, &left.job).contains(&right.job)
                    || ancestors(&input.declared, &right.job).contains(&left.job);
                if !both.is_empty() && !is_ordered && is_contested(&jobs[&left.job].action, &jobs[&right.job].action) {
                    let sample: Vec<String> = both.iter().take(3).map(ToString::to_string).collect();
                    expect.insert((left.job.clone(), right.job.clone()), (both.len() as u64, sample));
                }
            }
        }
        let mut found = BTreeMap::new();
        for refusal in &plan.refusals {
            let Refusal::Conflict(conflict) = refusal else { continue };
            let mut pair = [conflict.left.clone(), conflict.right.clone()];
            pair.sort();
            let [left, right] = pair;
            let told = found.insert((left, right), (conflict.devices, conflict.sample.clone()));
            prop_assert!(told.is_none(), "a pair is told once");
        }
        prop_assert_eq!(found, expect);
    }
}
