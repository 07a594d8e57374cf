//! Messages to devices, which wait until they are acknowledged.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fleetform::model::device::Device;
use fleetform::model::limits;
use fleetform::query;
use fleetform::registry::{
    Change, DeviceFilter, DeviceKeys, Enqueued, IfMatch, NewIdentity, NewMessage, QueuedMessage, TwinRow, twin_etag,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Fresh;
use super::fleet::{Fleet, after, now, texts};

/// A message that expires so many seconds after [`now`].
fn message(text: &str, seconds: i64) -> NewMessage {
    NewMessage {
        message_id: Some(format!("id-{text}")),
        properties: json!({"content-type": "text/plain", "app": {"it's": text}}),
        body: text.as_bytes().to_vec(),
        expires_at: after(seconds),
    }
}

fn enqueue(fleet: &mut Fleet, device_id: &str, message: &NewMessage, seconds: i64) -> Enqueued {
    let change = Change::Enqueue { device_id, message, at: after(seconds) };
    fleet.registry.write(change).unwrap().into_enqueued()
}

#[track_caller]
fn queued(fleet: &mut Fleet, device_id: &str, text: &str) -> i64 {
    match enqueue(fleet, device_id, &message(text, 3_600), 0) {
        Enqueued::Queued(sequence) => sequence,
        refused => panic!("{refused:?}"),
    }
}

fn waiting(fleet: &Fleet, device_id: &str, seconds: i64) -> Vec<QueuedMessage> {
    fleet.registry.devices().messages(device_id, after(seconds)).unwrap()
}

fn sequences(fleet: &Fleet, device_id: &str) -> Vec<i64> {
    waiting(fleet, device_id, 0).iter().map(|queued| queued.sequence).collect()
}

fn hand_over(fleet: &mut Fleet, sequences: &[i64]) -> Vec<i64> {
    fleet.registry.write(Change::HandOver { sequences }).unwrap().into_messages()
}

pub fn messages_wait_in_their_order(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let awkward = NewMessage {
        message_id: None,
        properties: json!({"a": "\u{0}\u{1}", "n": 1e22}),
        body: (0..limits::MESSAGE_BYTES_MAX).map(|n| u8::try_from(n % 256).unwrap()).collect(),
        expires_at: after(10),
    };
    let first = queued(&mut fleet, "d-0001", "one");
    let Enqueued::Queued(second) = enqueue(&mut fleet, "d-0001", &awkward, 0) else { panic!("it has room") };
    let other = queued(&mut fleet, "d-0000", "other");
    let third = queued(&mut fleet, "d-0001", "three");
    assert!(first < second && second < third);
    let fleet = fleet.reopened();
    let expect = |sequence, message: &NewMessage| QueuedMessage { sequence, deliveries: 0, message: message.clone() };
    let (one, three) = (expect(first, &message("one", 3_600)), expect(third, &message("three", 3_600)));
    assert!(waiting(&fleet, "d-0001", 9) == [one.clone(), expect(second, &awkward), three.clone()]);
    assert!(waiting(&fleet, "d-0001", 10) == [one, three], "what has expired is not delivered");
    assert_eq!(sequences(&fleet, "d-0000"), [other]);
    assert_eq!(sequences(&fleet, "d-0002"), [0; 0]);
    let named = |sequence| fleet.registry.devices().messages_after(sequence).unwrap();
    let id = |id: &str| id.to_string();
    let all = [(first, id("d-0001")), (second, id("d-0001")), (other, id("d-0000")), (third, id("d-0001"))];
    assert_eq!(named(0), all);
    assert_eq!((named(second), named(third)), (all[2..].to_vec(), Vec::new()));
    let counts = |seconds| {
        let ids = texts(&["d-0000", "d-0001", "d-0002", "x"]);
        fleet.registry.devices().message_counts(&ids, after(seconds)).unwrap()
    };
    let expect = |one, two| BTreeMap::from([("d-0000".to_string(), one), ("d-0001".to_string(), two)]);
    assert_eq!((counts(9), counts(10)), (expect(1, 3), expect(1, 2)));
    assert_eq!(counts(3_600), BTreeMap::new());
    let shown = format!("{:?}", waiting(&fleet, "d-0001", 0));
    assert!(!shown.contains("id-one") && !shown.contains("text/plain"), "{shown}");
}

pub fn a_queue_takes_no_more_than_its_limit(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 2);
    assert_eq!(enqueue(&mut fleet, "d-0002", &message("x", 60), 0), Enqueued::Unknown);
    for n in 0..limits::MESSAGES_MAX {
        let seconds = if n < 2 { 10 } else { 60 };
        assert!(matches!(enqueue(&mut fleet, "d-0000", &message("x", seconds), 0), Enqueued::Queued(_)), "{n}");
    }
    assert_eq!(enqueue(&mut fleet, "d-0000", &message("x", 60), 9), Enqueued::Full);
    queued(&mut fleet, "d-0001", "others have room");
    // Two have expired meanwhile.
    for _ in 0..2 {
        assert!(matches!(enqueue(&mut fleet, "d-0000", &message("x", 60), 10), Enqueued::Queued(_)));
    }
    assert_eq!(enqueue(&mut fleet, "d-0000", &message("x", 60), 10), Enqueued::Full);
    assert_eq!(waiting(&fleet, "d-0000", 10).len() as u64, limits::MESSAGES_MAX);
}

pub fn a_message_is_handed_over_a_few_times(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 2);
    let (first, second) = (queued(&mut fleet, "d-0000", "one"), queued(&mut fleet, "d-0001", "two"));
    for n in 0..limits::DELIVERIES_MAX {
        assert_eq!(waiting(&fleet, "d-0000", 0)[0].deliveries, n);
        assert_eq!(hand_over(&mut fleet, &[first]), [first]);
    }
    assert_eq!(waiting(&fleet, "d-0000", 0)[0].deliveries, limits::DELIVERIES_MAX);
    assert_eq!(hand_over(&mut fleet, &[second, first, second + 9]), [second]);
    assert_eq!((sequences(&fleet, "d-0000"), sequences(&fleet, "d-0001")), (vec![], vec![second]));
    assert_eq!(waiting(&fleet, "d-0001", 0)[0].deliveries, 1);
}

pub fn an_acknowledged_message_is_gone(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    let numbers = ["one", "two", "three"].map(|text| queued(&mut fleet, "d-0000", text));
    fleet.registry.write(Change::Settle { sequences: &[numbers[2], numbers[0]] }).unwrap();
    assert_eq!(sequences(&fleet, "d-0000"), [numbers[1]]);
    // An acknowledgement that comes twice is none of a later message.
    fleet.registry.write(Change::Settle { sequences: &[numbers[1]] }).unwrap();
    let mut fleet = fleet.reopened();
    let next = queued(&mut fleet, "d-0000", "four");
    assert!(next > numbers[2], "a number is given once");
    fleet.registry.write(Change::Settle { sequences: &numbers }).unwrap();
    assert_eq!(sequences(&fleet, "d-0000"), [next]);
}

pub fn a_queue_is_purged(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 2);
    let other = queued(&mut fleet, "d-0001", "other");
    queued(&mut fleet, "d-0000", "one");
    queued(&mut fleet, "d-0000", "two");
    enqueue(&mut fleet, "d-0000", &message("short", 5), 0);
    let purge = |fleet: &mut Fleet, device_id| {
        fleet.registry.write(Change::Purge { device_id, at: after(5) }).unwrap().into_count()
    };
    assert_eq!(purge(&mut fleet, "d-0000"), 2);
    assert_eq!(waiting(&fleet, "d-0000", 0).len(), 0);
    assert_eq!((purge(&mut fleet, "d-0000"), purge(&mut fleet, "x")), (0, 0));
    assert_eq!(sequences(&fleet, "d-0001"), [other]);
}

pub fn a_deleted_device_takes_its_messages_along(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let numbers = ["d-0000", "d-0001", "d-0002"].map(|id| queued(&mut fleet, id, id));
    fleet.delete(&["d-0000"]);
    fleet.registry.write(Change::DeleteIdentity { device_id: "d-0001", if_match: None }).unwrap();
    assert_eq!(fleet.registry.flaws().unwrap(), []);
    assert_eq!(fleet.import(&super::fleet::spec("all"), "IOTC_DEVICEID\nd-0000\nd-0001\nd-0002\n").new, 2);
    assert_eq!(["d-0000", "d-0001", "d-0002"].map(|id| sequences(&fleet, id)), [vec![], vec![], vec![numbers[2]]]);
    assert_eq!(waiting(&fleet, "d-0002", 0)[0].message.expires_at, after(3_600));
    assert!(now() < after(3_600));
}

/// What is read at once is what is read one after the other, of devices of an import and of others.
pub fn a_twin_comes_with_its_identity_and_its_messages(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 4);
    let identity = NewIdentity {
        keys: DeviceKeys { primary_key: Some(vec![7; 32]), secondary_key: Some(vec![8; 32]), ..DeviceKeys::default() },
        is_blocked: true,
        status_reason: Some("stolen, it's said".to_string()),
        iot_edge: true,
        template: None,
        organization: None,
        tags: Some(json!({"floor": "3"})),
        desired: Some(json!({"level": 1.5})),
    };
    let put = Change::PutIdentity { device_id: "e-1", if_match: IfMatch::Absent, identity: &identity, at: now() };
    fleet.registry.write(put).unwrap();
    for text in ["one", "two"] {
        queued(&mut fleet, "d-0001", text);
    }
    enqueue(&mut fleet, "e-1", &message("brief", 10), 0);

    let twins = |filter: &DeviceFilter, seconds: i64, most: usize| {
        let mut twins = Vec::new();
        let mut keep = |twin: &TwinRow<'_>| {
            twins.push((twin.device_id.to_string(), twin.messages));
            is_as_read_alone(&fleet, twin);
            if twins.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        fleet.registry.devices().each_twin(filter, after(seconds), &mut keep).unwrap();
        twins
    };
    let ids = |twins: &[(String, u64)]| twins.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    let all = twins(&DeviceFilter::default(), 0, usize::MAX);
    assert_eq!(ids(&all), ["d-0000", "d-0001", "d-0002", "d-0003", "e-1"]);
    let messages = |twins: &[(String, u64)]| twins.iter().map(|(_, messages)| *messages).collect::<Vec<_>>();
    assert_eq!(messages(&all), [0, 2, 0, 0, 1]);
    assert_eq!(messages(&twins(&DeviceFilter::default(), 10, usize::MAX)), [0, 2, 0, 0, 0], "one has expired");

    let page = DeviceFilter { after: Some("d-0000".to_string()), limit: Some(3), ..DeviceFilter::default() };
    assert_eq!(ids(&twins(&page, 0, usize::MAX)), ["d-0001", "d-0002", "d-0003"]);
    assert_eq!(ids(&twins(&page, 0, 2)), ["d-0001", "d-0002"]);
    let query = Some(query::parse("tags.floor = '3' AND blocked = true").unwrap());
    assert_eq!(ids(&twins(&DeviceFilter { query, ..page }, 0, usize::MAX)), ["e-1"]);
}

fn is_as_read_alone(fleet: &Fleet, twin: &TwinRow<'_>) {
    let device = fleet.registry.devices().get(twin.device_id).unwrap().unwrap();
    let identity = fleet.registry.devices().identity(twin.device_id).unwrap().unwrap();
    let section = |text: &RawValue| serde_json::from_str::<Value>(text.get()).unwrap();
    let as_read = Device {
        device_name: twin.device_name.to_string(),
        template: twin.template.map(str::to_string),
        organization: twin.organization.map(str::to_string),
        blocked: twin.blocked,
        iot_edge: twin.iot_edge,
        connection_state: twin.connection_state,
        last_activity: twin.last_activity,
        tags: section(twin.tags),
        desired: section(twin.desired),
        desired_version: twin.desired_version,
        reported: section(twin.reported),
        reported_version: twin.reported_version,
        ..device.clone()
    };
    assert_eq!(as_read, device);
    assert_eq!(twin.etag(), twin_etag(&device.tags, &device.desired));
    let of_identity = (identity.keys, identity.etag, identity.status_updated, identity.status_reason.as_deref());
    assert_eq!((twin.keys.clone(), twin.identity_etag(), twin.status_updated, twin.status_reason), of_identity);
}
