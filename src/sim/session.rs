//! Runs the world of one seed from beginning to end.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::execute::{Clock as _, Progress};
use crate::ledger::LEASE_TIME;
use crate::ops::watch::Note;

use super::{Auditor, Ended, Faults, People, Random, Relay, RemoteFault, World};

/// Applies in the first phase.
const ROUNDS: u64 = 7;
/// Applies in the first phase with a remote, where each takes longer.
const REMOTE_ROUNDS: u64 = 6;
/// Daemons or applies in the first phase of a world with schedules.
const DAEMON_ROUNDS: u64 = 6;
/// How long a daemon looks at a healed world.
const HEALED_WATCH: Duration = Duration::from_secs(1_200);
/// Applies after which a healed world must be at rest: each either ends runs or lets one more job begin after another.
const HEALING_ROUNDS_MAX: u32 = 30;

/// A world with its people and its auditor, and what has happened so far.
pub struct Session {
    pub world: World,
    pub people: People,
    pub auditor: Auditor,
    pub trace: Vec<String>,
    /// The files of a backup of the registry.
    backup: Vec<(PathBuf, Vec<u8>)>,
    /// A tip of the results branch that it may be put back to.
    pub(super) old_tip: Option<String>,
    /// The tip that the results branch had before it was put back.
    pub(super) tip_before: Option<String>,
}

/// A violated invariant, with the steps that led to it.
#[derive(Debug)]
pub struct Failure {
    pub what: String,
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        write!(f, "{}", self.what)
    }
}

impl Session {
    /// Returns a world with so many devices and no jobs in an empty folder.
    pub fn new(folder: &Path, devices: u64, fleet: &str) -> Session {
        Session::of(World::new(folder), devices, fleet)
    }

    /// Returns the same with two sites whose results go to a remote, which `fleet` names `origin`.
    pub fn with_remote(folder: &Path, devices: u64, fleet: &str) -> Session {
        Session::of(World::with_remote(folder), devices, fleet)
    }

    fn of(world: World, devices: u64, fleet: &str) -> Session {
        let people = People::new(&world, devices, fleet);
        Session {
            world,
            people,
            auditor: Auditor::default(),
            trace: vec![format!("{devices} devices, fleet {fleet}")],
            backup: Vec::new(),
            old_tip: None,
            tip_before: None,
        }
    }

    /// Commits, applies with some faults and lets the auditor look. Returns how it ended and how many crash points were
    /// passed.
    ///
    /// # Errors
    /// An invariant is violated.
    pub fn apply(&mut self, faults: &Faults) -> Result<(Ended, u64), Failure> {
        self.people.commit(&self.world);
        self.auditor.note_declared(&self.world, &self.people);
        let before = self.people.clone();
        let (people, world, trace) = (&mut self.people, &self.world, &mut self.trace);
        let mut events = 0;
        let applied = world.apply_with(faults, &mut |progress| {
            if faults.stop_at.is_some_and(|at| at <= events)
                && let Progress::Advanced { job, run, .. } = progress
                && people.stop(world, job.as_str(), run.as_str())
            {
                trace.push(format!("{job} is stopped while it runs"));
                people.commit(world);
            }
            events += 1;
        });
        self.judge("apply", &before, faults, applied)
    }

    /// Records how a process ended and lets the auditor look.
    fn judge(
        &mut self,
        what: &str,
        people: &People,
        faults: &Faults,
        (ended, passed): (Ended, u64),
    ) -> Result<(Ended, u64), Failure> {
        let told = match &ended {
            Ended::Applied(applied) if applied.was_empty => "nothing to do".to_string(),
            Ended::Applied(applied) => {
                let runs = applied.records.iter().map(|record| {
                    format!("{} run {}: {} {:?}", record.job, record.run, record.status.as_str(), record.counts)
                });
                format!("applied: {}", runs.collect::<Vec<_>>().join("; "))
            }
            Ended::Refused(error) => format!("refused: {error}"),
            Ended::Watched { looked_at, troubles } => format!("looked until {looked_at:?}, {troubles} troubles"),
            Ended::Died(place) => format!("died at `{place}` after {passed} places"),
            Ended::Panicked(what) => format!("panicked: {what}"),
        };
        self.trace.push(format!("{what} with {faults:?}: {told}"));
        let looked = self.auditor.look(&self.world, people, &ended, faults);
        looked.map_err(|what| self.failure(what))?;
        if let Ended::Refused(error) = &ended {
            self.follow(error);
        }
        Ok((ended, passed))
    }

    /// Commits and lets a daemon follow that for some time, with some faults. People make changes at those of its notes
    /// whose numbers, counted from 0, are in `acts`. Then the auditor looks.
    ///
    /// # Errors
    /// An invariant is violated.
    pub fn watch(
        &mut self,
        faults: &Faults,
        time: Duration,
        acts: &BTreeSet<u64>,
        random: &mut Random,
    ) -> Result<(Ended, u64), Failure> {
        self.people.commit(&self.world);
        self.auditor.note_declared(&self.world, &self.people);
        let before = self.people.clone();
        let (people, world, trace, auditor) = (&mut self.people, &self.world, &mut self.trace, &mut self.auditor);
        let mut notes = 0;
        let watched = world.watch(faults, time, &mut |note| {
            if let Note::Trouble { error, at, .. } = note {
                trace.push(format!("at {at}: {error}"));
            }
            if acts.contains(&notes) {
                let told = match random.between(0, 1) {
                    0 => people.act(world, random),
                    _ => people.act_on_schedules(world, random),
                };
                people.commit(world);
                auditor.note_declared_meanwhile(world, people);
                trace.push(format!("meanwhile, at {}: {told}", world.clock.now()));
            }
            notes += 1;
        });
        self.judge(&format!("watch for {time:?}"), &before, faults, watched)
    }

    /// Ends all faults and checks that the world comes to rest, with every claim accounted for.
    ///
    /// # Errors
    /// The world does not come to rest, or an invariant is violated.
    pub fn heal(&mut self, fleet: &str) -> Result<(), Failure> {
        self.trace.push("healed".to_string());
        self.world.relay = None;
        self.people.set_fleet(&self.world, fleet);
        self.people.set_going(&self.world);
        // Sites take turns, and all have to find nothing to do.
        let (sites, mut at_rest, mut watched_until) = (self.world.sites(), 0, None);
        for round in 0..HEALING_ROUNDS_MAX {
            self.world.go_to(round as usize % sites);
            match self.apply(&Faults::default())?.0 {
                Ended::Refused(_) => {
                    self.people.repair(&self.world);
                    self.people.set_going(&self.world);
                    at_rest = 0;
                }
                Ended::Applied(applied) if applied.was_empty => {
                    at_rest += 1;
                    if at_rest == sites && (self.people.schedules.is_empty() || watched_until.is_some()) {
                        let looked = self.auditor.look_at_rest(&self.world, &self.people, watched_until);
                        return looked.map_err(|what| self.failure(what));
                    }
                    if at_rest == sites {
                        // A daemon must run or record what was due meanwhile.
                        let (none, mut random) = (BTreeSet::new(), Random::new(0));
                        let (ended, _) = self.watch(&Faults::default(), HEALED_WATCH, &none, &mut random)?;
                        if let Ended::Watched { looked_at, .. } = ended {
                            watched_until = looked_at;
                        }
                        at_rest = 0;
                    }
                }
                Ended::Watched { .. } | Ended::Applied(_) | Ended::Died(_) | Ended::Panicked(_) => at_rest = 0,
            }
            self.world.clock.jump(SignedDuration::from_mins(1));
        }
        Err(self.failure(format!("not at rest after {HEALING_ROUNDS_MAX} applies without faults")))
    }

    /// Deletes the results branch when the registry knows everything on it. Returns false when it does not.
    pub fn lose_branch(&mut self) -> bool {
        let remembers =
            self.world.registry().and_then(|registry| Ok(registry.branch_copy().exists()?)).unwrap_or(false);
        if !remembers || !self.auditor.may_lose_branch() {
            return false;
        }
        self.world.delete_branch();
        self.auditor.lose_branch();
        // A branch that is published again has another history, which an older registry does not know.
        self.backup.clear();
        self.old_tip = None;
        self.trace.push("the results branch is deleted".to_string());
        true
    }

    /// Makes a backup of the registry; when there is one, puts it back.
    fn back_up_or_put_back(&mut self) {
        let backup = std::mem::take(&mut self.backup);
        if backup.is_empty() {
            self.backup = self.world.back_up_registry();
            self.trace.push("a backup of the registry is made".to_string());
            return;
        }
        self.world.put_back_registry(&backup);
        self.auditor.put_back_registry();
        self.trace.push("the backup of the registry is put back".to_string());
    }

    pub(super) fn failure(&self, what: String) -> Failure {
        Failure { what, trace: self.trace.clone() }
    }
}

/// Runs the world of a seed in an empty folder and returns what happened.
///
/// # Errors
/// An invariant is violated.
pub fn run_seed(seed: u64, folder: &Path) -> Result<Vec<String>, Failure> {
    let mut random = Random::new(seed);
    let (mut borders, crosses_borders) = borders_of(seed);
    let devices = random.between(5, 30) * *random.pick(&[1, 1, 1, 2, 2, 8]);
    let limits = format!("limits: {{runningJobs: {}, inFlight: {}}}", random.between(1, 3), random.between(2, 40));
    let fleet = faulty_fleet(&mut random, devices, &limits);
    let mut session = Session::new(folder, devices, &fleet);
    session.world.relay = relay_of(seed);
    for _ in 0..random.between(1, 4) {
        let told = session.people.add(&session.world, &mut random);
        session.trace.push(told);
    }
    for _ in 0..ROUNDS {
        let faults = Faults::drawn(&mut random);
        round(&mut session, &faults)?;
        disturb(&mut session, &mut random, &limits, true);
        if crosses_borders {
            session.cross_borders(&mut borders)?;
        }
    }
    session.heal(&healed(&limits))?;
    Ok(session.trace)
}

/// Runs the world of a seed with schedules, where a daemon goes on for days in some rounds.
///
/// # Errors
/// An invariant is violated.
pub fn run_daemon_seed(seed: u64, folder: &Path) -> Result<Vec<String>, Failure> {
    let mut random = Random::new(seed);
    let (mut borders, crosses_borders) = borders_of(seed);
    let devices = random.between(3, 12);
    let limits = format!("limits: {{runningJobs: {}, inFlight: {}}}", random.between(1, 3), random.between(2, 20));
    let fleet = faulty_fleet(&mut random, devices, &limits);
    let mut session = Session::new(folder, devices, &fleet);
    session.world.relay = relay_of(seed);
    for _ in 0..random.between(1, 4) {
        let told = match random.between(0, 3) {
            0 => session.people.add(&session.world, &mut random),
            _ => session.people.act_on_schedules(&session.world, &mut random),
        };
        session.trace.push(told);
    }
    for _ in 0..DAEMON_ROUNDS {
        let mut faults = Faults::drawn(&mut random);
        if random.chance(25) {
            round(&mut session, &faults)?;
        } else {
            // A daemon ends only when its time is up, its disk never gets full, and no stop is committed while it runs.
            (faults.interrupt_after, faults.growth, faults.stop_at) = (None, None, None);
            let minutes = random.between(1, *random.clone().pick(&[30, 600, 1_500, 4_000]));
            let looks = 2 * minutes;
            let acts = (0..random.between(0, 4)).map(|_| random.between(0, looks)).collect();
            session.watch(&faults, Duration::from_secs(60 * minutes), &acts, &mut random)?;
        }
        disturb(&mut session, &mut random, &limits, false);
        if crosses_borders {
            session.cross_borders(&mut borders)?;
        }
        if random.chance(40) {
            let told = session.people.act_on_schedules(&session.world, &mut random);
            session.trace.push(told);
        }
    }
    session.heal(&healed(&limits))?;
    Ok(session.trace)
}

/// Runs the world of a seed whose results go to a remote, where two sites that share a registry take turns.
///
/// # Errors
/// An invariant is violated.
pub fn run_remote_seed(seed: u64, folder: &Path) -> Result<Vec<String>, Failure> {
    let mut random = Random::new(seed);
    let (mut borders, crosses_borders) = borders_of(seed);
    let devices = random.between(3, 12);
    let limits = format!(
        "results: {{remote: origin}}, limits: {{runningJobs: {}, inFlight: {}}}",
        random.between(1, 3),
        random.between(2, 20)
    );
    let fleet = faulty_fleet(&mut random, devices, &limits);
    let mut session = Session::with_remote(folder, devices, &fleet);
    session.world.relay = relay_of(seed);
    session.world.lease_time = lease_time_of(seed);
    for _ in 0..random.between(1, 3) {
        let told = session.people.add(&session.world, &mut random);
        session.trace.push(told);
    }
    for turn in 0..REMOTE_ROUNDS {
        let site = if turn == 0 { 0 } else { random.between(0, 1) };
        session.world.go_to(site as usize);
        session.trace.push(format!("at site {}", ["A", "B"][site as usize]));
        let mut faults = Faults::drawn(&mut random);
        if random.chance(50) {
            let fault = match random.between(0, 10) {
                0 => RemoteFault::Away,
                // Most often this hits the push of the claims, which comes after that of the lease.
                1 => RemoteFault::Refuses(*random.pick(&[1, 2, 2, 2, 3, 3, 4, 5])),
                2 => RemoteFault::LosesAnswer(random.between(1, 6) as u32),
                3 | 4 => RemoteFault::Moves,
                5 => RemoteFault::Rewinds(random.between(1, 4) as u32),
                6..=8 => RemoteFault::Slow,
                _ => RemoteFault::TakenOver { fences: random.chance(50), alone: random.chance(30) },
            };
            faults.remote = Some((fault, *random.pick(&[0, 0, 0, 1, 2, 3, 5, 8, 13, 21])));
        }
        round(&mut session, &faults)?;
        disturb_remote(&mut session, &mut random, &limits);
        if crosses_borders {
            session.cross_borders(&mut borders)?;
        }
    }
    session.heal(&healed(&limits))?;
    Ok(session.trace)
}

/// Returns the chance of what happens at the borders of a world, and whether something does: it leaves the rest of the
/// world as it is.
fn borders_of(seed: u64) -> (Random, bool) {
    let mut random = Random::new(seed ^ 0x626f_7264_6572);
    let crosses = random.chance(60);
    (random, crosses)
}

/// Returns the broker between fleetform and its devices; half of all worlds have one. It leaves the rest of the world as
/// it is.
fn relay_of(seed: u64) -> Option<Rc<RefCell<Relay>>> {
    let mut random = Random::new(seed ^ 0x0072_656c_6179);
    random.chance(50).then(|| Relay::new(seed))
}

/// Returns how long a lease lasts in a world: mostly so short that each run renews it. It leaves the rest of the world
/// as it is.
fn lease_time_of(seed: u64) -> Duration {
    *Random::new(seed ^ 0x006c_6561_7365).pick(&[Duration::from_secs(3), Duration::from_secs(9), LEASE_TIME])
}

fn round(session: &mut Session, faults: &Faults) -> Result<(), Failure> {
    let (ended, _) = session.apply(faults)?;
    if let Ended::Refused(_) = ended {
        session.people.repair(&session.world);
        session.trace.push("edited jobs get new runs".to_string());
    }
    Ok(())
}

/// Returns the spec of a fleet without faults.
fn healed(limits: &str) -> String {
    format!("{{{limits}, link: {{simulated: {{journal: {}}}}}}}", super::world::JOURNAL)
}

fn disturb_remote(session: &mut Session, random: &mut Random, limits: &str) {
    people_act(session, random, limits);
    let seconds = match random.between(0, 9) {
        0 => -(random.between(1, 300) as i64),
        // Longer than a lease.
        1..=6 => random.between(180, 1_000) as i64,
        _ => random.between(0, 120) as i64,
    };
    pass(session, seconds);
}

fn people_act(session: &mut Session, random: &mut Random, limits: &str) {
    for _ in 0..random.between(0, 2) {
        let told = session.people.act(&session.world, random);
        session.trace.push(told);
    }
    if random.chance(30) {
        let fleet = faulty_fleet(random, session.people.devices, limits);
        session.trace.push(format!("fleet {fleet}"));
        session.people.set_fleet(&session.world, &fleet);
    }
}

fn pass(session: &mut Session, seconds: i64) {
    session.world.clock.jump(SignedDuration::from_secs(seconds));
    session.trace.push(format!("{seconds} s pass"));
}

/// Causes random events between two applies.
///
/// With schedules time must not go back: occurrences would be due again.
fn disturb(session: &mut Session, random: &mut Random, limits: &str, goes_back: bool) {
    people_act(session, random, limits);
    // At most one of the two is lost: without both, only a person knows what has run.
    let loss = random.between(0, 99);
    if loss < 4 && !session.auditor.is_branch_lost() {
        session.world.delete_registry();
        session.auditor.lose_registry();
        session.trace.push("the registry is deleted".to_string());
    } else if (7..15).contains(&loss) && session.world.remote.is_none() && !session.auditor.is_branch_lost() {
        session.back_up_or_put_back();
    } else if (4..7).contains(&loss) {
        session.lose_branch();
    }
    let seconds = match random.between(0, 9) {
        0 if goes_back => -(random.between(1, 300) as i64),
        1 => random.between(3_600, 200_000) as i64,
        _ => random.between(0, 120) as i64,
    };
    pass(session, seconds);
}

fn faulty_fleet(random: &mut Random, devices: u64, limits: &str) -> String {
    let mut own = Vec::new();
    for _ in 0..random.between(0, 4) {
        let behaviour = *random.pick(&[
            "{offline: true}",
            "{silent: true}",
            "{answers: 500}",
            "{latency: 4s}",
            "{latency: 12s}",
            "{offline: true}",
        ]);
        let line = format!("d-{:03}: {behaviour}", random.between(1, devices));
        if !own.iter().any(|other: &String| other[..5] == line[..5]) {
            own.push(line);
        }
    }
    let (seed, latency) = (random.between(1, 1_000), random.pick(&[20, 200, 2_000]));
    let (failures, offline) = (random.pick(&[0, 0, 5, 20]), random.pick(&[0, 0, 5, 20]));
    format!(
        "{{{limits}, link: {{simulated: {{seed: {seed}, latency: {latency}ms, failures: {failures}%, offline: \
            {offline}%, \
         journal: {}, devices: {{{}}}}}}}}}",
        super::world::JOURNAL,
        own.join(", ")
    )
}
