//! Kept files: what the results branch has and no journal can make again.

use std::ops::ControlFlow;

use fleetform::registry::{Change, KeptFile, RegistryError};

use super::Fresh;
use super::fleet::Fleet;

/// Why no more files came.
#[derive(Debug)]
enum Failure {
    Registry(RegistryError),
    Gone,
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        Failure::Registry(error)
    }
}

fn file(path: &str, content: &str) -> KeptFile {
    KeptFile { path: path.to_string(), content: content.as_bytes().to_vec(), blob_id: None }
}

fn keep(fleet: &mut Fleet, files: Vec<KeptFile>) {
    fleet.registry.keep_files::<RegistryError>(files.into_iter().map(Ok)).unwrap();
}

/// Returns the kept files in the order in which they are visited.
fn kept(fleet: &Fleet, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let keep = |path: &str, content: &[u8]| -> Result<(), RegistryError> {
        files.push((path.to_string(), String::from_utf8(content.to_vec()).unwrap()));
        Ok(())
    };
    fleet.registry.each_kept_file(wanted, keep).unwrap();
    files
}

fn pair(path: &str, content: &str) -> (String, String) {
    (path.to_string(), content.to_string())
}

pub fn files_are_kept_in_the_place_of_older_ones(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    keep(&mut fleet, vec![file("imports/a", "old"), file("imports/b", "b")]);
    keep(&mut fleet, vec![file("imports/a", "new")]);
    assert_eq!(kept(&fleet.reopened(), |_| true), [pair("imports/a", "new"), pair("imports/b", "b")]);
}

pub fn all_files_are_kept_or_none(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    keep(&mut fleet, vec![file("imports/a", "old")]);
    let files = [Ok(file("imports/a", "new")), Ok(file("imports/b", "b")), Err(Failure::Gone), Ok(file("c", "c"))];
    match fleet.registry.keep_files(files.into_iter()) {
        Err(Failure::Gone) => {}
        Err(Failure::Registry(error)) => panic!("{error:?}"),
        Ok(()) => panic!("a file is missing"),
    }
    assert_eq!(kept(&fleet, |_| true), [pair("imports/a", "old")]);
    keep(&mut fleet, vec![file("imports/b", "b")]);
    assert_eq!(kept(&fleet, |_| true), [pair("imports/a", "old"), pair("imports/b", "b")]);
}

pub fn files_are_sorted_and_picked(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    // By their bytes: a `-` comes before a `/`, and a capital letter before a small one.
    let paths = ["imports/a/1", "imports/a-b/1", "imports/A/1", "lease.json", "imports/a/10", "imports/a/2"];
    keep(&mut fleet, paths.iter().map(|path| file(path, "")).collect());
    let picked: Vec<String> =
        kept(&fleet, |path| path.starts_with("imports/")).into_iter().map(|(path, _)| path).collect();
    assert_eq!(picked, ["imports/A/1", "imports/a-b/1", "imports/a/1", "imports/a/10", "imports/a/2"]);
}

pub fn a_visit_of_files_ends_when_it_breaks(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    keep(&mut fleet, vec![file("a", ""), file("b", ""), file("c", "")]);
    let mut seen = Vec::new();
    let mut visit = |path: &str, _: &[u8]| {
        seen.push(path.to_string());
        if path == "b" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    fleet.registry.branch_copy().each_file(&|_| true, &mut visit).unwrap();
    assert_eq!(seen, ["a", "b"]);
}

pub fn files_of_journaled_runs_are_left_out(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    let run_id = fleet.run("dim");
    fleet.registry.write(Change::Confirm { run_id }).unwrap();
    fleet.run("unconfirmed");
    let paths = [
        "claims/dim/1.json",
        "claims/dim/2.json",
        "claims/lost/1.json",
        "runs/dim/1/devices-00001.csv",
        "runs/dim/1/run.json",
        "runs/dim/10/run.json",
        "runs/lost/1/run.json",
        "runs/unconfirmed/1/run.json",
    ];
    keep(&mut fleet, paths.iter().map(|path| file(path, "{}")).collect());
    let seen: Vec<String> = kept(&fleet, |_| true).into_iter().map(|(path, _)| path).collect();
    assert_eq!(seen, ["claims/dim/2.json", "claims/lost/1.json", "runs/dim/10/run.json", "runs/lost/1/run.json"]);
}

pub fn files_have_the_ids_that_they_came_with(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let with_id = |path, id: &str| KeptFile { blob_id: Some(id.to_string()), ..file(path, "") };
    keep(&mut fleet, vec![with_id("a", "id-1"), with_id("b", "id-2"), file("c", "")]);
    keep(&mut fleet, vec![with_id("c", "id-3"), file("b", "")]);
    let ids: Vec<(String, Option<String>)> = fleet.registry.branch_copy().file_ids().unwrap().into_iter().collect();
    let id = |path: &str, id: Option<&str>| (path.to_string(), id.map(str::to_string));
    assert_eq!(ids, [id("a", Some("id-1")), id("b", None), id("c", Some("id-3"))]);
}
