//! Two daemons of one registry: a broker lets one client of its name in, so one of them listens.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use fleetform::model::device::ConnectionState;
use fleetform::registry::postgres::PostgresPlace;
use fleetform::registry::sqlite::SqlitePlace;
use fleetform::registry::{Registry, StorePlace};
use serde_json::json;

use super::{Gadget, world};
use crate::broker::Broker;
use crate::cluster::fresh_database;
use crate::servers::{Process, wait_until};
use crate::world::fleetform;

#[test]
fn one_of_two_daemons_listens_and_the_other_one_takes_over() {
    let folder = crate::world::folder();
    check(&format!("sqlite:{}", folder.path().join("fleet.db").display()));
    check(&fresh_database());
}

fn check(registry: &str) {
    let broker = Broker::start();
    let world = world(&broker, 2);
    let clone = world.file(".git/clone");
    git2::build::RepoBuilder::new().clone(world.path().to_str().unwrap(), &clone).unwrap();
    let log = |folder: &Path| folder.join(".git/two.log");
    let said = |folder: &Path| fs::read_to_string(log(folder)).unwrap_or_default();
    let start = |folder: &Path| {
        let mut command = fleetform();
        command.arg("-C").arg(folder).args(["watch", "--interval", "1s", "--registry", registry]);
        Process::start(command.stdout(Stdio::null()).stderr(File::create(log(folder)).unwrap()))
    };
    let found = || {
        let place: Box<dyn StorePlace> = match registry.strip_prefix("sqlite:") {
            Some(path) => Box::new(SqlitePlace::new(path.into(), "acme")),
            None => Box::new(PostgresPlace::new(registry, "acme").unwrap()),
        };
        Registry::new(place.open_for_reading().ok()?).devices().get("d-001").ok()?
    };
    let lux = || found()?.reported.get("lux")?.as_i64();
    let mut one = start(world.path());
    let running = Gadget::obedient(broker.port, "d-001");
    wait_until("the first daemon listens", || {
        found().is_some_and(|device| device.connection_state == ConnectionState::Connected)
    });
    let _two = start(&clone);
    wait_until("the second one stands by", || said(&clone).contains("standing by: another daemon listens"));
    for n in 1..20 {
        running.gadget.report(&json!({"lux": n}));
        wait_until("the first one listens still", || lux() == Some(n));
    }
    let connected = |folder: &Path| said(folder).matches("connected to the broker").count();
    assert_eq!((connected(world.path()), connected(&clone)), (1, 0), "{}", said(world.path()));
    let status = fs::read_to_string(clone.join(".fleetform/status.json")).unwrap();
    assert!(status.contains("\"stands_by\":true"), "{status}");
    one.kill();
    running.gadget.report(&json!({"lux": 99}));
    wait_until("the second one listens", || lux() == Some(99));
    assert_eq!(connected(&clone), 1, "{}", said(&clone));
}
