//! Registries of older versions.

use fleetform::registry::postgres::PostgresPlace;
use fleetform::registry::{Change, Registry, RegistryError, Statistics, StorePlace};

use crate::cluster::{fresh_database, run};
use crate::contract::fleet::{FLEET, now, spec, texts};

#[test]
fn a_registry_of_the_first_version_is_brought_up_to_date() {
    let url = fresh_database();
    let place = PostgresPlace::new(&url, FLEET).unwrap();
    let open = || Registry::new(place.open().unwrap());
    let mut registry = open();
    let spec = spec("all");
    registry.imports_mut().stage(&spec, &mut "IOTC_DEVICEID\nd-1\nd-2\nd-3\n".as_bytes()).unwrap();
    registry.write(Change::Import { spec: &spec, at: now(), outbox: "" }).unwrap();
    registry.write(Change::Block { device_ids: &texts(&["d-1"]), is_blocked: true, at: now() }).unwrap();
    drop(registry);
    run(
        &url,
        "SET search_path = fleetform; DROP TABLE device_status, answer, message, outcome_count, device_session, device_connection;
         DROP INDEX device_connected;
         ALTER TABLE run DROP COLUMN keeps_answers; DELETE FROM meta WHERE key = 'devices';
         UPDATE device SET connection_state = 'Connected' WHERE device_id = 'd-2';
         UPDATE meta SET value = '1' WHERE key = 'schema_version'",
    );
    let read = place.open_for_reading().map(drop);
    assert!(matches!(read, Err(RegistryError::Older { version: 1, .. })), "who only reads changes nothing: {read:?}");
    let mut registry = open();
    let counts = |registry: &Registry| registry.devices().statistics().unwrap();
    let expect = Statistics { total: 3, enabled: 2, disabled: 1, connected: 1 };
    assert_eq!(counts(&registry), expect);
    registry.write(Change::Delete { device_ids: &texts(&["d-1", "d-2"]) }).unwrap();
    assert_eq!(counts(&registry), Statistics { total: 1, enabled: 1, ..Statistics::default() });
    assert_eq!(registry.flaws().unwrap(), []);
}
