//! Tokens that are renewed: the session of the device goes on.

use super::*;

const SDK_RENEWAL_HOST: &str = "127.0.83.23";

fn call(site: &Site, name: &str) {
    let wait = ", delivery: {offline: wait, expiresAfter: 5m}";
    job(site, name, "1", "{devices: [d-001]}", &format!("command: {{name: {name}, responseTimeout: 30s}}"), wait);
}

#[test]
fn a_token_that_is_renewed_keeps_the_session() {
    let site = Site::new(1);
    let with = |seconds| {
        let password = token(&site.key("d-001"), &format!("{HOST}%2Fdevices%2Fd-001"), seconds);
        ClientOptions { password: Some(password.into_bytes()), ..site.options("d-001") }
    };
    let mut device = Device::connect(&with(5)).unwrap();
    assert!(device.subscribe(&[METHODS]));
    let began = Instant::now();
    let mut renewed = Device::connect(&with(60)).unwrap();
    assert!(renewed.was_kept && began.elapsed() < Duration::from_secs(4));
    device.wait_end();
    // Past the end of the first token, without a subscription of its own.
    std::thread::sleep(Duration::from_secs(6).saturating_sub(began.elapsed()));
    call(&site, "late");
    renewed.answer(200, "{}");
    assert_eq!(site.wait_run("late", "1")["completed"], 1);
    assert!(!site.said().contains("the token is over"), "{}", site.said());
}

#[test]
fn the_client_of_python_renews_its_token_and_loses_no_call() {
    let Some(python) = python() else { return };
    let mut site = Site::without_gateway(1);
    (site.host, site.port) = (SDK_RENEWAL_HOST, 8883);
    site.make_certificate();
    let spec = format!("{{link: {{iotHub: {{hostName: {SDK_RENEWAL_HOST}}}}}}}");
    site.world.declare("fleetform.yaml", "Fleet", "acme", &spec);
    site.world.commit("the host of the client");
    site.world.run(&["apply", "--yes"]).expect(0);
    site.start();
    let log = site.world.file(".git/renewal.log");
    let file = File::create(&log).unwrap();
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/azure/renewal.py"));
    command.arg(site.host).arg(site.certificate()).arg("d-001").env("KEY", site.key("d-001"));
    let mut device = Process::start(command.stdout(file.try_clone().unwrap()).stderr(file));
    site.wait_state("d-001", "Connected");
    call(&site, "one");
    assert_eq!(site.wait_run("one", "1")["completed"], 1);
    wait_until("it renews its token", || {
        let said = site.said();
        said.lines().any(|line| line.contains("a connection of a device has ended") && line.contains("d-001"))
    });
    call(&site, "two");
    assert_eq!(site.wait_run("two", "1")["completed"], 1);
    wait_until("it ends", || device.has_ended());
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("all of it holds\n"), "{said}");
}
