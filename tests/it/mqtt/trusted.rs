//! Brokers behind TLS, and what is told of the wrong ones.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};

use super::{Gadget, apply, expected, reasons, reboot};
use crate::broker::Broker;
use crate::servers::free_port;
use crate::world::{Ran, World, fleetform, folder};
use fleetform::model::outcome::Reason;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Returns a certificate for a name and its key, both in PEM.
fn certificate(by: &Authority, name: &str, last_year: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

/// A broker with two listeners: TLS, and plain for devices.
struct Site {
    broker: Broker,
    tls_port: u16,
    ca: Authority,
}

impl Site {
    fn new(name: &str, last_year: i32, more: &str) -> Site {
        let (folder, ca, tls_port) = (folder(), authority("good authority"), free_port());
        let (certificate, key) = certificate(&ca, name, last_year);
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        file("ca.pem", &ca.pem());
        file("cert.pem", &certificate);
        file("key.pem", &key);
        let lines = format!(
            "allow_anonymous true\nlistener {tls_port} 127.0.0.1\ncafile {{folder}}/ca.pem\n\
             certfile {{folder}}/cert.pem\nkeyfile {{folder}}/key.pem\n{more}"
        );
        Site { broker: Broker::start_in(folder, &lines), tls_port, ca }
    }

    /// Applies a job to one device over TLS, with more settings of the link.
    fn apply(&self, host: &str, more: &str, ca: &str) -> (World, Ran) {
        let url = format!("mqtts://{host}:{}", self.tls_port);
        let world = World::with_devices(&format!("{{link: {{mqtt: {{url: \"{url}\", ca: broker-ca.pem{more}}}}}}}"), 1);
        world.write("broker-ca.pem", ca);
        world.commit("ca");
        world.job("reboot", &reboot("responseTimeout: 5s", ""));
        let ran = apply(&world, &[]);
        (world, ran)
    }

    fn refused(&self, host: &str, ca: &str, why: &str) {
        let (_, ran) = self.apply(host, "", ca);
        let ran = ran.expect(69);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.stderr);
    }
}

#[test]
fn a_broker_behind_tls_is_used() {
    let site = Site::new("localhost", 2040, "");
    let _gadget = Gadget::obedient(site.broker.port, "d-001");
    let (world, ran) = site.apply("localhost", "", &site.ca.pem());
    ran.expect(0);
    assert_eq!(reasons(&world, "reboot"), expected([("d-001", Reason::Responded)]));
}

#[test]
fn a_broker_that_is_not_to_be_trusted_is_told_with_the_cause() {
    let site = Site::new("localhost", 2040, "");
    site.refused("localhost", &authority("another").pem(), "not signed by an authority that is trusted");
    site.refused("127.0.0.1", &site.ca.pem(), "its certificate is for another name");
    site.refused("localhost", "no certificate", "broker-ca.pem cannot be used");
    let expired = Site::new("localhost", 2021, "");
    expired.refused("localhost", &expired.ca.pem(), "its certificate has expired");
    // The plain port.
    let plain = Site { tls_port: site.broker.port, ..site };
    plain.refused("localhost", &plain.ca.pem(), "TLS fails");
}

#[test]
fn a_broker_that_wants_a_client_certificate_gets_it() {
    let site = Site::new("localhost", 2040, "require_certificate true");
    let _gadget = Gadget::obedient(site.broker.port, "d-001");
    site.refused("localhost", &site.ca.pem(), "our client certificate");
    let (certificate, key) = certificate(&site.ca, "fleetform", 2040);
    let path = |name: &str| site.broker.path().join(name).display().to_string();
    std::fs::write(path("client.pem"), certificate).unwrap();
    std::fs::write(path("client-key.pem"), key).unwrap();
    let own = format!(", clientCertificate: {}, clientKey: {}", path("client.pem"), path("client-key.pem"));
    let (world, ran) = site.apply("localhost", &own, &site.ca.pem());
    ran.expect(0);
    assert_eq!(reasons(&world, "reboot"), expected([("d-001", Reason::Responded)]));
}

#[test]
fn a_password_comes_from_where_the_operator_allows_it() {
    let folder = folder();
    // `mosquitto_passwd` makes such lines of it.
    std::fs::write(folder.path().join("passwords"), "fleetform:correct horse\n").unwrap();
    let hashed = Ran::of(std::process::Command::new("mosquitto_passwd").arg("-U").arg(folder.path().join("passwords")));
    hashed.expect(0);
    let broker = Broker::start_in(folder, "allow_anonymous false\npassword_file {folder}/passwords");
    let link = format!(
        "{{link: {{mqtt: {{url: \"mqtt://127.0.0.1:{}\", username: {{env: BROKER_USER}}, password: {{env: BROKER_PASSWORD}}}}}}}}",
        broker.port
    );
    let world = World::with_devices(&link, 1);
    world.job("reboot", &reboot("responseTimeout: 1s", ""));
    let apply = |password: &str, allowed: &str| {
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(["apply", "--yes"]);
        command.env("BROKER_USER", "fleetform").env("BROKER_PASSWORD", password);
        Ran::of(command.env("FLEETFORM_ALLOW_SECRETS", allowed))
    };
    let both = "env:BROKER_USER,env:BROKER_PASSWORD";
    let told = apply("correct horse", "env:BROKER_USER").expect(69).stderr;
    assert!(
        told.contains("`spec.link.mqtt.password` cannot be used: env:BROKER_PASSWORD is not allowed here"),
        "{told}"
    );
    let told = apply("battery staple", both).expect(69).stderr;
    assert!(told.contains("it does not take our user name and password"), "{told}");
    assert!(!told.contains("battery"), "{told}");
    apply("correct horse", both).expect(0);
    assert_eq!(reasons(&world, "reboot"), expected([("d-001", Reason::Offline)]));
}

#[test]
fn a_broker_lets_devices_in_with_their_keys_and_to_their_own_topics() {
    let keys = World::with_devices("{}", 3);
    apply(&keys, &[]).expect(0);
    keys.run(&["device", "block", "d-003", "--yes"]).expect(0);
    let export = |format: &str| keys.run(&["device", "export", "--format", format, "-o", "-"]).expect(0).stdout;
    let (passwords, acl, csv) = (export("mosquitto"), export("mosquitto-acl"), export("csv"));
    assert_eq!(passwords, export("mosquitto"), "the same devices give the same bytes");
    assert!(passwords.contains("d-001:$7$101$") && !passwords.contains("d-003"), "{passwords}");
    let key = |id: &str| csv.lines().find(|line| line.starts_with(id)).unwrap().split(',').nth(2).unwrap().to_string();
    assert!(!passwords.contains(&key("d-001")));

    let folder = folder();
    let own = folder.path().join("own");
    std::fs::write(&own, "fleetform:correct horse\n").unwrap();
    Ran::of(std::process::Command::new("mosquitto_passwd").arg("-U").arg(&own)).expect(0);
    let all = std::fs::read_to_string(&own).unwrap() + &passwords;
    std::fs::write(folder.path().join("passwords"), all).unwrap();
    std::fs::write(folder.path().join("acl"), acl).unwrap();
    let broker =
        Broker::start_in(folder, "allow_anonymous false\npassword_file {folder}/passwords\nacl_file {folder}/acl");
    let link = format!(
        "link: {{mqtt: {{url: \"mqtt://127.0.0.1:{}\", username: {{env: U}}, password: {{env: P}}}}}}",
        broker.port
    );
    keys.declare("fleetform.yaml", "Fleet", "acme", &format!("{{{link}}}"));
    keys.job("reboot", &reboot("responseTimeout: 2s", ""));
    let start = |id: &str, react| {
        Gadget::with_password(broker.port, (id, Some(key(id))), fleetform::link::mqtt::Version::V5, react)
    };
    let honest = start("d-001", Box::new(super::obey));
    // Answers in the name of the other one, which the broker does not pass on, and nothing in its own.
    let _other = start(
        "d-002",
        Box::new(|gadget, (told, _)| match told {
            fleetform::link::protocol::Told::Method { rid, .. } => {
                vec![(gadget.topics.answer("d-001", 500, rid), Vec::new())]
            }
            _ => Vec::new(),
        }),
    );
    let mut command = fleetform();
    command.arg("-C").arg(keys.path()).args(["apply", "--yes"]).env("U", "fleetform").env("P", "correct horse");
    Ran::of(command.env("FLEETFORM_ALLOW_SECRETS", "env:U,env:P")).expect(0);
    let rows = [("d-001", Reason::Responded), ("d-002", Reason::Timeout), ("d-003", Reason::Blocked)];
    assert_eq!(reasons(&keys, "reboot"), expected(rows));
    assert_eq!(honest.gadget.executions().len(), 1);
}
