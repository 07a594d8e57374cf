//! What a plan sees of the devices of a job, and how many there are.

use std::collections::BTreeSet;

use fleetform::model::digest::Digest;
use fleetform::model::job::Action;
use fleetform::model::marks::Marks;
use fleetform::model::observation::{Before, Mismatch, Observation, Strays};
use fleetform::model::patch::{Assignment as PathAssignment, Patch, Section};
use fleetform::registry::{Assignment, Change, Chunk, DeviceFilter, ImportSpec, Request, Selection, Touched};
use serde_json::{Map, Value, json};

use super::Fresh;
use super::fleet::{Fleet, hub, hub_spec, listed, matching, name, now, observed, query, spec, texts};

/// Returns a request for all devices, and the values at the paths of a patch.
fn touching(section: Section, patch: &Value) -> Request {
    let assignments = Patch::new(patch.as_object().unwrap().clone()).unwrap().assignments();
    Request { touched: Touched::section(section, assignments), ..Request::all() }
}

fn observe(fleet: &Fleet, request: &Request) -> Observation {
    fleet.registry.devices().observe(request).unwrap()
}

/// Returns the entry of each device, in the order of their ids.
fn entries(found: &Observation) -> Vec<&Before> {
    assert_eq!(found.before.len(), found.ids.len());
    found.before.iter().map(|at| &found.table[*at as usize]).collect()
}

/// Returns the first value of each device.
fn values(found: &Observation) -> Vec<Option<Value>> {
    entries(found).iter().map(|entry| entry.values[0].clone()).collect()
}

/// Devices `d-0` to `d-5` of an organization each, in the order of the paths.
fn organized(fresh: Fresh) -> Fleet {
    let mut fleet = Fleet::new(fresh);
    for (n, path) in ["acme", "acme/eu", "acme/eu/nl", "acme-x", "acme/eu2", "acme0"].iter().enumerate() {
        let spec = ImportSpec { organization: Some(path.to_string()), ..spec(&format!("i{n}")) };
        fleet.import(&spec, &format!("IOTC_DEVICEID\nd-{n}\n"));
    }
    fleet
}

/// Lamps `l-1` and `l-2`, the heater `h-1` and the device `n-1` without a template; `l-1` and `n-1` have a line.
fn of_templates(fresh: Fresh) -> Fleet {
    let mut fleet = Fleet::new(fresh);
    for (at, (template, rows)) in
        [(Some("lamp"), "l-1,1\nl-2,\n"), (Some("heater"), "h-1,\n"), (None, "n-1,2\n")].into_iter().enumerate()
    {
        let spec = ImportSpec { template: template.map(str::to_string), ..spec(&format!("i{at}")) };
        fleet.import(&spec, &format!("IOTC_DEVICEID,TAG.line\n{rows}"));
    }
    fleet
}

/// Returns the request for devices of a template that meet a condition.
fn of_template(template: &str, condition: &str) -> Request {
    let selection = Selection::Matching { template: Some(template.to_string()), conditions: vec![query(condition)] };
    Request::new(selection, Vec::new())
}

pub fn an_observation_has_the_ids_in_order(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    fleet.import(&spec("a"), "IOTC_DEVICEID,TAG.n\nd-3,1\nd-1,1\nd-2,2\n");
    fleet.import(&spec("b"), "IOTC_DEVICEID,TAG.n\nd-0,1\n");
    assert_eq!(observed(&fleet.registry, &matching("tags.n = '1'")), ["d-0", "d-1", "d-3"]);
}

pub fn devices_that_are_alike_share_an_entry(fresh: Fresh) {
    let twins = [json!({"level": 1}), json!({}), json!({"level": 1, "x": 2}), json!({"level": "1"}), json!({"x": 3})];
    let fleet = Fleet::with_desired(fresh, &twins);
    let found = observe(&fleet, &touching(Section::Desired, &json!({"level": 3})));
    assert_eq!(found.before, [0, 1, 0, 2, 1]);
    let entry = |value| Before { blocked: false, mismatch: None, values: vec![value] };
    assert_eq!(found.table, [entry(Some(json!(1))), entry(None), entry(Some(json!("1")))]);
    // Nothing is touched: all are alike.
    let found = observe(&fleet, &Request::all());
    assert_eq!((found.before, found.table.len()), (vec![0; 5], 1));
}

pub fn values_are_those_at_the_touched_paths(fresh: Fresh) {
    let twin = json!({"a": {"b": [1, {"c": 2.0}], "d": "x"}, "e": {"f": 1}, "g": false});
    let fleet = Fleet::with_tags(fresh, &[twin]);
    let patch = json!({"a": {"b": 0, "d": null}, "e": {}, "g": 1, "h": 1});
    let found = observe(&fleet, &touching(Section::Tags, &patch));
    let expect = [Some(json!([1, {"c": 2.0}])), Some(json!("x")), Some(json!({"f": 1})), Some(json!(false)), None];
    assert_eq!(found.table[0].values, expect);
    let found = observe(&fleet, &touching(Section::Cloud, &patch));
    assert_eq!(found.table[0].values, [None, None, None, None, None]);
}

pub fn a_path_through_what_is_no_object_is_absent(fresh: Fresh) {
    let twins = [json!({"level": 1}), json!({"level": "x"}), json!({"level": [{"a": 1}]}), json!({"level": {"a": 1}})];
    let fleet = Fleet::with_desired(fresh, &twins);
    let found = observe(&fleet, &touching(Section::Desired, &json!({"level": {"a": 2}})));
    assert_eq!(values(&found), [None, None, None, Some(json!(1))]);
}

pub fn a_blocked_device_is_told(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    fleet.block(&["d-0001"]);
    let found = observe(&fleet, &Request::all());
    let blocked: Vec<bool> = entries(&found).iter().map(|entry| entry.blocked).collect();
    assert_eq!(blocked, [false, true, false]);
}

pub fn a_template_that_does_not_fit_is_told(fresh: Fresh) {
    let fleet = of_templates(fresh);
    let mismatching = BTreeSet::from([name("heater"), name("pump")]);
    let found = observe(&fleet, &Request { mismatching, ..touching(Section::Desired, &json!({"level": 3})) });
    let told: Vec<Option<Mismatch>> = entries(&found).iter().map(|entry| entry.mismatch.clone()).collect();
    assert_eq!(told, [Some(Mismatch::Template(name("heater"))), None, None, None]);
}

pub fn a_mark_counts_on_devices_of_its_templates(fresh: Fresh) {
    let mut fleet = of_templates(fresh);
    let patch = Patch::new(json!({"fan": {"on": true}}).as_object().unwrap().clone()).unwrap();
    let marks = Marks::of(&patch, |_| BTreeSet::from([name("heater"), name("lamp")]));
    let action = Action::Property(patch);
    let touched = || Touched::Sections { assignments: marks.assignments_of(&action), marks: marks.clone() };
    let marks_of = |fleet: &Fleet| values(&observe(fleet, &Request { touched: touched(), ..Request::all() }));
    let has_one = Some(json!("c"));
    assert_eq!(marks_of(&fleet), [None, None, None, has_one.clone()], "the last has no template");
    assert_eq!(fleet.write(Section::Desired, json!({"fan": {"__t": "c"}}), None).len(), 4);
    assert_eq!(marks_of(&fleet), vec![has_one; 4]);
}

pub fn paths_of_two_sections_are_looked_at_together(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let line = |id: &str, ring: &str, level: u64| json!({"id": id, "tags": {"ring": ring}, "properties": {"desired": {"level": level}}});
    fleet.import(&hub_spec("a"), &hub(&[line("d-1", "a", 1), line("d-2", "a", 2), line("d-3", "b", 2)]));
    let at = |section, path: &str| (section, PathAssignment { path: vec![path.to_string()], value: json!(2) });
    let assignments = vec![at(Section::Tags, "ring"), at(Section::Desired, "level"), at(Section::Tags, "level")];
    let touched = Touched::Sections { assignments, marks: Marks::default() };
    let found = observe(&fleet, &Request { touched, ..Request::all() });
    let told: Vec<Vec<Option<Value>>> = entries(&found).iter().map(|entry| entry.values.clone()).collect();
    let expect = [("a", 1), ("a", 2), ("b", 2)].map(|(ring, level)| vec![Some(json!(ring)), Some(json!(level)), None]);
    assert_eq!(told, expect);
}

pub fn a_device_that_is_no_edge_device_is_told(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let line = |id: &str, is_edge: bool| json!({"id": id, "capabilities": {"iotEdge": is_edge}});
    fleet.import(&hub_spec("a"), &hub(&[line("d-1", true), line("d-2", false)]));
    let touched = Touched::EdgeManifest { wanted: "m".to_string(), digest: Digest::of_bytes(b"m") };
    let found = observe(&fleet, &Request { touched, ..Request::all() });
    let told: Vec<Option<Mismatch>> = entries(&found).iter().map(|entry| entry.mismatch.clone()).collect();
    assert_eq!(told, [None, Some(Mismatch::NotEdge)]);
}

pub fn a_template_job_sees_templates(fresh: Fresh) {
    let fleet = of_templates(fresh);
    let touched = Touched::Template { wanted: "lamp".to_string(), desired_names: BTreeSet::new() };
    let found = observe(&fleet, &Request { touched, ..Request::all() });
    assert_eq!(values(&found), [Some(json!("heater")), Some(json!("lamp")), Some(json!("lamp")), None]);
}

pub fn an_edge_job_sees_manifests_and_digests(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 2);
    let (run_id, digest) = (fleet.run("edge"), Digest::of_bytes(b"m"));
    let assignment = Assignment::EdgeManifest { name: "m".to_string(), digest };
    let devices = [(1, "d-0001")];
    let chunk = Chunk { run_id, devices: &devices, failures_left: None, awaits_acknowledgement: false, now: now() };
    fleet.registry.write(Change::Write { assignment: &assignment, chunk }).unwrap();
    let touched = Touched::EdgeManifest { wanted: "m".to_string(), digest };
    let found = observe(&fleet, &Request { touched, ..Request::all() });
    let told: Vec<Vec<Option<Value>>> = entries(&found).iter().map(|entry| entry.values.clone()).collect();
    assert_eq!(told, [vec![None, None], vec![Some(json!("m")), Some(json!(digest.to_string()))]]);
}

pub fn properties_without_a_place_in_the_template_are_counted(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let line = |n: usize| {
        let names = ["level", "b", "a", "c", "d", "e", "f", "it's"];
        let desired: Map<String, Value> = names.iter().take(n).map(|name| (name.to_string(), json!(1))).collect();
        json!({"id": format!("d-{n}"), "properties": {"desired": desired}})
    };
    let of_lamp = ImportSpec { template: Some("lamp".to_string()), ..hub_spec("b") };
    fleet.import(&hub_spec("a"), &hub(&(1..=8).map(line).collect::<Vec<_>>()));
    fleet.import(&of_lamp, &hub(&[json!({"id": "e-1", "properties": {"desired": {"a": 1}}})]));
    fleet.block(&["d-3"]);
    let touched =
        Touched::Template { wanted: "lamp".to_string(), desired_names: BTreeSet::from(["level".to_string()]) };
    let found = observe(&fleet, &Request { touched, ..Request::all() });
    // Neither the blocked device counts nor the one that has the template already.
    let stray = |name: &str, count| (name.to_string(), count);
    let names = vec![stray("b", 6), stray("a", 5), stray("c", 5), stray("d", 4), stray("e", 3)];
    assert_eq!(found.strays, Strays { names, more: 2 });
}

pub fn awkward_keys_are_found(fresh: Fresh) {
    let keys = ["it's", "say\"x\"", "back\\slash", "ü", "a-b", "0", "[0]", "*", "%", "a/b", "true", "\u{1F600}"];
    for key in keys {
        let twin = json!({key: {"inner": 1}});
        let fleet = Fleet::with_desired(fresh, &[twin, json!({})]);
        let found = observe(&fleet, &touching(Section::Desired, &json!({key: {"inner": 2}})));
        assert_eq!(values(&found), [Some(json!(1)), None], "{key}");
    }
}

pub fn many_values_are_told_together_and_counts_stay_exact(fresh: Fresh) {
    let twins: Vec<Value> = (0..5_000).map(|n| json!({"level": n})).collect();
    let fleet = Fleet::with_desired(fresh, &twins);
    // The one that is as desired comes late, after the table is full.
    let found = observe(&fleet, &touching(Section::Desired, &json!({"level": 4_999})));
    assert!(found.table.len() <= 4_096 + 3, "{}", found.table.len());
    assert_eq!(found.before.len(), 5_000);
    assert_eq!(found.table[found.before[4_998] as usize].values, [Some(json!("(various)"))]);
    let unchanged = found.before.iter().filter(|at| found.table[**at as usize].values == [Some(json!(4_999))]).count();
    assert_eq!(unchanged, 1);
}

pub fn devices_that_are_named_and_not_there_are_missing(fresh: Fresh) {
    let fleet = Fleet::with_devices(fresh, 2);
    let selection = Selection::Listed(texts(&["d-0001", "x-1", "x-2"]));
    let found = observe(&fleet, &Request::new(selection, Vec::new()));
    assert_eq!(found.ids.iter().collect::<Vec<_>>(), ["d-0001"]);
    assert_eq!(found.missing, ["x-1", "x-2"]);
}

pub fn an_organization_has_the_devices_below_it_and_no_others(fresh: Fresh) {
    let fleet = organized(fresh);
    let below = |path: &str| {
        let filter = DeviceFilter { organization: Some(path.to_string()), ..DeviceFilter::default() };
        let count = fleet.registry.devices().count(&filter.request()).unwrap().selected;
        assert_eq!(observed(&fleet.registry, &filter.request()).len() as u64, count);
        count
    };
    assert_eq!((below("acme"), below("acme/eu"), below("acme/eu/nl"), below("acm")), (4, 2, 1, 0));
}

pub fn each_bound_counts(fresh: Fresh) {
    let fleet = organized(fresh);
    let within = |paths: &[&str]| observed(&fleet.registry, &Request { within: texts(paths), ..Request::all() });
    assert_eq!(within(&["acme", "acme/eu"]), ["d-1", "d-2"]);
    assert_eq!(within(&["acme/eu", "acme/eu2"]), Vec::<String>::new());
    let selection = Selection::Listed(texts(&["d-1", "d-3"]));
    assert_eq!(observed(&fleet.registry, &Request::new(selection, texts(&["acme"]))), ["d-1"]);
}

pub fn a_template_bounds_a_selection(fresh: Fresh) {
    let fleet = of_templates(fresh);
    assert_eq!(observed(&fleet.registry, &of_template("lamp", "*")), ["l-1", "l-2"]);
    assert_eq!(observed(&fleet.registry, &of_template("lamp", "is_defined(tags.line)")), ["l-1"]);
    assert_eq!(observed(&fleet.registry, &of_template("pump", "*")), Vec::<String>::new());
}

pub fn every_condition_counts(fresh: Fresh) {
    let fleet = Fleet::with_tags(fresh, &[json!({"a": 1}), json!({"a": 1, "b": 1}), json!({"b": 1})]);
    let conditions = vec![query("tags.a = 1"), query("tags.b = 1")];
    let request = Request::new(Selection::Matching { template: None, conditions }, Vec::new());
    assert_eq!(observed(&fleet.registry, &request), ["d-0001"]);
    let request = Request { passed_over: vec![vec![query("tags.a = 1"), query("NOT is_defined(tags.b)")]], ..request };
    assert_eq!(observe(&fleet, &request).passed_over, [1]);
}

pub fn devices_that_are_passed_over_are_counted(fresh: Fresh) {
    let tags = [json!({"line": 1}), json!({"line": 2}), json!({}), json!({"x": 1}), json!({"line": "1"})];
    let fleet = Fleet::with_tags(fresh, &tags);
    let questions = vec![vec![query("NOT is_defined(tags.line)")], vec![query("is_defined(tags.line)")]];
    let request = Request { passed_over: questions, ..matching("tags.line != 2") };
    let found = observe(&fleet, &request);
    assert_eq!(found.ids.iter().collect::<Vec<_>>(), ["d-0000"]);
    // A device that is selected is not passed over.
    assert_eq!(found.passed_over, [2, 2]);
    assert_eq!(found.before.len(), 1, "only those that are selected have an entry");
}

pub fn devices_are_passed_over_within_the_bounds_only(fresh: Fresh) {
    let fleet = of_templates(fresh);
    let questions = vec![vec![query("NOT is_defined(tags.line)")]];
    let request = Request { passed_over: questions.clone(), ..of_template("lamp", "tags.line = '1'") };
    assert_eq!(observe(&fleet, &request).passed_over, [1]);
    let fleet = organized(fresh);
    let request = Request { passed_over: questions, within: texts(&["acme/eu"]), ..matching("deviceId = 'd-1'") };
    assert_eq!(observe(&fleet, &request).passed_over, [1]);
}

pub fn a_device_answers_several_questions(fresh: Fresh) {
    let fleet = Fleet::with_tags(fresh, &[json!({}), json!({"a": 1}), json!({"b": 1}), json!({"a": 1, "b": 1})]);
    let lacks = |path: &str| vec![query(&format!("NOT is_defined(tags.{path})"))];
    // As many as a condition may have, and each has its own count.
    let questions = [lacks("a"), lacks("b"), lacks("c"), lacks("a"), lacks("c"), lacks("b"), lacks("a"), lacks("c")];
    let request = Request { passed_over: questions.to_vec(), ..matching("tags.a = tags.b") };
    assert_eq!(observe(&fleet, &request).passed_over, [2, 2, 3, 2, 3, 2, 2, 3]);
}

pub fn a_count_is_that_of_the_observation(fresh: Fresh) {
    let fleet = of_templates(fresh);
    let questions = vec![vec![query("NOT is_defined(tags.line)")], vec![query("NOT is_defined(template)")]];
    let listed_ones = Request::new(Selection::Listed(texts(&["l-1", "x"])), Vec::new());
    let requests = [
        Request::all(),
        listed_ones,
        of_template("lamp", "tags.line = '1'"),
        matching("tags.line = 'none'"),
        Request { passed_over: questions.clone(), ..matching("tags.line = '1'") },
        Request { passed_over: questions, ..of_template("lamp", "tags.line = '1'") },
    ];
    for request in &requests {
        let (found, count) = (observe(&fleet, request), fleet.registry.devices().count(request).unwrap());
        assert_eq!((count.selected, count.passed_over), (found.ids.len() as u64, found.passed_over), "{request:?}");
    }
}

pub fn a_selection_of_all_is_told(fresh: Fresh) {
    let fleet = of_templates(fresh);
    let is_all = |request: &Request| fleet.registry.devices().selects_all(request).unwrap();
    assert!(is_all(&Request::all()));
    assert!(is_all(&matching("is_defined(deviceId)")));
    assert!(is_all(&matching("tags.line = '1' OR tags.line != '1' OR NOT is_defined(tags.line)")));
    assert!(is_all(&Request::new(Selection::Listed(texts(&["h-1", "l-1", "l-2", "n-1"])), Vec::new())));
    assert_eq!(listed(&fleet.registry, &DeviceFilter::default()).len(), 4);
}

pub fn a_selection_that_lacks_one_is_not_of_all(fresh: Fresh) {
    let fleet = of_templates(fresh);
    let is_all = |request: &Request| fleet.registry.devices().selects_all(request).unwrap();
    // Undefined is not true, and no organization is not below one.
    assert!(!is_all(&matching("tags.line = '1' OR tags.line != '1'")));
    assert!(!is_all(&of_template("lamp", "*")));
    assert!(!is_all(&Request { within: texts(&["acme"]), ..Request::all() }));
    assert!(!is_all(&Request::new(Selection::Listed(texts(&["h-1", "l-1", "l-2"])), Vec::new())));
}
