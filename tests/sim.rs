//! The simulation: seeded worlds, and every crash point of a small one.
//!
//! ```text
//! cargo test --test sim                                        300 seeds and those of fixtures/seeds.txt,
//!                                                              12 with remotes, 40 with daemons
//! FLEETFORM_SIM_SEEDS=10000 cargo test --release --test sim    more
//! FLEETFORM_SIM_FROM=10001 FLEETFORM_SIM_SEEDS=5000 ...        others
//! FLEETFORM_SIM_SEED=4711 cargo test --test sim -- --nocapture one, told step by step
//! FLEETFORM_SIM_REMOTE_SEEDS=150 FLEETFORM_SIM_DAEMON_SEEDS=500 ...
//!                                                              more with remotes and with daemons;
//!                                                              `_FROM` and `_SEED` as above
//! FLEETFORM_SIM_REMOTE_POINTS=1 ...                            each crash point with a remote, not only each
//!                                                              third one and the first of each place
//! ```
//!
//! A failure prints its seed, which goes to `fixtures/seeds.txt` with the fix. The worlds of all seeds change with the
//! script of [`fleetform::sim`]: after such a change the old seeds are only some more random ones.
//!
//! # Does it find bugs?
//!
//! Each invariant was broken on purpose, and 100 seeds with the crash points of the small world were run (2026-11-28).
//! Each line has the change (and its module), the tests that failed, and the failure:
//!
//! * the claim is published after the effects (`reconcile::claims`): both tests; a run is claimed twice in the journal
//! * the sent mark is not written (`execute::perform`): both tests; a device executed a command twice
//! * a failure is counted for each retry too (`rollout::step`): `no_seed_finds_a_violation`; counts and batches differ,
//!   or a count passes the target
//! * the spec digest of a claimed run is not compared (`plan::classify`): `no_seed_finds_a_violation`; a device is in
//!   another batch than was claimed
//!
//! For lost data, with 300 seeds:
//!
//! * a lost run that nothing declares is not closed (`plan::planner`): `no_seed_finds_a_violation`; a run is neither
//!   ended nor held at rest
//! * a new registry does not keep what is on the branch (`reconcile::recovery`): `no_seed_finds_a_violation`; a claim
//!   did not come back
//! * a claim that was not confirmed is not published again (`registry`): `every_crash_point_is_survived`; a claim did
//!   not come back
//! * the tip of a new branch is noted after the branch exists (`execute::republish`): `no_seed_finds_a_violation` with
//!   1,500 seeds; an apply is refused: the branch was rewritten
//!
//! For remotes and schedules, with 100 to 200 remote seeds, and else the default numbers of seeds and points:
//!
//! * runs begin before their claims are pushed (`reconcile::claims`): `no_remote_seed…`,
//!   `every_crash_point_with_a_remote…`; a device executed for no claim, or a claim is gone
//! * a push of claims that failed counts (`reconcile::claims`): `no_remote_seed…`; the same
//! * a live lease is taken over, with the fence of the registry or without (`reconcile::upstream`): `no_remote_seed…`;
//!   our lease came after that of a stranger which had not run out
//! * a renewal is a commit (`reconcile::upstream::renewal`): `no_remote_seed…` with 40 seeds; a commit only makes a lease
//!   last
//! * renewals are not read (`prepare::lease`): `no_remote_seed…` with 24 seeds; our lease came after that of a stranger
//!   which had not run out
//! * claims are pushed although another process has the lease (`reconcile::claims`): `no_remote_seed…` with 60 seeds,
//!   and `nothing_is_claimed_by_whoever_has_lost_the_right_to_work`; an apply is refused without a reason
//! * local commits are never given up (`reconcile::upstream`): no test any more, with all crash points and 100 remote
//!   seeds: what is made again on top of another process's commits is the same by now
//! * a remote branch that was rewound is taken (`repo`): `no_remote_seed…`; a site went on from a rewound branch
//! * the end of an apply pushes nothing (`reconcile::reconciler`): `no_remote_seed…`,
//!   `every_crash_point_with_a_remote…`; the lease goes on after the apply
//! * an occurrence starts without a claim (`reconcile::reconciler`): `no_daemon_seed…`; a daemon is in trouble without
//!   a fault
//! * an occurrence is settled without a claim (`reconcile::occurrences`): `no_daemon_seed…`; it has results and no
//!   claim
//! * an occurrence is claimed twice (`plan::agenda`): `no_daemon_seed…`; a daemon is in trouble without a fault
//! * a missed occurrence is not recorded (`reconcile::occurrences`): `no_daemon_seed…`; it was due and has no claim
//! * overlap is not checked (`plan::agenda`): `no_daemon_seed…`; an occurrence was started while another was under way
//! * times from before an edit are due (`plan::agenda`): `no_daemon_seed…`; an occurrence was claimed for a time before
//!   the schedule had it
//!
//! These worlds do not cover a claim that another process makes between our lease and our claims, because no process
//! claims without a lease in them: `what_somebody_else_claims_in_between_is_left_to_them` covers it. They also do not
//! notice a site that always gives up its unpushed commits once both branches have moved: the registry publishes the
//! content again before the apply ends. Only rows that were published while their run went on would be lost, and those
//! come 50,000 at a time.
//!
//! Other tests (`cargo test --test it`) check that declarations are compared by content:
//!
//! * trees are not compared after a squash (`reconcile::rewind`): `a_rewound_history_holds_and_a_squash_does_not`
//! * a rewound history is not looked for (`reconcile::reconciler`): `a_rewound_history_holds_and_a_squash_does_not`
//! * uncommitted files are not compared with `HEAD` (`ops::apply`): `uncommitted_files_hold_apply`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and reads its settings from the environment"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fleetform::execute::Side;
use fleetform::model::delivery::{Amount, Threshold, ThresholdScope};
use fleetform::sim::{
    DeclaredJob, Ended, Failure, Faults, JobKind, Session, run_daemon_seed, run_remote_seed, run_seed,
};

const SEEDS: &str = include_str!("../fixtures/seeds.txt");
/// Two threads on any number of cores, because the other tests need some too.
const THREADS: usize = 2;
/// The tests run one after the other, so that there are never more threads.
static TURN: Mutex<()> = Mutex::new(());

fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn known_seeds() -> Vec<u64> {
    let lines = SEEDS.lines().map(|line| line.split('#').next().unwrap().trim());
    lines.filter(|line| !line.is_empty()).map(|line| line.parse().unwrap()).collect()
}

#[test]
fn no_seed_finds_a_violation() {
    run_seeds("FLEETFORM_SIM", 300, known_seeds(), run_seed);
}

#[test]
fn no_remote_seed_finds_a_violation() {
    run_seeds("FLEETFORM_SIM_REMOTE", 12, Vec::new(), run_remote_seed);
}

#[test]
fn no_daemon_seed_finds_a_violation() {
    run_seeds("FLEETFORM_SIM_DAEMON", 40, Vec::new(), run_daemon_seed);
}

/// Runs the one seed, or the many, that the variables with a prefix name, and those that failed before.
fn run_seeds(
    prefix: &str,
    count: u64,
    known: Vec<u64>,
    run: impl Fn(u64, &Path) -> Result<Vec<String>, Failure> + Sync,
) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seeds: Vec<u64> = match setting(&format!("{prefix}_SEED")) {
        Some(seed) => vec![seed],
        None => {
            let from = setting(&format!("{prefix}_FROM")).unwrap_or(1);
            let count = setting(&format!("{prefix}_SEEDS")).unwrap_or(count);
            known.into_iter().chain(from..from + count).collect()
        }
    };
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(seeds.len()) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    let folder = folder();
                    match run(*seed, folder.path()) {
                        Ok(trace) if seeds.len() == 1 => println!("seed {seed}\n  {}", trace.join("\n  ")),
                        Ok(_) => {}
                        Err(failure) => failures.lock().unwrap().push(format!("seed {seed}\n{failure}\n")),
                    }
                    if failures.lock().unwrap().len() >= 5 {
                        return;
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A small world with a job of each kind, and devices that are offline, silent, slow and failing.
fn small_world(folder: &Path) -> Session {
    let fleet = "{limits: {runningJobs: 2, inFlight: 4}, link: {simulated: {journal: devices.jsonl, latency: 500ms, \
                 devices: {d-002: {answers: 500}, d-003: {silent: true}, d-004: {offline: true}, d-005: {latency: \
                 3s}}}}}";
    let mut session = Session::new(folder, 6, fleet);
    let batches = |size| Some(Amount::Count(size));
    let threshold = Some(Threshold { failures: Amount::Count(1), per: ThresholdScope::Job });
    let jobs = [
        DeclaredJob { batch_size: batches(4), ..DeclaredJob::new("once", JobKind::Command { idempotent: false }) },
        DeclaredJob {
            retries: 1,
            waits_online: true,
            ..DeclaredJob::new("often", JobKind::Command { idempotent: true })
        },
        DeclaredJob {
            threshold,
            after: Some("tag".into()),
            ..DeclaredJob::new("late", JobKind::Command { idempotent: false })
        },
        DeclaredJob { batch_size: batches(3), ..DeclaredJob::new("tag", JobKind::Tags) },
        DeclaredJob::new("confirm", JobKind::Acknowledged),
    ];
    for job in jobs {
        session.people.declare(&session.world, job);
    }
    session
}

const HEALED: &str = "{link: {simulated: {journal: devices.jsonl}}}";

/// Dies at the first crash point, then at the second, and so on until the process gets to its end. Returns the names of
/// the places. `check` returns the place at which the process died, `None` at its end.
fn at_every_point(check: impl Fn(u64) -> Result<Option<&'static str>, Failure> + Sync) -> BTreeSet<&'static str> {
    let next = AtomicU64::new(0);
    let (end, places) = (AtomicU64::new(u64::MAX), Mutex::new(BTreeSet::new()));
    let failures = Mutex::new(Vec::new());
    let check = |point: u64| match check(point)? {
        Some(place) => {
            places.lock().unwrap().insert(place);
            Ok(())
        }
        None => {
            end.fetch_min(point, Ordering::SeqCst);
            Ok(())
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let point = next.fetch_add(1, Ordering::SeqCst);
                    if point >= end.load(Ordering::SeqCst) || failures.lock().unwrap().len() >= 3 {
                        return;
                    }
                    let checked: Result<(), Failure> = check(point);
                    if let Err(failure) = checked {
                        failures.lock().unwrap().push(format!("died at point {point}\n{failure}\n"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{} crash points", end.into_inner());
    places.into_inner().unwrap()
}

/// The process dies at the first crash point, then at the second, and so on until it gets to its end; after each death
/// people may stop a job, the results branch may be deleted, and the second start also dies, at another point.
#[test]
fn every_crash_point_is_survived() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let places = at_every_point(|point| {
        let folder = folder();
        let mut session = small_world(folder.path());
        let (ended, _) = session.apply(&Faults { crash_at: Some(point), ..Faults::default() })?;
        let Ended::Died(place) = ended else { return Ok(None) };
        if point % 3 == 1 {
            let name = ["once", "often", "late"][point as usize / 3 % 3];
            let job = session.people.jobs[name].clone();
            session.people.declare(&session.world, DeclaredJob { suspend: true, ..job });
        } else if point % 3 == 2 {
            session.people.run_again(&session.world, ["once", "confirm"][point as usize / 3 % 2]);
        }
        if point.is_multiple_of(4) {
            session.lose_branch();
        }
        session.apply(&Faults { crash_at: Some(point % 41), ..Faults::default() })?;
        session.heal(HEALED)?;
        Ok(Some(place))
    });
    for place in [
        "import",
        "publish import",
        "journal claim",
        "publish claim",
        "confirm claim",
        "start run",
        "mark sent",
        "send",
        "poll",
        "record",
        "write",
        "unmark",
        "end run",
        "publish",
        "close run",
        "note tip",
    ] {
        assert!(places.contains(place), "nobody died at `{place}`: {places:?}");
    }
}

/// The same for a site whose results go to a remote: the first point of each place, and each third one. After each
/// death the site itself goes on at once, or another site later; each second time the second process dies too.
#[test]
fn every_crash_point_with_a_remote_is_survived() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let fleet = "{results: {remote: origin}, link: {simulated: {journal: devices.jsonl, latency: 500ms, devices: \
        {d-001: {latency: 8s}, d-002: {answers: 500}}}}}";
    let step = setting("FLEETFORM_SIM_REMOTE_POINTS").unwrap_or(3).max(1);
    let survived = Mutex::new(BTreeSet::new());
    let places = at_every_point(|point| {
        let folder = folder();
        let mut session = Session::with_remote(folder.path(), 2, fleet);
        // Renewed while a device is waited for.
        session.world.lease_time = Duration::from_secs(9);
        for job in [
            DeclaredJob::new("once", JobKind::Command { idempotent: false }),
            DeclaredJob { after: Some("once".into()), ..DeclaredJob::new("set", JobKind::Property) },
        ] {
            session.people.declare(&session.world, job);
        }
        let (ended, _) = session.apply(&Faults { crash_at: Some(point), ..Faults::default() })?;
        let Ended::Died(place) = ended else { return Ok(None) };
        let is_first = survived.lock().unwrap().insert(place);
        if !is_first && point % step != step - 1 {
            return Ok(Some(place));
        }
        if point % 2 == 1 {
            session.world.go_to(1);
            session.world.clock.jump(jiff::SignedDuration::from_secs(200));
        }
        if point % 4 > 1 {
            session.apply(&Faults { crash_at: Some(point % 29), ..Faults::default() })?;
        }
        session.heal("{results: {remote: origin}, link: {simulated: {journal: devices.jsonl}}}")?;
        Ok(Some(place))
    });
    for place in [
        "push",
        "take lease",
        "renew lease",
        "note renewed",
        "enter epoch",
        "journal claim",
        "push claims",
        "take pushed",
        "note pushed",
        "confirm claim",
        "mark sent",
        "send",
        "publish",
        "close run",
        "release lease",
        "note tip",
    ] {
        assert!(places.contains(place), "nobody died at `{place}`: {places:?}");
    }
}

/// Applies with a process that dies before a step, and returns how often the devices have executed something by then.
fn die(session: &mut Session, step: &str, occurrence: u64) -> usize {
    let faults = Faults { crash_step: Some((Side::Before, step.to_string(), occurrence)), ..Faults::default() };
    let (ended, _) = session.apply(&faults).unwrap();
    assert!(matches!(ended, Ended::Died(_)), "{ended:?}");
    session.world.journal().lines().count()
}

/// Puts the results branch back by one commit, as people do.
fn take_back_commit(session: &mut Session, folder: &Path) {
    let repository = git2::Repository::open(folder).unwrap();
    let mut branch = repository.find_reference("refs/heads/fleetform/results").unwrap();
    let before = branch.peel_to_commit().unwrap().parent_id(0).unwrap();
    branch.set_target(before, "people").unwrap();
    session.auditor.put_back_branch(&before.to_string());
}

/// A branch is put back, a process does a part of its work on it and dies, and the next process does nothing: that one
/// answers for nothing that was sent or written before it.
#[test]
fn no_process_is_blamed_for_what_one_before_it_has_done() {
    let fleet = "{limits: {runningJobs: 2, inFlight: 1}, link: {simulated: {journal: devices.jsonl, latency: 500ms}}}";
    for is_refused in [true, false] {
        let folder = folder();
        let mut session = Session::new(folder.path(), 4, fleet);
        let often = DeclaredJob::new("often", JobKind::Command { idempotent: true });
        for job in [DeclaredJob::new("tag", JobKind::Tags), often.clone()] {
            session.people.declare(&session.world, job);
        }
        let executed = die(&mut session, "close run", 1);
        take_back_commit(&mut session, folder.path());
        if is_refused {
            assert!(die(&mut session, "record", 3) > executed, "it has sent something");
            session.people.declare(&session.world, DeclaredJob { batch_size: Some(Amount::Count(2)), ..often });
            session.people.edited.insert("often".to_string());
            let (ended, _) = session.apply(&Faults::default()).unwrap();
            assert!(matches!(&ended, Ended::Refused(_)), "{ended:?}");
        } else {
            session.people.declare(&session.world, DeclaredJob::new("more", JobKind::Cloud));
            die(&mut session, "note tip", 1);
            let (ended, _) = session.apply(&Faults::default()).unwrap();
            assert!(matches!(&ended, Ended::Applied(applied) if applied.was_empty), "{ended:?}");
        }
        session.heal(HEALED).unwrap();
    }
}

/// A commit says that a run was stopped, and is taken back with the stop. Nothing is missing then: the run goes on
/// without a word to the branch.
#[test]
fn a_run_goes_on_where_only_its_stop_was_taken_back() {
    let folder = folder();
    let fleet = "{link: {simulated: {journal: devices.jsonl, devices: {d-002: {offline: true}}}}}";
    let mut session = Session::new(folder.path(), 2, fleet);
    let command = DeclaredJob::new("reboot", JobKind::Command { idempotent: false });
    let waits = DeclaredJob { waits_online: true, ..command };
    session.people.declare(&session.world, waits.clone());
    session.apply(&Faults::default()).unwrap();
    session.people.declare(&session.world, DeclaredJob { suspend: true, ..waits.clone() });
    die(&mut session, "note tip", 1);
    take_back_commit(&mut session, folder.path());
    session.people.declare(&session.world, waits);
    let tip = |session: &Session| session.world.results().unwrap().0;
    let before = tip(&session);
    let (ended, _) = session.apply(&Faults::default()).unwrap();
    assert!(matches!(&ended, Ended::Applied(applied) if !applied.was_empty), "{ended:?}");
    assert_eq!(tip(&session), before);
    session.heal(HEALED).unwrap();
}
