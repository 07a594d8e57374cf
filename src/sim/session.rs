//! One seed from its beginning to its end.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;

use crate::execute::Progress;

use super::{Auditor, Ended, Faults, People, Random, World};

/// Applies in the first phase.
const ROUNDS: u64 = 7;
/// Applies after which a healed world must be at rest: each either ends runs or lets one more job begin after another.
const HEALING_ROUNDS_MAX: u32 = 20;

/// A world with its people and its auditor, and what has happened so far.
pub struct Session {
    pub world: World,
    pub people: People,
    pub auditor: Auditor,
    pub trace: Vec<String>,
}

/// What was not as it must be, with the way there.
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
        let world = World::new(folder);
        let people = People::new(&world, devices, fleet);
        Session { world, people, auditor: Auditor::default(), trace: vec![format!("{devices} devices, fleet {fleet}")] }
    }

    /// Commits, applies with some faults and lets the auditor look. Returns how it ended and how many crash points were passed.
    ///
    /// # Errors
    /// Something is not as it must be.
    pub fn apply(&mut self, faults: &Faults) -> Result<(Ended, u64), Failure> {
        self.people.commit(&self.world);
        self.auditor.note_declared(&self.world, &self.people);
        let before = self.people.clone();
        let (people, world, trace) = (&mut self.people, &self.world, &mut self.trace);
        let mut events = 0;
        let (ended, passed) = world.apply_with(faults, &mut |progress| {
            if faults.stop_at.is_some_and(|at| at <= events)
                && let Progress::Advanced { job, run, .. } = progress
                && people.stop(world, job.as_str(), run.as_str())
            {
                trace.push(format!("{job} is stopped while it runs"));
                people.commit(world);
            }
            events += 1;
        });
        let told = match &ended {
            Ended::Applied(applied) if applied.was_empty => "nothing to do".to_string(),
            Ended::Applied(applied) => {
                let runs = applied.records.iter().map(|record| {
                    format!("{} run {}: {} {:?}", record.job, record.run, record.status.as_str(), record.counts)
                });
                format!("applied: {}", runs.collect::<Vec<_>>().join("; "))
            }
            Ended::Refused(error) => format!("refused: {error}"),
            Ended::Died(place) => format!("died at `{place}` after {passed} places"),
            Ended::Panicked(what) => format!("panicked: {what}"),
        };
        self.trace.push(format!("apply with {faults:?}: {told}"));
        let looked = self.auditor.look(&self.world, &before, &ended, faults);
        looked.map_err(|what| self.failure(what))?;
        Ok((ended, passed))
    }

    /// Takes all faults away and demands that the world comes to rest, with every claim accounted for.
    ///
    /// # Errors
    /// It does not, or something is not as it must be.
    pub fn heal(&mut self, fleet: &str) -> Result<(), Failure> {
        self.trace.push("healed".to_string());
        self.people.set_fleet(&self.world, fleet);
        self.people.set_going(&self.world);
        for _ in 0..HEALING_ROUNDS_MAX {
            match self.apply(&Faults::default())?.0 {
                Ended::Refused(_) => {
                    self.people.repair(&self.world);
                    self.people.set_going(&self.world);
                }
                Ended::Applied(applied) if applied.was_empty => {
                    let looked = self.auditor.look_at_rest(&self.world, &self.people);
                    return looked.map_err(|what| self.failure(what));
                }
                Ended::Applied(_) | Ended::Died(_) | Ended::Panicked(_) => {}
            }
            self.world.clock.jump(SignedDuration::from_mins(1));
        }
        Err(self.failure(format!("not at rest after {HEALING_ROUNDS_MAX} applies without faults")))
    }

    /// Deletes the results branch when the registry knows all that is on it; false when it does not.
    pub fn lose_branch(&mut self) -> bool {
        let remembers = self.world.registry().and_then(|registry| Ok(registry.remembers()?)).unwrap_or(false);
        if !remembers || !self.auditor.may_lose_branch() {
            return false;
        }
        self.world.delete_branch();
        self.auditor.lose_branch();
        self.trace.push("the results branch is deleted".to_string());
        true
    }

    fn failure(&self, what: String) -> Failure {
        Failure { what, trace: self.trace.clone() }
    }
}

/// Runs the world of a seed in an empty folder and returns what happened.
///
/// # Errors
/// Something is not as it must be.
pub fn run_seed(seed: u64, folder: &Path) -> Result<Vec<String>, Failure> {
    let mut random = Random::new(seed);
    let devices = random.between(5, 30) * *random.pick(&[1, 1, 1, 2, 2, 8]);
    let limits = format!("limits: {{runningJobs: {}, inFlight: {}}}", random.between(1, 3), random.between(2, 40));
    let fleet = faulty_fleet(&mut random, devices, &limits);
    let mut session = Session::new(folder, devices, &fleet);
    for _ in 0..random.between(1, 4) {
        let told = session.people.add(&session.world, &mut random);
        session.trace.push(told);
    }
    for _ in 0..ROUNDS {
        let faults = faults(&mut random);
        let (ended, _) = session.apply(&faults)?;
        if let Ended::Refused(_) = ended {
            session.people.repair(&session.world);
            session.trace.push("edited jobs get new runs".to_string());
        }
        disturb(&mut session, &mut random, &limits);
    }
    session.heal(&format!("{{{limits}, link: {{simulated: {{journal: {}}}}}}}", super::world::JOURNAL))?;
    Ok(session.trace)
}

/// What happens between two applies.
fn disturb(session: &mut Session, random: &mut Random, limits: &str) {
    for _ in 0..random.between(0, 2) {
        let told = session.people.act(&session.world, random);
        session.trace.push(told);
    }
    if random.chance(30) {
        let fleet = faulty_fleet(random, session.people.devices, limits);
        session.trace.push(format!("fleet {fleet}"));
        session.people.set_fleet(&session.world, &fleet);
    }
    // One of the two knows what has run: whoever loses both has to say it himself.
    let loss = random.between(0, 99);
    if loss < 4 && !session.auditor.is_branch_lost() {
        session.world.delete_registry();
        session.auditor.lose_registry();
        session.trace.push("the registry is deleted".to_string());
    } else if (4..7).contains(&loss) {
        session.lose_branch();
    }
    let seconds = match random.between(0, 9) {
        0 => -(random.between(1, 300) as i64),
        1 => random.between(3_600, 200_000) as i64,
        _ => random.between(0, 120) as i64,
    };
    session.world.clock.jump(SignedDuration::from_secs(seconds));
    session.trace.push(format!("{seconds} s pass"));
}

fn faults(random: &mut Random) -> Faults {
    let mut faults = Faults::default();
    match random.between(0, 9) {
        // Most crashes are early: an apply of a small world passes some hundred places.
        0..=3 => faults.crash_at = Some(random.between(0, *random.clone().pick(&[10, 40, 150, 600]))),
        4 => faults.interrupt_after = Some(Duration::from_millis(random.between(0, 30_000))),
        5 => faults.lock_at = Some(random.between(0, 12)),
        6 => faults.growth = Some(0),
        _ => {}
    }
    if random.chance(15) {
        faults.stop_at = Some(random.between(0, 20));
    }
    if random.chance(10) {
        faults.overshoot = Some(random.clone());
    }
    faults
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
        "{{{limits}, link: {{simulated: {{seed: {seed}, latency: {latency}ms, failures: {failures}%, offline: {offline}%, \
         journal: {}, devices: {{{}}}}}}}}}",
        super::world::JOURNAL,
        own.join(", ")
    )
}
