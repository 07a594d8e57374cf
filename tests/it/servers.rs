//! Servers to test with, on free ports of this machine: `git daemon`, `sshd`, `git http-backend` behind a small web
//! server, and a proxy that breaks connections. `broker` has Mosquitto. Each server ends when its value is dropped, also when a test panics.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use rustix::process::{Pid, Signal, kill_process};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns a git that sees nothing of the user's configuration.
pub fn git() -> Command {
    let mut command = Command::new("git");
    for (name, value) in PLAIN_GIT {
        command.env(name, value);
    }
    command.stdin(Stdio::null());
    command
}

/// Variables of a git that sees nothing of the user's configuration.
pub const PLAIN_GIT: &[(&str, &str)] = &[("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")];

/// Makes a bare repository that accepts pushes from every client.
pub fn bare(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let mut options = git2::RepositoryInitOptions::new();
    options.bare(true).mkpath(true).initial_head("main").external_template(false);
    git2::Repository::init_opts(&path, &options).unwrap();
    path
}

/// Writes a hook of a repository: a program for `sh`.
pub fn hook(repository: &Path, name: &str, script: &str) {
    let path = repository.join("hooks").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Renamed into place: a file that a process still has open for writing cannot be executed.
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(unfinished, path).unwrap();
}

/// A hook that waits: a push is held where the server has all of it and has not yet moved the branch.
pub struct Gate {
    folder: tempfile::TempDir,
}

impl Gate {
    /// Makes the `pre-receive` hook of a repository wait for [`Gate::open`].
    pub fn hold(repository: &Path) -> Gate {
        let folder = crate::world::folder();
        let path = folder.path().display();
        // Bounded: whatever a test forgets.
        hook(
            repository,
            "pre-receive",
            &format!(
                ": > {path}/arrived; n=0; until [ -e {path}/open ]; do sleep 0.05; n=$((n+1)); [ $n -lt 400 ] || exit \
                    1; done"
            ),
        );
        Gate { folder }
    }

    /// Waits until a push is held.
    pub fn wait(&self) {
        wait_until("the push gets to the hook", || self.folder.path().join("arrived").exists());
    }

    /// Lets the held push and all later ones through.
    pub fn open(&self) {
        fs::write(self.folder.path().join("open"), "").unwrap();
    }
}

/// Returns the processes whose command line has a word, one a line.
pub fn processes_with(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(word) {
            found.push(format!("{} {line}", entry.file_name().display()));
        }
    }
    found
}

/// A process that ends, with all of its descendants, when this is dropped.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Process {
        crate::stores::name_database(command);
        Process(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Returns its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Kills it and its descendants, those in sessions of their own (those of sshd) too.
    pub fn kill(&mut self) {
        if self.has_ended() {
            return;
        }
        // Again while there are new ones: a process that is killed may just have started another.
        for _ in 0..10 {
            let processes = descendants(self.0.id());
            for id in &processes {
                if let Some(id) = Pid::from_raw(i32::try_from(*id).unwrap()) {
                    let _ = kill_process(id, Signal::KILL);
                }
            }
            if processes.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the living processes that a process started, and those that they started.
fn descendants(of: u32) -> Vec<u32> {
    let mut parents: BTreeMap<u32, u32> = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // `id (name) state parent …`, where the name may have anything in it.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let mut fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        let (state, parent) = (fields.next().unwrap(), fields.next().unwrap());
        if state != "Z" {
            parents.insert(id, parent.parse().unwrap());
        }
    }
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let one = found[at];
        found.extend(parents.iter().filter(|(_, parent)| **parent == one).map(|(id, _)| *id));
        at += 1;
    }
    found.split_off(1)
}

/// Returns a port that is free and that nobody else is given soon.
///
/// The system gives ports from 32768 on to connections, and to whoever binds port 0. One of those may be taken
/// between this answer and the start of the server that gets it. Ports below are handed out in order, from a
/// place that differs between processes.
pub fn free_port() -> u16 {
    const PORTS: Range<u32> = 12_000..32_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(997);
    loop {
        let nth = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + nth % (PORTS.end - PORTS.start)).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

pub fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Starts a server on a free port; tries another port when a different process was faster.
pub fn start_on_free_port(command: impl Fn(u16) -> Command) -> (Process, u16) {
    for _ in 0..10 {
        let port = free_port();
        let mut process = Process::start(&mut command(port));
        let mut ended = false;
        wait_until("the server answers", || {
            ended = process.has_ended();
            ended || answers(port)
        });
        if !ended {
            return (process, port);
        }
    }
    panic!("the server does not start: {:?}", command(0));
}

/// A `git daemon` for the repositories below a folder; anonymous, and pushes are allowed.
pub struct Daemon {
    folder: PathBuf,
    pub port: u16,
    process: Process,
}

impl Daemon {
    /// Serves every repository below the folder.
    pub fn start(folder: &Path) -> Daemon {
        Daemon::start_with(folder, &["--export-all", "--enable=receive-pack"])
    }

    pub fn start_with(folder: &Path, options: &[&str]) -> Daemon {
        let (process, port) = start_on_free_port(|port| Daemon::command(folder, port, options));
        Daemon { folder: folder.to_path_buf(), port, process }
    }

    fn command(folder: &Path, port: u16, options: &[&str]) -> Command {
        let mut command = git();
        command.args(["daemon", "--listen=127.0.0.1", "--reuseaddr", &format!("--port={port}")]).args(options);
        command.arg(format!("--base-path={}", folder.display())).arg(folder);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub fn url(&self, repository: &str) -> String {
        url_of("git", self.port, repository)
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        self.process.kill();
        let options = ["--export-all", "--enable=receive-pack"];
        self.process = Process::start(&mut Daemon::command(&self.folder, self.port, &options));
        wait_until("the daemon answers again", || answers(self.port));
    }
}

/// Returns a URL of a server on this machine.
pub fn url_of(scheme: &str, port: u16, path: &str) -> String {
    format!("{scheme}://127.0.0.1:{port}/{}", path.trim_start_matches('/'))
}

/// An `sshd` that lets one key in, as the user who runs the tests. Repositories are named by their absolute paths.
pub struct Ssh {
    folder: tempfile::TempDir,
    pub port: u16,
    process: Process,
}

impl Ssh {
    pub fn start() -> Ssh {
        let folder = crate::world::folder();
        // The folder for sshd's privilege separation. It must exist, and belong to no other user.
        if rustix::process::getuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        for name in ["host", "user", "stranger"] {
            keygen(&folder.path().join(name), "");
        }
        keygen(&folder.path().join("sealed"), "passphrase");
        let key = |name: &str| fs::read_to_string(folder.path().join(format!("{name}.pub"))).unwrap();
        fs::write(folder.path().join("authorized_keys"), format!("{}{}", key("user"), key("sealed"))).unwrap();
        let (process, port) = start_on_free_port(|port| Ssh::command(folder.path(), port));
        let host = key("host");
        fs::write(folder.path().join("known_hosts"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        Ssh { folder, port, process }
    }

    fn command(folder: &Path, port: u16) -> Command {
        let path = |name: &str| folder.join(name).display().to_string();
        // With SHLVL set bash assumes that a person started it, and does not read the user's ~/.bashrc.
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM \
                no\nPidFile none\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd \
             no\nMaxStartups 100\n\
             SetEnv GIT_CONFIG_GLOBAL=/dev/null SHLVL=2\n",
            path("host"),
            path("authorized_keys")
        );
        fs::write(folder.join("sshd_config"), config).unwrap();
        let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let mut command = Command::new(sshd.expect("sshd is needed: install openssh-server"));
        command.args(["-D", "-f", &path("sshd_config"), "-E", &path("log")]).stdin(Stdio::null());
        command
    }

    /// Returns the URL of a repository.
    pub fn url(&self, repository: &Path) -> String {
        self.url_through(self.port, repository)
    }

    /// Returns the URL of a repository behind another port.
    pub fn url_through(&self, port: u16, repository: &Path) -> String {
        url_of("ssh", port, repository.to_str().unwrap())
    }

    /// Returns the arguments of an ssh that knows the host and has a key: `user` gets in, `stranger` does not, `sealed`
    /// would with a passphrase.
    pub fn client(&self, key: &str) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "-F /dev/null -i {} -o IdentitiesOnly=yes -o IdentityAgent=none -o StrictHostKeyChecking=yes -o \
                UserKnownHostsFile={} \
             -o HostKeyAlias=[127.0.0.1]:{}",
            path(key),
            path("known_hosts"),
            self.port
        )
    }

    /// Returns the path of the file with the known hosts.
    pub fn known_hosts(&self) -> PathBuf {
        self.folder.path().join("known_hosts")
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start(&mut Ssh::command(self.folder.path(), self.port));
        wait_until("sshd answers again", || answers(self.port));
    }
}

fn keygen(path: &Path, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    let output = command.args(["-q", "-t", "ed25519", "-C", "test", "-N", passphrase, "-f"]).arg(path).output();
    let output = output.expect("ssh-keygen is needed: install openssh-client");
    assert!(output.status.success(), "{output:?}");
}

/// A web server with `git http-backend` behind it. `writer` may read and push, `reader` may read, both with the
/// password `right`.
pub struct Http {
    pub port: u16,
    is_over: Arc<AtomicBool>,
    accepts: Option<JoinHandle<()>>,
}

impl Http {
    pub fn start(folder: &Path) -> Http {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (theirs, folder) = (Arc::clone(&is_over), folder.to_path_buf());
        let accepts = thread::spawn(move || {
            while !theirs.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (folder, is_over) = (folder.clone(), Arc::clone(&theirs));
                        thread::spawn(move || serve(&stream, &folder, &is_over));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Http { port, is_over, accepts: Some(accepts) }
    }

    pub fn url(&self, repository: &str) -> String {
        url_of("http", self.port, repository)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        drop(self.accepts.take().map(JoinHandle::join));
    }
}

/// Answers one request; a connection that ends early is the client's affair.
fn serve(stream: &TcpStream, folder: &Path, is_over: &AtomicBool) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_string());
    }
    let body = body_of(&mut reader, &headers)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let answer = |status: &str, more: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let mut stream = stream;
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
    };
    let encoded = headers.get("authorization").and_then(|value| value.strip_prefix("Basic ")).unwrap_or_default();
    let given = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    let user = match given.as_slice() {
        b"writer:right" => "writer",
        b"reader:right" => "reader",
        _ => return answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"test\"\r\n", b"no\n"),
    };
    if user == "reader" && target.contains("git-receive-pack") {
        return answer("403 Forbidden", "", b"you may only read\n");
    }
    let mut command = git();
    command.arg("http-backend").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env("GIT_PROJECT_ROOT", folder).env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_USER", user);
    command.env("REQUEST_METHOD", &method).env("PATH_INFO", path).env("QUERY_STRING", query);
    command.env("CONTENT_LENGTH", body.len().to_string()).env("REMOTE_ADDR", "127.0.0.1");
    for (name, header) in [
        ("CONTENT_TYPE", "content-type"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("GIT_PROTOCOL", "git-protocol"),
    ] {
        if let Some(value) = headers.get(header) {
            command.env(name, value);
        }
    }
    let mut process = Process::start(&mut command);
    let (mut stdin, mut stdout) = (process.0.stdin.take()?, process.0.stdout.take()?);
    let writes = thread::spawn(move || stdin.write_all(&body));
    let reads = thread::spawn(move || {
        let mut output = Vec::new();
        stdout.read_to_end(&mut output).map(|_| output)
    });
    while !reads.is_finished() && !is_over.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(2));
    }
    // When the server is over the backend is killed, and its output ends where it is.
    if is_over.load(Ordering::SeqCst) {
        return None;
    }
    drop(writes.join());
    let output = reads.join().ok()?.ok()?;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let (mut status, mut more) = ("200 OK".to_string(), String::new());
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        match line.strip_prefix("Status: ") {
            Some(given) => status = given.to_string(),
            None => more.push_str(&format!("{line}\r\n")),
        }
    }
    answer(&status, &more, &output[end + 4..])
}

fn body_of(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_none_or(|value| value != "chunked") {
        let length = headers.get("content-length").map_or(Some(0), |value| value.parse().ok())?;
        reader.take(length).read_to_end(&mut body).ok()?;
        return Some(body);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = u64::from_str_radix(line.trim(), 16).ok()?;
        reader.take(length).read_to_end(&mut body).ok()?;
        reader.read_line(&mut line).ok()?;
        if length == 0 {
            return Some(body);
        }
    }
}

/// What a [`CutProxy`] does with its connections, those that are there and those to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Passes everything on.
    Whole,
    /// Passes on so many bytes of the client, of all connections from now on, then cuts the connection that has reached
    /// them.
    CutAfter(u64),
    /// Loses what the server says, until the server ends the connection: then it is cut.
    Deaf,
    /// Passes nothing on and keeps the connection open.
    Stalled,
}

/// A proxy between a client and a server of this machine that can break.
pub struct CutProxy {
    pub port: u16,
    state: Arc<ProxyState>,
    accepts: Option<JoinHandle<()>>,
}

struct ProxyState {
    line: Mutex<Line>,
    from_client: AtomicU64,
    /// Connections of earlier cuts than this number are closed.
    cuts: AtomicU64,
    is_over: AtomicBool,
}

impl CutProxy {
    /// Starts a proxy for a port of this machine.
    pub fn start(target: u16) -> CutProxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(ProxyState {
            line: Mutex::new(Line::Whole),
            from_client: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&state);
        let accepts = thread::spawn(move || {
            while !theirs.is_over.load(Ordering::SeqCst) {
                let Ok((client, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                client.set_nonblocking(false).unwrap();
                // No server listens: the client finds its connection closed.
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                for (from, to, is_client) in
                    [(client.try_clone(), server.try_clone(), true), (Ok(server), Ok(client), false)]
                {
                    let (from, to, state) = (from.unwrap(), to.unwrap(), Arc::clone(&theirs));
                    let cuts = state.cuts.load(Ordering::SeqCst);
                    thread::spawn(move || state.pump(&from, &to, is_client, cuts));
                }
            }
        });
        CutProxy { port, state, accepts: Some(accepts) }
    }

    /// Changes what is done with the connections; starts to count bytes anew.
    pub fn set(&self, line: Line) {
        self.state.from_client.store(0, Ordering::SeqCst);
        *self.state.line.lock().unwrap() = line;
    }

    /// Cuts every connection that is there.
    pub fn cut(&self) {
        self.state.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the bytes of clients that were passed on since the last [`CutProxy::set`].
    pub fn passed(&self) -> u64 {
        self.state.from_client.load(Ordering::SeqCst)
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        drop(self.accepts.take().map(JoinHandle::join));
    }
}

impl ProxyState {
    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream, is_client: bool, cuts: u64) {
        let close = || {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        };
        from.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let mut buffer = vec![0; 16 << 10];
        loop {
            if self.is_over.load(Ordering::SeqCst) || self.cuts.load(Ordering::SeqCst) != cuts {
                return close();
            }
            let line = *self.line.lock().unwrap();
            if line == Line::Stalled {
                thread::sleep(Duration::from_millis(10));
                continue;
            }
            let count = match from.read(&mut buffer) {
                Ok(0) if line == Line::Deaf && !is_client => return close(),
                Ok(0) => {
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
                Ok(count) => count,
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    continue;
                }
                Err(_) => return close(),
            };
            // It may have changed while this one waited.
            let line = *self.line.lock().unwrap();
            if line == Line::Deaf && !is_client {
                continue;
            }
            let mut passed = count;
            if is_client {
                let before = self.from_client.fetch_add(count as u64, Ordering::SeqCst);
                if let Line::CutAfter(max) = line {
                    passed = usize::try_from(max.saturating_sub(before)).unwrap().min(count);
                }
            }
            if to.write_all(&buffer[..passed]).is_err() || passed < count {
                return close();
            }
        }
    }
}
