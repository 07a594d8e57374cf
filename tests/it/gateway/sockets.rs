//! Sockets that a service manager has opened: the gateway listens on them, and who connects while it is away waits.

use super::*;

/// Opens two sockets as systemd does, and starts the command with them, again whenever it ends, until its input is over.
const MANAGER: &str = r#"
import fcntl, os, signal, socket, subprocess, sys, threading
names, ports, command = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
opened = [socket.create_server(("127.0.0.1", int(port))) for port in ports]
numbers = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 20) for one in opened]
for place, number in enumerate(numbers):
    os.dup2(number, 3 + place)
passed = tuple(3 + place for place in range(len(numbers)))
environment = dict(os.environ, LISTEN_FDS=str(len(passed)), LISTEN_FDNAMES=names)
state = {}
def serve():
    while True:
        script = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"] + command
        state["child"] = subprocess.Popen(script, pass_fds=passed, env=environment)
        print("started", state["child"].pid, file=sys.stderr, flush=True)
        if state["child"].wait() >= 0:
            os._exit(state["child"].returncode)
threading.Thread(target=serve, daemon=True).start()
sys.stdin.read()
state["child"].kill()
"#;

/// Starts a gateway with sockets; it ends when the value is dropped.
fn start(site: &Site, names: &str, ports: [u16; 2], log: &Path) -> std::process::Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", MANAGER, names, &format!("{},{}", ports[0], ports[1])]);
    let gateway = fleetform();
    command.arg(gateway.get_program());
    command.arg("-C").arg(site.world.path()).arg("gateway").args(["--mqtt", "127.0.0.1:1", "--log-filter", "debug"]);
    command.arg("--certificate").arg(site.certificate()).arg("--key").arg(site.world.file(".git/key.pem"));
    for (name, value) in gateway.get_envs() {
        value.map(|value| command.env(name, value));
    }
    crate::stores::name_database(&mut command);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap()
}

#[test]
fn the_gateway_listens_on_sockets_that_it_is_given() {
    let mut site = Site::without_gateway(1);
    site.world.run(&["apply", "--yes"]).expect(0);
    site.world.run(&["gateway", "init"]).expect(0);
    let https = free_port();
    site.https = Some(https);
    let mut manager = start(&site, "mqtt:https", [site.port, https], &site.log());
    wait_until("it listens", || site.said().contains("listening for back ends"));
    let mut device = Device::new(&site, "d-001");
    let (status, identity) = site.ask("registryRead", "GET /devices/d-001", &[], "");
    assert_eq!((status, &identity["deviceId"]), (200, &json!("d-001")));
    // It is killed, and started again by its manager: a device that connects meanwhile waits.
    let said = site.said();
    let pid = said.lines().find_map(|line| line.strip_prefix("started ")).unwrap();
    Ran::of(Command::new("kill").args(["-9", pid])).expect(0);
    device.wait_end();
    let mut again = Device::connect(&site.options("d-001"));
    while crate::stores::is_postgres() && matches!(again, Err(BrokerError::Silent)) {
        // The right of who was killed runs out first, which takes longer than a client waits.
        again = Device::connect(&site.options("d-001"));
    }
    let mut again = again.unwrap();
    again.publish("$iothub/twin/GET/?$rid=r1", "");
    assert_eq!(again.message().0, "$iothub/twin/res/200/?$rid=r1");
    drop(manager.stdin.take());
    manager.wait().unwrap();
}

#[test]
fn a_socket_of_another_name_is_said() {
    let site = Site::without_gateway(1);
    let log = site.world.file(".git/sockets.log");
    let mut manager = start(&site, "mqtt:web", [free_port(), free_port()], &log);
    // To wait for it would end its input.
    let mut code = None;
    wait_until("it ends", || {
        code = manager.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(64));
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("`web`") && said.contains("FileDescriptorName=mqtt"), "{said}");
}
