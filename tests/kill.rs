//! `kill -9` of the real binary: `fleetform apply --yes` dies at random moments over a real registry, a real repository
//! and devices with their own journal, and is started again. In the end everything must be done once and recorded once.
//!
//! ```text
//! cargo test --test kill                        20 kills
//! FLEETFORM_KILLS=200 cargo test --test kill    more, in three minutes
//! FLEETFORM_KILL_SEED=7 ...                     at other moments
//! ```
//!
//! The simulation (`tests/sim.rs`) dies at every durable step, by unwinding. Here a real process dies: in the middle of
//! a page of SQLite, between a lock of git and its rename, with half a line written. The seed decides the time of a
//! kill, counted from the start of the process; the speed of the machine decides the place. A failure prints its seed,
//! but a second run with it may not fail again.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, reads its settings from the environment, waits for real and says what it \
        saw"
)]

#[path = "kill/evidence.rs"]
mod evidence;
#[path = "kill/fleet.rs"]
mod fleet;
#[path = "kill/verdict.rs"]
mod verdict;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use evidence::{Branch, Tables, check_objects, executions};
use fleet::Fleet;
use fleetform::sim::Random;
use verdict::judge;

/// How much longer an apply takes with the job that waits.
const PATIENCE: Duration = Duration::from_millis(3_500);
/// After how many kills the next ones are of another fleet, with the next seed.
const KILLS_PER_FLEET: usize = 25;
/// After how many kills the object database is checked as a whole.
const OBJECTS_EVERY: u64 = 4;
/// No apply takes so long, however busy the machine is.
const FOR_EVER: Duration = Duration::from_secs(120);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn main() -> ExitCode {
    // Answers the arguments of a test harness: this binary has one test, `kill`.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("kill: test");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| !argument.starts_with('-') && !"kill".contains(argument.as_str())) {
        return ExitCode::SUCCESS;
    }
    let (kills, seed) = (setting("FLEETFORM_KILLS", 20), setting("FLEETFORM_KILL_SEED", 1));
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    // Fleets age faster here than in reality, one generation every few seconds, and every apply reads their whole
    // ledger.
    for (fleets, done) in (0..kills).step_by(KILLS_PER_FLEET).enumerate() {
        let (kills, seed) = ((kills - done).min(KILLS_PER_FLEET as u64), seed + fleets as u64);
        let name = format!("{}", fleets + 1);
        if let Err(what) = run(&folder.path().join(name), kills, seed) {
            eprintln!("FLEETFORM_KILL_SEED={seed}: {what}\nThe fleets are in {}.", folder.keep().display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Kills so many applies of one fleet, and judges it beside another that was left alone.
fn run(folder: &Path, kills: u64, seed: u64) -> Result<(), String> {
    let begun = Instant::now();
    let undisturbed = Fleet::new(&folder.join("undisturbed"));
    undisturbed.declare(1);
    // How long an apply with everything to do takes: updated all the time, because the machine may get busier.
    let length = AtomicU64::new(micros(undisturbed.apply()?));
    let killed = Fleet::new(&folder.join("killed"));
    let (sender, generations) = channel();
    let told = std::thread::scope(|scope| {
        let alone = scope.spawn(|| follow(&undisturbed, generations, &length));
        let told = kill_many(&killed, kills, &mut Random::new(seed), &length, |generation| {
            // The apply may have failed: the code below finds out why.
            let _ = sender.send(generation);
        });
        drop(sender);
        alone.join().unwrap().and(told)
    })?;
    come_to_rest(&killed)?;
    let verdict = judge(&killed, &undisturbed, told.generations)?;
    let phases: Vec<String> = told.phases.iter().map(|(phase, count)| format!("{phase} {count}")).collect();
    println!(
        "seed {seed}: {kills} kills over {} generations of {} runs, {} ms each, in {:.0} s; a kill may hit several \
            phases: {}",
        told.generations,
        fleet::JOBS.len(),
        length.into_inner() / 1_000,
        begun.elapsed().as_secs_f64(),
        phases.join(", ")
    );
    println!(
        "{} runs, {} outcomes, {} executions, {} outcomes unknown; lost outcomes {}, duplicate executions {}",
        verdict.runs,
        verdict.outcomes,
        verdict.executions,
        verdict.unknown,
        verdict.lost.len(),
        verdict.duplicates.len()
    );
    let findings: Vec<String> = [verdict.wrong, verdict.lost, verdict.duplicates].concat();
    if findings.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = findings.iter().take(20).cloned().collect();
    Err(format!("{} findings:\n  {}", findings.len(), shown.join("\n  ")))
}

/// Applies the same commits, one generation after the other, without being disturbed.
fn follow(fleet: &Fleet, generations: Receiver<u64>, length: &AtomicU64) -> Result<(), String> {
    for generation in generations {
        fleet.declare(generation);
        let took = fleet.apply()?;
        if !fleet::is_patient(generation) {
            length.store(micros(took), Ordering::Relaxed);
        }
    }
    Ok(())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

/// What the kills hit.
struct Told {
    generations: u64,
    phases: BTreeMap<&'static str, u64>,
}

fn kill_many(
    fleet: &Fleet,
    kills: u64,
    random: &mut Random,
    length: &AtomicU64,
    mut next: impl FnMut(u64),
) -> Result<Told, String> {
    let mut told = Told { generations: 1, phases: BTreeMap::new() };
    fleet.declare(1);
    let (mut branch, mut tables) = (Branch::read(fleet)?, Tables::read(fleet)?);
    let (mut done, mut left) = (0, random.between(1, 5));
    while done < kills {
        // Imports, claims and most writes are the short beginning of a generation, so many kills aim at that. `length`
        // is the time of an apply without the job that waits. A generation that was killed often enough runs to its
        // end, so that the next one begins.
        let length = Duration::from_micros(length.load(Ordering::Relaxed));
        let most = match random.between(0, 9) {
            _ if left == 0 => FOR_EVER,
            0..=4 => length.mul_f64(0.4),
            5..=7 => length.mul_f64(0.8),
            _ if fleet::is_patient(told.generations) => length + PATIENCE,
            _ => length,
        };
        let part = if left == 0 { 1_000 } else { random.between(0, 1_000) };
        let ended = fleet.start().wait(most.mul_f64(part as f64 / 1_000.0))?;
        let now = (Branch::read(fleet)?, Tables::read(fleet)?);
        now.0.check_growth(&branch, fleet)?;
        executions(fleet)?;
        // This reads every object, and the number of objects grows.
        if done % OBJECTS_EVERY == 0 {
            check_objects(fleet)?;
        }
        if ended.is_none() && left == 0 {
            return Err("an apply takes for ever".to_string());
        }
        if ended.is_some() {
            // Everything has ended: there is to be work again.
            told.generations += 1;
            fleet.declare(told.generations);
            next(told.generations);
            left = random.between(1, 5);
        } else {
            (done, left) = (done + 1, left - 1);
            for phase in now.1.phases(&tables, &now.0, told.generations) {
                *told.phases.entry(phase).or_default() += 1;
            }
        }
        (branch, tables) = now;
    }
    Ok(told)
}

/// Applies once more without a kill, and demands that a second time there is nothing to do.
fn come_to_rest(fleet: &Fleet) -> Result<(), String> {
    fleet.apply()?;
    check_objects(fleet)?;
    let look = || Ok::<_, String>((Branch::read(fleet)?.tip, Tables::read(fleet)?, executions(fleet)?));
    let before = look()?;
    fleet.apply()?;
    if look()? == before { Ok(()) } else { Err("an apply with nothing to do did something".to_string()) }
}
