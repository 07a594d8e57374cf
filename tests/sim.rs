//! The simulation: seeded worlds, and every crash point of a small one.
//!
//! ```text
//! cargo test --test sim                                        300 seeds and those of fixtures/seeds.txt
//! FLEETFORM_SIM_SEEDS=10000 cargo test --release --test sim    more
//! FLEETFORM_SIM_SEED=4711 cargo test --test sim -- --nocapture one, told step by step
//! ```
//!
//! A failure prints its seed, which goes to `fixtures/seeds.txt` with the fix.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and reads its settings from the environment"
)]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fleetform::sim::run_seed;

const SEEDS: &str = include_str!("../fixtures/seeds.txt");
/// Two, however many cores there are: the other tests want some too.
const THREADS: usize = 2;

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
    let seeds: Vec<u64> = match setting("FLEETFORM_SIM_SEED") {
        Some(seed) => vec![seed],
        None => known_seeds().into_iter().chain(1..=setting("FLEETFORM_SIM_SEEDS").unwrap_or(300)).collect(),
    };
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(seeds.len()) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    let folder = folder();
                    if let Err(failure) = run_seed(*seed, folder.path()) {
                        failures.lock().unwrap().push(format!("seed {seed}\n{failure}\n"));
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
