//! Indexes: they change what a search costs, and nothing in what it finds.

use std::collections::BTreeSet;

use fleetform::model::limits;
use fleetform::model::patch::Section;
use fleetform::query::{self, PathRef};
use fleetform::registry::{Change, IndexChanges, Registry};
use serde_json::{Value, json};

use super::Fresh;
use super::fleet::{Fleet, matching, observed, query};

const CONDITIONS: [&str; 9] = [
    "tags.line = '3'",
    "tags.line = 3",
    "tags.line > '2' AND tags.n < 50",
    "tags.line IN ['1', 3, true]",
    "startswith(tags.line, '1')",
    "tags.[[it's]] = 7",
    "tags.a.b >= 30",
    "properties.desired.level = 5",
    "NOT tags.line = '3'",
];

/// Devices with lines that are text, numbers or not there.
fn searched(fresh: Fresh) -> Fleet {
    let line = |n: usize| -> Value {
        let mut tags = json!({"n": n, "it's": n % 10, "a": {"b": n}});
        match n % 4 {
            0 => tags["line"] = json!((n % 7).to_string()),
            1 => tags["line"] = json!(n % 7),
            2 => tags["line"] = json!(n.is_multiple_of(3)),
            _ => {}
        }
        tags
    };
    Fleet::with_tags(fresh, &(0..100).map(line).collect::<Vec<_>>())
}

fn paths(conditions: &[&str]) -> Vec<PathRef> {
    conditions.iter().flat_map(|text| query::searched_paths(&query(text))).collect()
}

fn index(registry: &mut Registry, wanted: &[PathRef]) -> IndexChanges {
    registry.write(Change::Index { wanted, changed: 0 }).unwrap().into_indexes()
}

fn found(fleet: &Fleet) -> Vec<Vec<String>> {
    CONDITIONS.iter().map(|text| observed(&fleet.registry, &matching(text))).collect()
}

pub fn indexes_change_nothing_in_what_is_selected(fresh: Fresh) {
    let mut fleet = searched(fresh);
    let before = found(&fleet);
    assert!(before.iter().filter(|ids| !ids.is_empty()).count() > 5);
    index(&mut fleet.registry, &paths(&CONDITIONS));
    assert_eq!(found(&fleet), before);
    fleet.registry.write(Change::Index { wanted: &paths(&CONDITIONS), changed: 1_000_000 }).unwrap();
    assert_eq!(found(&fleet), before);
    index(&mut fleet.registry, &[]);
    assert_eq!(found(&fleet), before);
}

pub fn what_would_be_done_about_indexes_is_what_is_done(fresh: Fresh) {
    let mut fleet = searched(fresh);
    for wanted in [paths(&CONDITIONS), paths(&CONDITIONS[..1]), paths(&["cloud.x = 1"]), Vec::new()] {
        let planned = fleet.registry.devices().index_changes(&wanted).unwrap();
        assert_eq!(index(&mut fleet.registry, &wanted), planned);
        assert!(fleet.registry.devices().index_changes(&wanted).unwrap().is_empty());
    }
}

pub fn every_path_has_an_index_or_is_left_out(fresh: Fresh) {
    let mut fleet = searched(fresh);
    let many: Vec<String> = (0..=limits::QUERY_INDEXES_MAX).map(|n| format!("tags.k{n} = 1")).collect();
    let mut texts: Vec<&str> = many.iter().map(String::as_str).collect();
    texts.extend(["tags.[[a\\b]] = 1", "tags.k0 = 2"]);
    let wanted = paths(&texts);
    let changes = index(&mut fleet.registry, &wanted);
    assert!(changes.make.len() <= limits::QUERY_INDEXES_MAX);
    let of_changes: BTreeSet<&String> = changes.make.iter().chain(&changes.left_out).collect();
    assert_eq!(of_changes.len(), changes.make.len() + changes.left_out.len(), "each once: {changes:?}");
    let of_paths: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
    assert_eq!(of_changes, of_paths.iter().collect());
    assert_eq!(changes.drop, Vec::<String>::new());
}

pub fn indexes_that_nobody_wants_are_dropped(fresh: Fresh) {
    let mut fleet = searched(fresh);
    let mut made = index(&mut fleet.registry, &paths(&CONDITIONS)).make;
    let mut dropped = index(&mut fleet.registry, &[]).drop;
    made.sort();
    dropped.sort();
    assert_eq!(dropped, made);
}

pub fn making_way_never_fails(fresh: Fresh) {
    let mut fleet = searched(fresh);
    let sections = [None, Some(Section::Tags), Some(Section::Cloud), Some(Section::Desired), Some(Section::Reported)];
    for wanted in [Vec::new(), paths(&CONDITIONS)] {
        for section in sections {
            for devices in [0, 1, limits::INDEX_REMAKE_DEVICES_MIN, u64::MAX] {
                index(&mut fleet.registry, &wanted);
                fleet.registry.write(Change::DropIndexes { section, devices }).unwrap();
                fleet.registry.write(Change::DropIndexes { section, devices }).unwrap();
            }
        }
    }
}

pub fn making_way_changes_nothing_in_what_is_selected(fresh: Fresh) {
    let mut fleet = searched(fresh);
    let before = found(&fleet);
    index(&mut fleet.registry, &paths(&CONDITIONS));
    fleet.registry.write(Change::DropIndexes { section: None, devices: u64::MAX }).unwrap();
    assert_eq!(found(&fleet), before);
    index(&mut fleet.registry, &paths(&CONDITIONS));
    assert_eq!(found(&fleet), before);
}
