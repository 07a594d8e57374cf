//! A database that is cut off, killed, made read-only or replaced while it is written to: every commit is there once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleetform::model::observation::DeviceIds;
use fleetform::model::outcome::Reason;
use fleetform::registry::postgres::PostgresPlace;
use fleetform::registry::{Cell, Change, Registry, RegistryError, StorePlace, TABLES};

use crate::cluster::{Cluster, block_on, connect};
use crate::contract::fleet::{FLEET, claim, name, new_run, now, outcome};
use crate::world::times;

/// Devices of one commit.
const CHUNK: u32 = 5;

fn place(url: &str) -> PostgresPlace {
    PostgresPlace::new(url, FLEET).unwrap()
}

fn ids(count: u32) -> DeviceIds {
    let ids: Vec<String> = (0..count).map(|n| format!("d-{n:06}")).collect();
    ids.iter().map(String::as_str).collect()
}

/// Fills an empty registry with devices.
fn fill(registry: &mut Registry, ids: &DeviceIds) {
    let device = &TABLES[0];
    let text = |text: &str| Cell::Text(text.to_string());
    let row = |id: &str| -> Vec<Cell> {
        let cell = |column: &str| match column {
            "device_id" | "device_name" => text(id),
            "state" => text("registered"),
            "connection_state" => text("Disconnected"),
            "tags" | "cloud" | "desired" | "reported" => text("{}"),
            "blocked" | "simulated" | "iot_edge" => Cell::Integer(0),
            "desired_version" | "reported_version" => Cell::Integer(1),
            _ => Cell::Null,
        };
        device.columns.iter().map(|(column, _)| cell(column)).collect()
    };
    registry.load(&mut |sink| ids.iter().try_for_each(|id| sink(device, row(id)))).unwrap();
}

/// A run that is worked through, a mark and an outcome for each device.
struct Work {
    place: PostgresPlace,
    ids: DeviceIds,
    run_id: i64,
    /// Commits that marked devices.
    marks: u64,
    /// The longest time that a commit took.
    longest: Duration,
    /// How often the store gave up and was opened again.
    reopened: u32,
}

impl Work {
    fn begin(url: &str, count: u32) -> Work {
        let (place, ids) = (place(url), ids(count));
        let mut registry = Registry::new(place.open().unwrap());
        fill(&mut registry, &ids);
        let claim = claim("dim", &ids);
        let run_id = registry.write(Change::Claim(new_run(&claim, &ids))).unwrap().into_run();
        registry.write(Change::Confirm { run_id }).unwrap();
        Work { place, ids, run_id, marks: 0, longest: Duration::ZERO, reopened: 0 }
    }

    /// Works under the lease until every device has an outcome. `progress` counts the commits.
    fn run(&mut self, progress: &AtomicU64) {
        let _lease = self.place.exclude("worker").unwrap_or_else(|failure| panic!("{failure:?}"));
        let mut registry = Registry::new(self.place.open().unwrap());
        let mut next = 0;
        let count = u32::try_from(self.ids.len()).unwrap();
        while next < count {
            let chunk: Vec<(u32, u32)> = (next..count.min(next + CHUNK)).map(|ordinal| (ordinal, 1)).collect();
            let outcomes: Vec<_> = chunk.iter().map(|(ordinal, _)| outcome(*ordinal, Reason::Responded)).collect();
            let mark = Change::Mark { run_id: self.run_id, devices: &chunk, ids: &self.ids, at: now() };
            let record = Change::Record { run_id: self.run_id, outcomes: &outcomes, ids: &self.ids };
            for change in [mark, record] {
                let (began, is_mark) = (Instant::now(), matches!(change, Change::Mark { .. }));
                registry.write(change).unwrap_or_else(|error| panic!("{error}: {error:?}"));
                self.longest = self.longest.max(began.elapsed());
                self.marks += u64::from(is_mark);
                progress.fetch_add(1, Ordering::SeqCst);
            }
            next += CHUNK;
        }
    }

    /// Checks that each commit was done once.
    #[track_caller]
    fn check(&self) {
        let registry = Registry::new(self.place.open_for_reading().unwrap());
        let mut ordinals = Vec::new();
        registry.journal().each_outcome(self.run_id, &mut |ordinal, _, _| ordinals.push(ordinal)).unwrap();
        assert!(ordinals.iter().copied().eq(0..u32::try_from(self.ids.len()).unwrap()), "every device once");
        assert_eq!(registry.journal().sent_marks(self.run_id).unwrap(), []);
        assert_eq!(registry.identity().unwrap().sends, self.marks, "each mark was committed once");
        assert!(self.longest < Duration::from_secs(30), "a commit took {:?}", self.longest);
        assert_eq!(self.reopened, 0);
    }
}

/// Does something again and again while the work is under way.
fn meanwhile(work: &mut Work, mut act: impl FnMut(u64) + Send) {
    let (progress, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                act(progress.load(Ordering::SeqCst));
            }
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.run(&progress)));
        is_over.store(true, Ordering::SeqCst);
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_connection_that_is_terminated_loses_and_doubles_nothing() {
    let cluster = Cluster::start(&["synchronous_commit=on"]);
    let url = cluster.make_database("fleet", "");
    let wanted = times("FLEETFORM_TEST_TERMINATIONS", 60);
    let mut work = Work::begin(&url, u32::try_from(wanted).unwrap() * 40);
    let mut terminated = 0;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(connect(&url)).unwrap();
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    meanwhile(&mut work, |commits| {
        if commits == 0 {
            return;
        }
        // Between 0 and 20 ms, so that every place of a commit is met.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros(dice >> 40 & 0x3fff));
        if terminated < wanted {
            let text =
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'fleetform'";
            let row = runtime.block_on(client.query_one(text, &[])).unwrap();
            terminated += u64::from(row.get::<_, i64>(0) > 0);
        }
    });
    assert!(terminated > wanted / 2, "{terminated} of {wanted}");
    work.check();
}

#[test]
fn a_server_that_is_killed_loses_and_doubles_nothing() {
    let mut cluster = Cluster::start(&["synchronous_commit=on", "full_page_writes=on"]);
    let url = cluster.make_database("fleet", "");
    let wanted = times("FLEETFORM_TEST_SERVER_KILLS", 3);
    let mut work = Work::begin(&url, u32::try_from(wanted).unwrap() * 800);
    let (mut kills, mut last) = (0, 0);
    meanwhile(&mut work, |commits| {
        std::thread::sleep(Duration::from_millis(7));
        if kills < wanted && commits > last + 40 {
            cluster.kill();
            cluster.restart();
            (kills, last) = (kills + 1, commits);
        }
    });
    assert_eq!(kills, wanted);
    work.check();
}

#[test]
fn a_server_that_turns_read_only_without_a_word_is_waited_for() {
    let cluster = Cluster::start(&["synchronous_commit=on"]);
    let url = cluster.make_database("fleet", "");
    let mut work = Work::begin(&url, 2_000);
    let mut demotions = 0;
    let set = |value: &str| {
        cluster.run(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}"));
        cluster.run("SELECT pg_reload_conf()");
    };
    meanwhile(&mut work, |commits| {
        std::thread::sleep(Duration::from_millis(30));
        // A registry is not opened on a server that takes no writes.
        if commits > 0 && demotions < 3 {
            set("on");
            std::thread::sleep(Duration::from_millis(700));
            set("off");
            demotions += 1;
        }
    });
    assert_eq!(demotions, 3);
    work.check();
}

/// Returns how many standbys a server streams to.
fn streams(primary: &Cluster) -> i64 {
    block_on(async {
        let client = connect(&primary.url("postgres")).await.unwrap();
        let text = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        client.query_one(text, &[]).await.unwrap().get(0)
    })
}

/// Returns a primary with a standby that streams, and the URL of both.
fn pair(is_synchronous: bool) -> (Cluster, Cluster, String) {
    let primary = Cluster::start(&["synchronous_commit=on"]);
    primary.make_database("fleet", "");
    let standby = primary.standby();
    crate::servers::wait_until("the standby streams", || streams(&primary) > 0);
    if is_synchronous {
        primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'");
        primary.run("SELECT pg_reload_conf()");
    }
    let url = format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/fleet", primary.port(), standby.port());
    (primary, standby, url)
}

#[test]
fn a_synchronous_standby_that_is_promoted_has_every_commit_once() {
    let (mut primary, standby, url) = pair(true);
    let mut work = Work::begin(&url, 4_000);
    let mut is_promoted = false;
    meanwhile(&mut work, |commits| {
        std::thread::sleep(Duration::from_millis(3));
        if !is_promoted && commits > 200 {
            primary.kill();
            // It waits for its own standby no more.
            standby.run("SELECT pg_promote()");
            is_promoted = true;
        }
    });
    assert!(is_promoted);
    work.check();
}

#[test]
fn a_standby_without_acknowledged_commits_is_told() {
    let (mut primary, standby, url) = pair(false);
    let work = Work::begin(&url, 100);
    let lease = work.place.exclude("worker").unwrap();
    let mut registry = Registry::new(work.place.open().unwrap());
    let mark = |ordinal: u32| [(ordinal, 1)];
    let write = |registry: &mut Registry, ordinal: u32| {
        let devices = mark(ordinal);
        registry.write(Change::Mark { run_id: work.run_id, devices: &devices, ids: &work.ids, at: now() })
    };
    write(&mut registry, 0).unwrap();
    crate::servers::wait_until("the standby has what was written", || {
        let there = Registry::new(place(&standby.url("fleet")).open_for_reading().unwrap());
        there.identity().unwrap().sends == 1
    });
    // From here on it gets nothing.
    standby.run("ALTER SYSTEM SET primary_conninfo = ''");
    standby.run("SELECT pg_reload_conf()");
    crate::servers::wait_until("the standby is cut off", || streams(&primary) == 0);
    write(&mut registry, 1).unwrap();
    write(&mut registry, 2).unwrap();
    primary.kill();
    drop(lease);
    standby.run("SELECT pg_promote()");
    let refused = write(&mut registry, 3).unwrap_err();
    assert!(matches!(refused, RegistryError::Replaced { .. }), "{refused:?}");
    let mut there = Registry::new(place(&standby.url("fleet")).open().unwrap());
    assert_eq!(there.identity().unwrap().sends, 1);
    assert_eq!(there.journal().name_of(work.run_id).unwrap().unwrap().0, name("dim"));
    // Who works next knows it too, also on another machine.
    assert!(!there.identity().unwrap().may_lack);
    // The lease of the one that worked runs out by itself.
    let mut taken = None;
    crate::servers::wait_until("the lease has run out", || {
        taken = place(&standby.url("fleet")).exclude("another").ok();
        taken.is_some()
    });
    assert_eq!(taken.take().unwrap().former(), ["worker"]);
    assert!(there.identity().unwrap().may_lack);
    there.write(Change::CatchUp { sends: 3, runs: &[(work.run_id, 5)], at: now() }).unwrap();
    assert!(!there.identity().unwrap().may_lack);
    assert_eq!(there.journal().sent_marks(work.run_id).unwrap().len(), 5);
    drop(place(&standby.url("fleet")).exclude("yet another").unwrap());
    assert!(!there.identity().unwrap().may_lack, "it is told once");
}
