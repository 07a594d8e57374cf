//! Devices one at a time and in lists, as they are shown and exported.

use std::ops::ControlFlow;

use fleetform::model::device::{Authentication, Device, IOTC_COLUMNS};
use fleetform::registry::{DeviceFilter, DeviceKeys, ImportSpec, Request};
use serde_json::{Value, json};

use super::Fresh;
use super::fleet::{Fleet, hub, hub_spec, listed, observed, query, spec, texts};

fn ids(fleet: &Fleet, filter: &DeviceFilter) -> Vec<String> {
    listed(&fleet.registry, filter).into_iter().map(|device| device.device_id).collect()
}

/// Devices `d-0000` to `d-0009` whose tag `n` is their number, the odd ones in another organization.
fn numbered(fresh: Fresh) -> Fleet {
    let mut fleet = Fleet::new(fresh);
    for (at, organization) in ["acme/eu", "acme/us"].into_iter().enumerate() {
        let spec = ImportSpec { organization: Some(organization.to_string()), ..spec(&format!("i{at}")) };
        let rows: String = (0..10).filter(|n| n % 2 == at).map(|n| format!("d-{n:04},{n}\n")).collect();
        fleet.import(&spec, &format!("IOTC_DEVICEID,TAG.n\n{rows}"));
    }
    fleet
}

/// The order of a dictionary, or of letters whatever their case, is another one.
pub fn devices_are_in_the_order_of_the_bytes_of_their_ids(fresh: Fresh) {
    let mut sorted = ["a", "B", "a-1", "a1", "A", "b", "Z_9", "a:1", "$x", "'", "a.b", "aB", "ab", "(1)", "a_1"];
    let mut fleet = Fleet::new(fresh);
    let lines: Vec<_> = sorted.iter().map(|id| json!({"id": id})).collect();
    assert_eq!(fleet.import(&hub_spec("a"), &hub(&lines)).errors, []);
    sorted.sort_unstable();
    assert_eq!(fleet.ids(), sorted);
    assert_eq!(observed(&fleet.registry, &Request::all()), sorted);
    for (at, id) in sorted.iter().enumerate() {
        let filter = DeviceFilter { after: Some(id.to_string()), ..DeviceFilter::default() };
        assert_eq!(ids(&fleet, &filter), sorted[at + 1..], "after {id}");
    }
}

pub fn a_list_is_limited(fresh: Fresh) {
    let fleet = numbered(fresh);
    let limited = |limit| ids(&fleet, &DeviceFilter { limit: Some(limit), ..DeviceFilter::default() });
    assert_eq!(limited(3), ["d-0000", "d-0001", "d-0002"]);
    assert_eq!((limited(0).len(), limited(10).len(), limited(11).len()), (0, 10, 10));
}

pub fn a_list_goes_on_after_an_id(fresh: Fresh) {
    let fleet = numbered(fresh);
    let after = |id: &str| ids(&fleet, &DeviceFilter { after: Some(id.to_string()), ..DeviceFilter::default() });
    assert_eq!(after("d-0007"), ["d-0008", "d-0009"]);
    assert_eq!(after("d-00075"), ["d-0008", "d-0009"], "it need not be there");
    assert_eq!((after("d-0009").len(), after("").len()), (0, 10));
}

pub fn a_list_is_of_what_a_condition_selects(fresh: Fresh) {
    let fleet = numbered(fresh);
    let filter = DeviceFilter { query: Some(query("tags.n > '2'")), ..DeviceFilter::default() };
    let page = DeviceFilter { after: Some("d-0004".to_string()), limit: Some(2), ..filter.clone() };
    assert_eq!(ids(&fleet, &page), ["d-0005", "d-0006"]);
    // A count has no pages.
    assert_eq!(fleet.registry.devices().count(&page.request()).unwrap().selected, 7);
}

pub fn a_list_is_of_an_organization(fresh: Fresh) {
    let fleet = numbered(fresh);
    let filter = DeviceFilter {
        query: Some(query("tags.n > '2'")),
        organization: Some("acme/us".to_string()),
        ..DeviceFilter::default()
    };
    assert_eq!(ids(&fleet, &filter), ["d-0003", "d-0005", "d-0007", "d-0009"]);
}

pub fn a_list_ends_when_it_breaks(fresh: Fresh) {
    let fleet = numbered(fresh);
    let mut seen = Vec::new();
    let mut visit = |device: Device| {
        seen.push(device.device_id);
        if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    fleet.registry.devices().each(&DeviceFilter::default(), &mut visit).unwrap();
    assert_eq!(seen, ["d-0000", "d-0001"]);
}

pub fn a_device_is_got_by_its_id(fresh: Fresh) {
    let fleet = numbered(fresh);
    assert_eq!(fleet.device("d-0003").tags, json!({"n": "3"}));
    assert_eq!(fleet.device("d-0003"), listed(&fleet.registry, &DeviceFilter::default())[3]);
    assert_eq!(fleet.registry.devices().get("d-0010").unwrap(), None);
    assert_eq!(fleet.registry.devices().get("D-0003").unwrap(), None, "letters are told apart by their case");
}

pub fn a_twin_reads_back_as_it_was_written(fresh: Fresh) {
    let twin = json!({
        "texts": ["", "it's", "\"", "\\", "\n\t\u{1f}", "é\u{1F600}", "null", "{}"],
        "numbers": [0, -1, 4_503_599_627_370_495_i64, -4_503_599_627_370_496_i64, 1.0, 0.1, 1e300, 5e-324, -0.5],
        "others": [true, false, null, [], {}, [[1], {"a": null}]],
        "nested": {"a": {"b": {"c": {}}}, "it's": {"\"": {"\\": 1}}},
        "0": 1, "-": 2, "[0]": 3, "*": 4, "%": 5, "é": 6, "A": 7, "a": 8,
    });
    let fleet = Fleet::with_desired(fresh, std::slice::from_ref(&twin));
    let found = fleet.device("d-0000").desired;
    assert_eq!(found, twin);
    let whole = |value: &Value| value["numbers"].to_string();
    assert_eq!(whole(&found), whole(&twin), "integers stay integers, and floats floats");
}

pub fn a_text_with_a_null_character_reads_back(fresh: Fresh) {
    let twin = json!({"text": "a\u{0}b"});
    let fleet = Fleet::with_tags(fresh, &[twin.clone(), json!({"text": "a"})]);
    assert_eq!(fleet.device("d-0000").tags, twin);
    let filter = DeviceFilter { query: Some(query("tags.text = \"a\\u0000b\"")), ..DeviceFilter::default() };
    assert_eq!(ids(&fleet, &filter), ["d-0000"]);
}

pub fn keys_are_those_of_the_device(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let (one, two, thumbprint) = ("AAAAAAAAAAAAAAAAAAAAAA==", "/////////////////////w==", "0f".repeat(32));
    let header = IOTC_COLUMNS.join(",");
    fleet.import(&spec("a"), &format!("{header}\nd-1,,{one},{two},,\nd-2,,,,,{thumbprint}\n"));
    let sas = DeviceKeys {
        authentication: Authentication::Sas,
        primary_key: Some(vec![0; 16]),
        secondary_key: Some(vec![0xff; 16]),
        ..DeviceKeys::default()
    };
    assert!(fleet.registry.devices().keys("d-1").unwrap() == sas);
    let certificate = DeviceKeys {
        authentication: Authentication::SelfSigned,
        secondary_thumbprint: Some(thumbprint),
        ..DeviceKeys::default()
    };
    assert!(fleet.registry.devices().keys("d-2").unwrap() == certificate);
}

pub fn a_device_without_keys_has_empty_ones(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let line = json!({"id": "d-1", "authentication": {"type": "none"}});
    fleet.import(&hub_spec("a"), &hub(&[line]));
    let none = DeviceKeys { authentication: Authentication::None, ..DeviceKeys::default() };
    assert!(fleet.registry.devices().keys("d-1").unwrap() == none);
    assert!(fleet.registry.devices().keys("gone").unwrap() == none);
}

pub fn imports_are_told_of_devices_that_have_one(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    fleet.import(&spec("a"), "IOTC_DEVICEID\nd-1\nd-2\n");
    fleet.import(&spec("b"), "IOTC_DEVICEID\ne-1\n");
    let found = fleet.registry.devices().imports_of(&texts(&["e-1", "gone", "d-2"])).unwrap();
    let found: Vec<(String, String)> = found.into_iter().collect();
    assert_eq!(found, [("d-2".to_string(), "a".to_string()), ("e-1".to_string(), "b".to_string())]);
}

pub fn templates_are_told_of_devices_that_have_one(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    fleet.import(&ImportSpec { template: Some("lamp".to_string()), ..spec("a") }, "IOTC_DEVICEID\nd-1\nd-2\n");
    fleet.import(&spec("b"), "IOTC_DEVICEID\ne-1\n");
    let found = fleet.registry.devices().templates_of(&texts(&["e-1", "gone", "d-2"])).unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("d-2".to_string(), "lamp".to_string())]);
}

pub fn versions_are_told_of_devices_that_are_there(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    fleet.import(&spec("a"), "IOTC_DEVICEID\nd-1\nd-2\n");
    let found = fleet.registry.devices().desired_versions(&texts(&["gone", "d-2"])).unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("d-2".to_string(), 1)]);
}

pub fn ids_near_are_those_in_another_case_and_the_neighbours(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let rows: String = (0..500).map(|n| format!("d-{n:04}\n")).collect();
    fleet.import(&spec("a"), &format!("IOTC_DEVICEID\n{rows}LAMP-1\nlamp-1\n"));
    let near = |id: &str| fleet.registry.devices().ids_near(id).unwrap();
    let found = near("Lamp-1");
    assert!(["LAMP-1", "lamp-1"].iter().all(|id| found.contains(&id.to_string())), "{found:?}");
    let found = near("d-0250x");
    assert!(["d-0250", "d-0251"].iter().all(|id| found.contains(&id.to_string())), "{found:?}");
    assert!(!found.contains(&"d-0000".to_string()) && !found.contains(&"d-0499".to_string()), "{found:?}");
}
