//! Edge manifests, end to end: only IoT Edge devices get them, and an edited manifest is a different one.

use std::collections::BTreeMap;

use fleetform::manifest::{Entry, Input, load_valid};
use fleetform::model::digest::Digest;
use fleetform::model::outcome::{DeviceStatus, Reason};
use serde_json::{Value, json};

use crate::world::World;

/// Returns a deployment manifest with some modules in `modules` of `$edgeAgent`.
pub fn manifest(modules: Value) -> Value {
    json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {
            "schemaVersion": "1.1",
            "runtime": {"type": "docker", "settings": {}},
            "systemModules": {
                "edgeAgent": {"type": "docker", "settings": {"image": "mcr.microsoft.com/azureiotedge-agent:1.5"}},
                "edgeHub": {"type": "docker", "status": "running", "restartPolicy": "always",
                    "settings": {"image": "mcr.microsoft.com/azureiotedge-hub:1.5"}}},
            "modules": modules}},
        "$edgeHub": {"properties.desired": {
            "schemaVersion": "1.1", "routes": {"up": "FROM /messages/* INTO $upstream"},
            "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}}}
    }})
}

pub fn camera(version: u32) -> Value {
    let image = format!("contoso.azurecr.io/camera:{version}");
    json!({"camera": {"type": "docker", "status": "running", "restartPolicy": "always", "settings": {"image": image}}})
}

/// Returns a fleet with IoT Edge devices `d-001`, … and after them others, from a file of IoT Hub's form.
pub fn world(spec: &str, edge: usize, others: usize) -> World {
    let world = World::new(spec);
    write_devices(&world, |n| n <= edge, edge + others);
    world.declare("imports.yaml", "DeviceImport", "all", "{file: devices-in.jsonl}");
    world.commit("devices");
    world
}

fn write_devices(world: &World, is_edge: impl Fn(usize) -> bool, count: usize) {
    let line = |n: usize| {
        let line =
            json!({"id": format!("d-{n:03}"), "capabilities": {"iotEdge": is_edge(n)}, "tags": {"n": n.to_string()}});
        format!("{line}\n")
    };
    world.write("devices-in.jsonl", (1..=count).map(line).collect::<String>());
}

/// Declares the manifest `gateway-v4`.
fn declare(world: &World, content: &Value) {
    world.write("edge-manifests/gateway.deployment.json", content.to_string());
    world.declare("edge-manifests/gateway.yaml", "EdgeManifest", "gateway-v4", "{file: gateway.deployment.json}");
    world.commit("manifest");
}

/// Declares a job that assigns it.
fn assign(world: &World, name: &str, target: &str) {
    world.job(name, &format!("{{target: {target}, action: {{edgeManifest: gateway-v4}}}}"));
}

/// Returns the plan as JSON and its exit code.
fn plan(world: &World) -> (Value, i32) {
    let ran = world.run(&["plan", "--json"]);
    (ran.json().remove(0), ran.code)
}

fn change<'a>(plan: &'a Value, job: &str) -> &'a Value {
    let address = format!("job/{job}");
    plan["changes"].as_array().unwrap().iter().find(|change| change["address"] == address.as_str()).unwrap()
}

fn reasons(world: &World, job: &str) -> Vec<Reason> {
    world.rows(job, "1").into_iter().map(|row| row.reason).collect()
}

fn digest_of(content: &Value) -> String {
    Digest::of_json(&content["modulesContent"]).to_string()
}

/// Returns what the registry has of a device: the name and the digest.
pub fn assigned(world: &World, device: &str) -> (Option<String>, Option<String>) {
    (world.device(device).edge_manifest, world.registry().devices().edge_manifest_digest(device).unwrap())
}

#[test]
fn only_edge_devices_get_a_manifest() {
    let world = world("{}", 2, 3);
    let content = manifest(camera(3));
    declare(&world, &content);
    world.apply().unwrap();
    world.sql("UPDATE device SET blocked = true WHERE device_id = 'd-005'");
    assign(&world, "gateways", "{query: '*'}");

    let (planned, code) = plan(&world);
    assert_eq!(code, 0);
    let targets = &change(&planned, "gateways")["targets"];
    assert_eq!((&targets["count"], &targets["blocked"]), (&json!(5), &json!(1)));
    assert_eq!((&targets["mismatched"], &targets["not_iot_edge"]), (&json!(2), &json!(2)));
    assert_eq!(targets["mismatched_templates"], json!([]));
    let [found] = planned["diagnostics"].as_array().unwrap().as_slice() else { panic!("{planned:#}") };
    assert_eq!((&found["code"], &found["severity"]), (&json!("FF661"), &json!("warning")));
    let detail = found["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("2 of the 5 devices of job `gateways` are no IoT Edge devices, and will fail"),
        "{detail}"
    );
    assert_eq!(found["help"], "Narrow the target with `capabilities.iotEdge = true`.");
    assert_eq!((&found["file"], &found["line"]), (&json!("jobs/gateways.yaml"), &json!(4)));
    let human = world.run(&["plan"]).expect(0);
    assert!(human.stdout.contains("1 blocked · 2 template-mismatch"), "{}", human.stdout);

    let counts = world.apply().unwrap().records[0].counts;
    assert_eq!((counts.total, counts.completed, counts.failed), (5, 2, 3));
    use Reason::{Blocked, TemplateMismatch, Written};
    assert_eq!(reasons(&world, "gateways"), [Written, Written, TemplateMismatch, TemplateMismatch, Blocked]);
    let row = world.rows("gateways", "1").into_iter().nth(2).unwrap();
    assert_eq!((row.status, row.attempts), (DeviceStatus::Failed, 0));
    assert_eq!(row.message, "it is no IoT Edge device: its capabilities.iotEdge is false");
    assert_eq!(assigned(&world, "d-001"), (Some("gateway-v4".to_string()), Some(digest_of(&content))));
    assert_eq!(assigned(&world, "d-003"), (None, None));
    let shown = world.run(&["device", "show", "d-001"]).expect(0).stdout;
    assert!(shown.contains(&format!("gateway-v4 ({})", &digest_of(&content)[..12])), "{shown}");
}

#[test]
fn a_manifest_for_no_edge_device_is_refused() {
    let world = world("{}", 1, 2);
    declare(&world, &manifest(json!({})));
    world.apply().unwrap();
    assign(&world, "gateways", "{devices: [d-002, d-003]}");
    let (planned, code) = plan(&world);
    assert_eq!(code, 65);
    let [found] = planned["diagnostics"].as_array().unwrap().as_slice() else { panic!("{planned:#}") };
    assert_eq!(found["code"], "FF611");
    assert_eq!(
        found["detail"],
        "Job `gateways` assigns an edge manifest, and none of its 2 devices is an IoT Edge device."
    );
    assert!(found["help"].as_str().unwrap().contains("\"capabilities\": {\"iotEdge\": true}"), "{found}");
    assert!(world.apply().is_err());
    assert_eq!(assigned(&world, "d-002"), (None, None));

    // The import of the same change makes them edge devices, and the job fits.
    write_devices(&world, |_| true, 3);
    world.commit("edge");
    let (planned, code) = plan(&world);
    assert_eq!((code, planned["diagnostics"].as_array().unwrap().len()), (0, 0), "{planned:#}");
    world.apply().unwrap();
    assert_eq!(reasons(&world, "gateways"), [Reason::Written; 2]);
}

#[test]
fn a_deferred_job_is_judged_as_of_now() {
    let world = world("{}", 0, 2);
    declare(&world, &manifest(json!({})));
    world.apply().unwrap();
    world.job("first", "{target: {query: '*'}, action: {tags: {ring: canary}}}");
    world.job("gateways", "{after: [first], target: {query: '*'}, action: {edgeManifest: gateway-v4}}");
    let (planned, code) = plan(&world);
    let [found] = planned["diagnostics"].as_array().unwrap().as_slice() else { panic!("{planned:#}") };
    assert_eq!((code, &found["code"]), (0, &json!("FF661")));
    assert!(found["detail"].as_str().unwrap().contains("are no IoT Edge devices as of now"), "{found}");
}

#[test]
fn mismatches_survive_a_restart_and_count_for_the_threshold() {
    let world = world("{}", 2, 5);
    declare(&world, &manifest(json!({})));
    world.apply().unwrap();
    let delivery = "{batchSize: 1, cancellationThreshold: {failures: 1}}";
    world.job(
        "gateways",
        &format!("{{target: {{query: '*'}}, action: {{edgeManifest: gateway-v4}}, delivery: {delivery}}}"),
    );
    let mut looks = 1;
    while world.apply_killed(looks) {
        looks += 1;
    }
    let record = world.record("gateways", "1");
    assert_eq!((&record["status"], &record["completed"]), (&json!("canceled"), &json!(2)));
    assert_eq!((&record["failed"], &record["pending"]), (&json!(2), &json!(3)));
}

#[test]
fn an_edited_manifest_is_another_one() {
    let world = world("{}", 3, 0);
    let old = manifest(camera(3));
    declare(&world, &old);
    world.apply().unwrap();
    assign(&world, "first", "{devices: [d-001, d-002]}");
    world.apply().unwrap();

    // The same content in other words, and in another order, is the same.
    let text = serde_json::to_string_pretty(&old).unwrap().replace("  ", "\t");
    let reordered: String = text.replacen("\"modulesContent\"", "\"$schema\": \"http://x\", \"modulesContent\"", 1);
    world.write("edge-manifests/gateway.deployment.json", reordered);
    assign(&world, "again", "{query: '*'}");
    let (planned, _) = plan(&world);
    let again = change(&planned, "again");
    assert_eq!((&again["targets"]["count"], &again["targets"]["unchanged"]), (&json!(3), &json!(2)));
    assert_eq!(
        again["diff"],
        json!([
            {"path": "edgeManifest", "from": null, "to": "gateway-v4", "devices": 1},
            {"path": "edgeManifest.digest", "from": null, "to": digest_of(&old), "devices": 1},
        ])
    );
    world.apply().unwrap();
    assert_eq!(reasons(&world, "again"), [Reason::Unchanged, Reason::Unchanged, Reason::Written]);

    let new = manifest(camera(4));
    declare(&world, &new);
    assign(&world, "camera-4", "{devices: [d-001, d-002]}");
    let (planned, _) = plan(&world);
    let edited = change(&planned, "camera-4");
    assert_eq!(edited["targets"]["unchanged"], 0);
    let line = json!({"path": "edgeManifest.digest", "from": digest_of(&old), "to": digest_of(&new), "devices": 2});
    assert_eq!(edited["diff"], json!([line]));
    world.apply().unwrap();
    assert_eq!(reasons(&world, "camera-4"), [Reason::Written; 2]);
    assert_eq!(assigned(&world, "d-001"), (Some("gateway-v4".to_string()), Some(digest_of(&new))));
    assert_eq!(assigned(&world, "d-003").1, Some(digest_of(&old)));
}

#[test]
fn an_import_keeps_what_is_assigned() {
    let world = world("{}", 2, 0);
    let content = manifest(json!({}));
    declare(&world, &content);
    world.apply().unwrap();
    assign(&world, "gateways", "{query: '*'}");
    world.apply().unwrap();
    // One device is written anew, one is blocked as it leaves the file, one is new; the plan sees them as they will be.
    let line = json!({"id": "d-001", "capabilities": {"iotEdge": true}, "tags": {"hall": "a"}});
    let new = json!({"id": "d-003", "capabilities": {"iotEdge": true}});
    world.write("devices-in.jsonl", format!("{line}\n{new}\n"));
    world.declare("imports.yaml", "DeviceImport", "all", "{file: devices-in.jsonl, removed: block}");
    assign(&world, "again", "{query: '*'}");
    let (planned, _) = plan(&world);
    let targets = &change(&planned, "again")["targets"];
    assert_eq!((&targets["unchanged"], &targets["blocked"]), (&json!(1), &json!(1)), "{targets}");
    world.apply().unwrap();
    assert_eq!(reasons(&world, "again"), [Reason::Unchanged, Reason::Blocked, Reason::Written]);
    let whole = (Some("gateway-v4".to_string()), Some(digest_of(&content)));
    for device in ["d-001", "d-002", "d-003"] {
        assert_eq!(assigned(&world, device), whole, "{device}");
    }
}

/// In a registry from before digests were kept, only the name of a device's manifest is known.
#[test]
fn a_manifest_without_a_digest_is_written_again() {
    let world = world("{}", 1, 0);
    let content = manifest(json!({}));
    declare(&world, &content);
    world.apply().unwrap();
    world.sql(
        "UPDATE device SET edge_manifest = 'gateway-v4'; ALTER TABLE device DROP COLUMN edge_manifest_digest;
         DROP TRIGGER run_inserted; DROP TRIGGER run_updated; DROP TRIGGER run_deleted; DROP INDEX run_open;
         DELETE FROM meta WHERE key = 'claims_version'; ALTER TABLE run DROP COLUMN spec; \
         ALTER TABLE run DROP COLUMN edge_manifest_digest; DROP TRIGGER run_closed; DROP TRIGGER device_deleted;
         DROP TABLE deleted_device; DROP INDEX kept_file_uncompared; DROP TRIGGER left_device_deleted; DROP TABLE left_device; \
         DROP TRIGGER device_status_deleted; DROP TABLE device_status; DROP INDEX device_connected; \
         DROP TABLE answer; DROP TRIGGER message_deleted; DROP TABLE message; DROP TABLE outcome_count; \
         DROP TRIGGER device_session_deleted; DROP TABLE device_session; DROP TABLE device_connection; \
         ALTER TABLE run DROP COLUMN keeps_answers; \
         ALTER TABLE run DROP COLUMN batch; ALTER TABLE run DROP COLUMN batch_opened_at; \
         ALTER TABLE run DROP COLUMN first_batch;
         PRAGMA user_version = 2",
    );
    assign(&world, "gateways", "{query: '*'}");
    world.apply().unwrap();
    assert_eq!(reasons(&world, "gateways"), [Reason::Written]);
    assert_eq!(assigned(&world, "d-001"), (Some("gateway-v4".to_string()), Some(digest_of(&content))));
}

#[test]
fn a_broken_manifest_is_refused_where_it_is_broken() {
    let world = world("{}", 1, 0);
    let mut content = manifest(camera(3));
    content["modulesContent"]["$edgeHub"]["properties.desired"]["routes"]["up"] =
        json!("FROM /messages/modules/camra/* INTO upstream");
    world.write("edge-manifests/gateway.deployment.json", serde_json::to_string_pretty(&content).unwrap());
    world.declare("edge-manifests/gateway.yaml", "EdgeManifest", "gateway-v4", "{file: gateway.deployment.json}");
    let ran = world.run(&["validate", "--json"]).expect(65);
    let found = ran.json().into_iter().find(|line| line["code"] == "FF433").unwrap_or_else(|| panic!("{}", ran.stdout));
    assert_eq!(found["file"], "edge-manifests/gateway.deployment.json");
    let text = std::fs::read_to_string(world.file("edge-manifests/gateway.deployment.json")).unwrap();
    let line = text.lines().position(|line| line.contains("camra")).unwrap() + 1;
    assert_eq!((&found["line"], &found["help"]), (&json!(line), &json!("Did you mean `$upstream`?")));
    assert!(found["detail"].as_str().unwrap().starts_with("`$edgeHub.properties.desired.routes.up`: "), "{found}");
}

/// A daemon goes on without the documents that need a broken file: both that name it, and the job.
#[test]
fn a_broken_manifest_holds_what_names_it() {
    let broken = manifest(json!({"camera": 3})).to_string();
    let document = |kind: &str, name: &str, spec: &str| {
        format!("apiVersion: fleetform/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let assign = |name: &str| format!("{{target: {{query: '*'}}, action: {{edgeManifest: {name}}}}}");
    let files = BTreeMap::from([
        ("fleetform.yaml", document("Fleet", "acme", "{}")),
        ("a.yaml", document("EdgeManifest", "one", "{file: broken.json}")),
        ("b.yaml", document("EdgeManifest", "two", "{file: ./broken.json}")),
        ("c.yaml", document("EdgeManifest", "three", "{file: good.json}")),
        ("d.yaml", document("Job", "bad", &assign("two"))),
        ("e.yaml", document("Job", "good", &assign("three"))),
        ("broken.json", broken),
        ("good.json", manifest(camera(3)).to_string()),
    ]);
    let entries = files.iter().map(|(path, text)| (path.to_string(), Entry::file(text.len() as u64))).collect();
    let read = |path: &str| Ok(files[path].clone().into_bytes());
    let sound = load_valid(&Input { entries: &entries, read: &read, check_query: |_| Vec::new() });
    let held: Vec<String> = sound.held.documents.keys().map(|(kind, name)| format!("{kind}/{name}")).collect();
    assert_eq!(held, ["EdgeManifest/one", "EdgeManifest/two", "Job/bad"]);
    let declared = sound.loaded.declared.unwrap();
    assert_eq!((declared.edge_manifests.len(), declared.jobs.len()), (1, 1));
    assert_eq!(sound.loaded.diagnostics.iter().map(|one| one.code.0).collect::<Vec<_>>(), ["FF430"]);
}

/// IoT Edge takes a route to a module that is declared later, and so do its users.
#[test]
fn a_route_to_an_absent_module_is_a_warning() {
    let world = world("{}", 1, 0);
    let mut content = manifest(camera(3));
    let routes = &mut content["modulesContent"]["$edgeHub"]["properties.desired"]["routes"];
    routes["up"] = json!("FROM /messages/modules/camra/* INTO $upstream");
    routes["in"] =
        json!("FROM /messages/modules/camera/outputs/o/* INTO BrokeredEndpoint(\"/modules/later/inputs/i\")");
    content["modulesContent"]["later"] = json!({"properties.desired": {"interval": 3}});
    declare(&world, &content);
    let ran = world.run(&["validate", "--json"]).expect(0);
    let found: Vec<_> = ran.json().into_iter().filter(|line| line["code"] == "FF434").collect();
    assert!(found.len() == 3 && found.iter().all(|line| line["severity"] == "warning"), "{ran:?}");
    assert!(found.iter().any(|line| line["help"] == "Did you mean `camera`?"), "{found:?}");
    assign(&world, "gateways", "{query: '*'}");
    world.apply().unwrap();
    assert_eq!(reasons(&world, "gateways"), [Reason::Written]);
}
