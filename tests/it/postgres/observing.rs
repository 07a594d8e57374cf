//! Two stores with the same devices answer alike: the one of SQLite, which has been held against the reference in every
//! way, and the one of PostgreSQL.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use fleetform::model::device::Device;
use fleetform::model::digest::Digest;
use fleetform::model::id::Name;
use fleetform::model::job::Action;
use fleetform::model::marks::Marks;
use fleetform::model::patch::{Assignment, Patch, Section};
use fleetform::query::{self, Query};
use fleetform::registry::postgres::PostgresPlace;
use fleetform::registry::sqlite::SqlitePlace;
use fleetform::registry::{Cell, DeviceFilter, Request, RowSink, Selection, Store, StorePlace, TABLES, Table, Touched};
use serde_json::{Value, json};

use crate::cluster::{connect, fresh_database};
use crate::sql::generated::{Dice, KEYS, TEXTS, random_condition, random_device, section};

const DEVICES: usize = 150;
const REQUESTS: usize = 400;

/// Gives devices as rows of their table.
fn rows_of(devices: &[Device]) -> impl FnMut(&mut RowSink<'_>) -> Result<(), fleetform::registry::RegistryError> {
    let optional = |text: &Option<String>| text.clone().map_or(Cell::Null, Cell::Text);
    move |sink| {
        let table: &Table = &TABLES[0];
        for device in devices {
            let cell = |name: &str| match name {
                "device_id" => Cell::Text(device.device_id.clone()),
                "device_name" => Cell::Text(device.device_name.clone()),
                "template" => optional(&device.template),
                "organization" => optional(&device.organization),
                "state" => Cell::Text(device.state.as_str().to_string()),
                "blocked" => Cell::Integer(device.blocked.into()),
                "simulated" => Cell::Integer(device.simulated.into()),
                "iot_edge" => Cell::Integer(device.iot_edge.into()),
                "connection_state" => Cell::Text(device.connection_state.as_str().to_string()),
                "last_activity" => optional(&device.last_activity.map(|at| at.to_string())),
                "edge_manifest" => optional(&device.edge_manifest),
                "tags" => Cell::Text(device.tags.to_string()),
                "cloud" => Cell::Text(device.cloud.to_string()),
                "desired" => Cell::Text(device.desired.to_string()),
                "desired_version" => Cell::Integer(device.desired_version as i64),
                "reported" => Cell::Text(device.reported.to_string()),
                "reported_version" => Cell::Integer(device.reported_version as i64),
                _ => Cell::Null,
            };
            sink(table, table.columns.iter().map(|(name, _)| cell(name)).collect())?;
        }
        Ok(())
    }
}

/// Opens a new registry with some devices.
pub fn loaded(place: &dyn StorePlace, devices: &[Device]) -> Box<dyn Store> {
    let mut store = place.open().unwrap();
    store.load(&mut rows_of(devices)).unwrap();
    store
}

fn conditions(dice: &mut Dice, most: usize) -> Vec<Query> {
    let mut found = Vec::new();
    let count = dice.below(most + 1);
    while found.len() < count {
        let depth = dice.below(3);
        found.extend(query::parse(&random_condition(dice, depth)));
    }
    found
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn touched(dice: &mut Dice) -> Touched {
    let wanted = dice.pick(&["a", "ab", "abc"]).to_string();
    match dice.below(6) {
        0 => Touched::Nothing,
        1 => {
            Touched::Template { wanted, desired_names: KEYS[..dice.below(5)].iter().map(ToString::to_string).collect() }
        }
        2 => Touched::EdgeManifest { wanted, digest: Digest::of_bytes(b"manifest") },
        3 => {
            let patch = Patch::new(json!({"a": {"b": 1}, "n": {"c": 2}}).as_object().unwrap().clone()).unwrap();
            let marks = Marks::of(&patch, |_| BTreeSet::from([name("a"), name("abc")]));
            let tags = Patch::new(json!({"a": {"b": 1}}).as_object().unwrap().clone()).unwrap();
            let action = Action::Twin { tags, desired: patch };
            Touched::Sections { assignments: marks.assignments_of(&action), marks }
        }
        _ => {
            let count = dice.below(3);
            let path =
                |dice: &mut Dice| (0..=dice.below(2)).map(|_| KEYS[dice.below(KEYS.len())].to_string()).collect();
            let mut one = || {
                let section = [Section::Tags, Section::Cloud, Section::Desired, Section::Reported][dice.below(4)];
                (section, Assignment { path: path(dice), value: json!(1) })
            };
            let assignments = (0..=count).map(|_| one()).collect();
            Touched::Sections { assignments, marks: Marks::default() }
        }
    }
}

fn request(dice: &mut Dice, devices: &[Device]) -> Request {
    let text = |dice: &mut Dice| dice.pick(&TEXTS).to_string();
    let within = (0..dice.below(8).saturating_sub(6)).map(|_| text(dice)).collect();
    let (selection, passed_over) = if dice.below(4) == 0 {
        let known = (0..dice.below(20)).map(|_| devices[dice.below(devices.len())].device_id.clone());
        let ids: BTreeSet<String> = known.chain(["nobody", "it's"].map(str::to_string)).collect();
        (Selection::Listed(ids.into_iter().collect()), Vec::new())
    } else {
        let template = (dice.below(5) == 0).then(|| text(dice));
        let selection = Selection::Matching { template, conditions: conditions(dice, 2) };
        (selection, (0..dice.below(4)).map(|_| conditions(dice, 2)).collect())
    };
    let mismatching = ["a", "ab"][..dice.below(3)].iter().map(|text| name(text)).collect();
    Request { touched: touched(dice), mismatching, passed_over, ..Request::new(selection, within) }
}

fn devices_of(store: &dyn Store, filter: &DeviceFilter) -> Vec<Device> {
    let mut found = Vec::new();
    let mut visit = |device| {
        found.push(device);
        ControlFlow::Continue(())
    };
    store.devices().each(filter, &mut visit).unwrap();
    found
}

#[test]
fn both_stores_answer_alike() {
    let mut dice = Dice(0x5EED_F1EE_7F0B_0003);
    let devices: Vec<Device> = (0..DEVICES)
        .map(|at| {
            let edge_manifest = (dice.below(3) == 0).then(|| dice.pick(&["a", "ab", "it's"]).to_string());
            Device { edge_manifest, desired: section(&mut dice, 3), ..random_device(&mut dice, at) }
        })
        .collect();
    let (folder, url) = (crate::world::folder(), fresh_database());
    let sqlite = loaded(&SqlitePlace::new(folder.path().join("fleet.db"), "acme"), &devices);
    let postgres = loaded(&PostgresPlace::new(&url, "acme").unwrap(), &devices);
    let (mut ids, mut entries, mut strays, mut counted) = (0, 0, 0, 0);
    for at in 0..REQUESTS {
        let request = request(&mut dice, &devices);
        let (one, two) = (sqlite.devices(), postgres.devices());
        let expect = one.observe(&request).unwrap();
        assert_eq!(two.observe(&request).unwrap(), expect, "{at}: {request:?}");
        assert_eq!(two.count(&request).unwrap(), one.count(&request).unwrap(), "{at}: {request:?}");
        assert_eq!(two.selects_all(&request).unwrap(), one.selects_all(&request).unwrap(), "{at}: {request:?}");
        let filter = DeviceFilter {
            query: conditions(&mut dice, 1).pop(),
            organization: (dice.below(5) == 0).then(|| dice.pick(&TEXTS).to_string()),
            after: (dice.below(2) == 0).then(|| dice.pick(&TEXTS).to_string()),
            limit: (dice.below(2) == 0).then(|| dice.below(30) as u64),
        };
        assert_eq!(devices_of(&*postgres, &filter), devices_of(&*sqlite, &filter), "{at}: {filter:?}");
        ids += expect.ids.len();
        entries += expect.table.len();
        strays += expect.strays.names.len();
        counted += expect.passed_over.iter().sum::<u64>();
    }
    assert!(ids > 5 * REQUESTS && entries > 2 * REQUESTS, "{ids} ids, {entries} entries");
    assert!(strays > 20 && counted > REQUESTS as u64, "{strays} strays, {counted} passed over");
}

/// What is asked for in several statements is of one moment, whatever others write meanwhile.
#[test]
fn an_answer_is_of_one_moment() {
    let devices: Vec<Device> = (0..2_500)
        .map(|at| Device { tags: json!({"n": at}), ..crate::sql::generated::device(&format!("d-{at:04}")) })
        .collect();
    let url = fresh_database();
    let store = loaded(&PostgresPlace::new(&url, "acme").unwrap(), &devices);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(connect(&url)).unwrap();
    let filter = DeviceFilter { query: Some(query::parse("tags.n % 2 = 0").unwrap()), ..DeviceFilter::default() };
    let mut found: Vec<Value> = Vec::new();
    let mut visit = |device: Device| {
        if found.is_empty() {
            // After it was decided which devices there are, and before most of them are read.
            let changed = client.batch_execute("UPDATE fleetform.device SET tags = '{\"n\": 1}'");
            runtime.block_on(changed).unwrap();
            let count = store.devices().count(&filter.request()).unwrap();
            assert_eq!(count.selected, 1_250, "the snapshot is that of the outer reading");
        }
        found.push(device.tags["n"].clone());
        ControlFlow::Continue(())
    };
    store.devices().each(&filter, &mut visit).unwrap();
    assert_eq!(found, (0..2_500).step_by(2).map(Value::from).collect::<Vec<_>>());
    assert_eq!(store.devices().count(&filter.request()).unwrap().selected, 0);
}
