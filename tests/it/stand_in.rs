//! A stand-in for a forge on loopback. It holds each request against the published description of the API
//! (`fixtures/forge`) and against what the documentation says beside it, and answers as the forge would, or badly.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use fleetform::forge::{Forge, Given, Kind, Place, Token, TokenSource};
use serde_json::{Value, json};

/// The token that the stand-in knows.
pub const TOKEN: &str = "ghp_0123456789abcdefHUSH";
/// Its project.
pub const PROJECT: &str = "acme/fleet";
/// Characters of a description that GitHub takes: "description is too long (maximum is 140 characters)".
const GITHUB_DESCRIPTION_MAX: usize = 140;
/// Characters of a comment that GitHub takes.
const GITHUB_BODY_MAX: usize = 65_536;

/// What it does in place of an answer.
#[derive(Debug, Clone)]
pub enum Misdeed {
    /// A status, headers (each with its line break) and a body.
    Answer(u16, String, String),
    /// Takes the request and says nothing.
    Silence,
    /// Sends a body of a gigabyte.
    Flood,
    /// Sends a byte of the answer each 50 ms.
    Drip,
    /// Closes the connection.
    HangUp,
}

/// Returns an answer.
pub fn says(status: u16, headers: &str, body: &str) -> Misdeed {
    Misdeed::Answer(status, headers.to_string(), body.to_string())
}

/// No sentence and no debug text has the token.
#[track_caller]
pub fn assert_secret(text: &str) {
    assert!(!text.contains(TOKEN) && !text.contains("HUSH"), "the token is shown: {text}");
}

/// A comment.
#[derive(Debug, Clone)]
pub struct Comment {
    pub id: u64,
    pub change: u64,
    pub author: String,
    pub is_bot: bool,
    pub body: String,
}

/// A status that was set.
#[derive(Debug, Clone, PartialEq)]
pub struct Posted {
    pub commit: String,
    pub state: String,
    pub context: String,
    pub description: String,
    pub link: Option<String>,
}

#[derive(Debug, Default)]
pub struct State {
    pub comments: Vec<Comment>,
    pub statuses: Vec<Posted>,
    /// Methods and paths, in order.
    pub requests: Vec<String>,
    /// What was not as the description has it.
    pub violations: Vec<String>,
    /// What it does with the next requests, before it is well.
    pub misdeeds: VecDeque<Misdeed>,
    /// What it does with each request to a path that has this text.
    pub denies: Option<(&'static str, Misdeed)>,
    /// The token is of an app: it is of no user.
    pub is_app: bool,
}

/// The stand-in; it serves until the process ends.
pub struct StandIn {
    pub kind: Kind,
    pub api: String,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str, default: usize) -> usize {
        let value = self.query.iter().find(|(other, _)| other == name);
        value.map_or(default, |(_, value)| value.parse().unwrap())
    }
}

impl StandIn {
    pub fn new(kind: Kind) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let theirs = Arc::clone(&state);
        let described = description(kind);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (state, described) = (Arc::clone(&theirs), described.clone());
                thread::spawn(move || serve(stream, kind, &described, &state));
            }
        });
        StandIn { kind, api, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns a client of it.
    pub fn forge(&self) -> Forge {
        self.forge_with(TOKEN)
    }

    pub fn forge_with(&self, token: &str) -> Forge {
        let given = Given { kind: Some(self.kind), api: Some(&self.api), project: Some(PROJECT), remote: None };
        Forge::new(Place::of(given).unwrap(), TokenSource::Given(Token::parse(token).unwrap()))
    }

    /// Has the next request answered so.
    pub fn misdeed(&self, misdeed: Misdeed) {
        self.state().misdeeds.push_back(misdeed);
    }

    pub fn comments(&self) -> Vec<Comment> {
        self.state().comments.clone()
    }

    pub fn statuses(&self) -> Vec<Posted> {
        self.state().statuses.clone()
    }

    /// Returns the words of the states of a commit, in order.
    pub fn states_of(&self, commit: &str) -> Vec<String> {
        self.statuses().into_iter().filter(|one| one.commit == commit).map(|one| one.state).collect()
    }

    /// Fails when a request was not as the description has it.
    #[track_caller]
    pub fn assert_described(&self) {
        let state = self.state();
        assert!(!state.requests.is_empty(), "it was asked");
        assert_eq!(state.violations, Vec::<String>::new());
    }

    /// Returns the options of the command line, and the variables that name this forge.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let kind = match self.kind {
            Kind::GitHub => "github",
            Kind::GitLab => "gitlab",
            Kind::Gitea => "gitea",
        };
        vec![
            ("FLEETFORM_FORGE", kind.to_string()),
            ("FLEETFORM_FORGE_API", self.api.clone()),
            ("FLEETFORM_FORGE_PROJECT", PROJECT.to_string()),
            ("FLEETFORM_FORGE_TOKEN", TOKEN.to_string()),
        ]
    }
}

fn description(kind: Kind) -> Value {
    let text = match kind {
        Kind::GitHub => include_str!("../../fixtures/forge/github.json"),
        Kind::GitLab => include_str!("../../fixtures/forge/gitlab.json"),
        Kind::Gitea => include_str!("../../fixtures/forge/gitea.json"),
    };
    serde_json::from_str(text).unwrap()
}

fn serve(mut stream: TcpStream, kind: Kind, described: &Value, state: &Mutex<State>) {
    let Some(request) = read(&mut stream) else { return };
    let mut state = state.lock().unwrap();
    state.requests.push(format!("{} {}", request.method, request.path));
    let denied = state.denies.clone().filter(|(path, _)| request.path.contains(path)).map(|(_, misdeed)| misdeed);
    if let Some(misdeed) = state.misdeeds.pop_front().or(denied) {
        drop(state);
        return misbehave(stream, &misdeed);
    }
    let (status, body) = answer(&request, kind, described, &mut state);
    drop(state);
    send(&mut stream, status, "", &body.to_string());
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_string(), value.to_string())),
            None => break,
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mut request = Request { method, path: path.to_string(), query, headers, body: String::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some(request)
}

fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())));
}

fn misbehave(mut stream: TcpStream, misdeed: &Misdeed) {
    match misdeed {
        Misdeed::Answer(status, headers, body) => send(&mut stream, *status, headers, body),
        Misdeed::Silence => thread::sleep(Duration::from_secs(60)),
        Misdeed::HangUp => {}
        Misdeed::Flood => {
            let head = "HTTP/1.1 200 x\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n[";
            drop(stream.write_all(head.as_bytes()));
            let chunk = vec![b' '; 1 << 20];
            // It ends when the client hangs up.
            for _ in 0..1024 {
                if stream.write_all(&chunk).is_err() {
                    return;
                }
            }
        }
        Misdeed::Drip => {
            for byte in "HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\n".bytes().chain(std::iter::repeat(b' ')) {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Returns the answer to a request that was checked.
fn answer(request: &Request, kind: Kind, described: &Value, state: &mut State) -> (u16, Value) {
    let violations = violations_of_headers(request, kind);
    state.violations.extend(violations);
    let secret = match kind {
        Kind::GitHub => request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")),
        Kind::Gitea => request.header("authorization").and_then(|value| value.strip_prefix("token ")),
        Kind::GitLab => request.header("private-token"),
    };
    if secret != Some(TOKEN) {
        return (401, json!({"message": "Bad credentials"}));
    }
    let operations = described["operations"].as_array().unwrap();
    let found = operations.iter().find_map(|operation| {
        let parts = (operation["method"] == *request.method).then(|| matched(operation, &request.path))??;
        Some((operation, parts))
    });
    let Some((operation, parts)) = found else {
        state.violations.push(format!("{} {} is not described", request.method, request.path));
        return (404, json!({"message": "Not Found"}));
    };
    let mistakes = mistakes(request, kind, operation);
    if !mistakes.is_empty() {
        state.violations.extend(mistakes.clone());
        return (422, json!({"message": mistakes.join("; ")}));
    }
    let (status, body) = perform(request, kind, operation, &parts, state);
    if u64::from(status) == operation["status"].as_u64().unwrap() {
        // The stand-in is held against the description too.
        assert!(jsonschema::is_valid(&operation["answer"], &body), "{} answers {body}", operation["operation"]);
    }
    (status, body)
}

/// Returns the parts of a path that a template leaves open; `None` when it is another path.
fn matched(operation: &Value, path: &str) -> Option<Vec<String>> {
    let template: Vec<&str> = operation["path"].as_str()?.split('/').collect();
    let parts: Vec<&str> = path.split('/').collect();
    let fits = template.len() == parts.len()
        && template.iter().zip(&parts).all(|(one, part)| one.starts_with('{') && !part.is_empty() || one == part);
    let open = template.iter().zip(&parts).filter(|(one, _)| one.starts_with('{'));
    fits.then(|| open.map(|(_, part)| part.replace("%2F", "/")).collect())
}

fn violations_of_headers(request: &Request, kind: Kind) -> Vec<String> {
    let mut wanted = vec![("user-agent", "fleetform/")];
    match kind {
        // https://docs.github.com/en/rest/using-the-rest-api/getting-started-with-the-rest-api
        Kind::GitHub => {
            wanted.extend([("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")])
        }
        Kind::GitLab | Kind::Gitea => wanted.push(("accept", "application/json")),
    }
    if !request.body.is_empty() {
        wanted.push(("content-type", "application/json"));
    }
    let lacks = |(name, value): &&(&str, &str)| !request.header(name).is_some_and(|given| given.starts_with(value));
    wanted.iter().filter(lacks).map(|(name, value)| format!("{name} is not {value}")).collect()
}

fn mistakes(request: &Request, kind: Kind, operation: &Value) -> Vec<String> {
    let (name, mut found) = (operation["operation"].as_str().unwrap(), Vec::new());
    for (parameter, value) in &request.query {
        let schema = &operation["query"][parameter];
        let typed = if schema["type"] == "integer" {
            value.parse::<u64>().map_or(Value::Null, Value::from)
        } else {
            json!(value)
        };
        if schema.is_null() || !jsonschema::is_valid(schema, &typed) {
            found.push(format!("{name}: the parameter {parameter}={value}"));
        }
        if matches!(parameter.as_str(), "per_page" | "limit") && typed.as_u64() > Some(100) {
            found.push(format!("{name}: a page of {value}"));
        }
    }
    let Ok(body) = serde_json::from_str::<Value>(if request.body.is_empty() { "null" } else { &request.body }) else {
        return vec![format!("{name}: the body is no JSON")];
    };
    let schema = &operation["body"];
    if schema.is_null() != body.is_null() {
        return vec![format!("{name}: a body is there that should not be, or lacks")];
    }
    if schema.is_null() {
        return found;
    }
    if let Err(error) = jsonschema::validate(schema, &body) {
        found.push(format!("{name}: {error}"));
    }
    let unknown = body.as_object().unwrap().keys().filter(|key| schema["properties"][key.as_str()].is_null());
    found.extend(unknown.map(|key| format!("{name}: the member {key}")));
    let chars = |member: &str| body[member].as_str().map_or(0, |text| text.chars().count());
    if kind == Kind::GitHub && (chars("description") > GITHUB_DESCRIPTION_MAX || chars("body") > GITHUB_BODY_MAX) {
        found.push(format!("{name}: a text is too long"));
    }
    found
}

fn perform(request: &Request, kind: Kind, operation: &Value, parts: &[String], state: &mut State) -> (u16, Value) {
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let text = |member: &str| body[member].as_str().unwrap_or_default().to_string();
    let project =
        if kind == Kind::GitLab { parts.first().cloned() } else { parts.get(..2).map(|parts| parts.join("/")) };
    if project.is_some_and(|project| project != PROJECT) {
        return (404, json!({"message": "Not Found"}));
    }
    let me = if state.is_app { "github-actions[bot]" } else { "fleet-bot" };
    let last = parts.last().map(String::as_str).unwrap_or_default();
    match operation["operation"].as_str().unwrap() {
        "users/get-authenticated" | "current user" | "userGetCurrent" if state.is_app => {
            (403, json!({"message": "Resource not accessible by integration"}))
        }
        "users/get-authenticated" | "current user" | "userGetCurrent" => (200, user(kind, me, false)),
        "repos/create-commit-status" | "set the pipeline status of a commit" | "repoCreateStatus" => {
            let posted = Posted {
                commit: last.to_string(),
                state: text("state"),
                context: text("context"),
                description: text("description"),
                link: body["target_url"].as_str().map(str::to_string),
            };
            let before = state.statuses.iter().rfind(|one| one.commit == last && one.context == posted.context);
            if kind == Kind::GitLab && before.is_some_and(|one| one.state == "pending" && posted.state == "pending") {
                let why = "Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via \
                    \"enqueue\")";
                return (400, json!({"message": why}));
            }
            let answer = status(kind, &posted);
            state.statuses.push(posted);
            (201, answer)
        }
        "repos/list-commit-statuses-for-ref" | "list commit statuses" | "repoListStatusesByRef" => {
            let commit = &parts[parts.len() - 1];
            let ours = state.statuses.iter().rev().filter(|one| one.commit == *commit);
            (200, ours.map(|one| status(kind, one)).collect())
        }
        "issues/list-comments" | "list merge request notes" | "issueGetComments" => {
            let change: u64 = last.parse().unwrap();
            let all = state.comments.iter().filter(|one| one.change == change).map(|one| comment(kind, one));
            let (page, per_page) = (request.number("page", 1), request.number("per_page", 30));
            match kind {
                Kind::Gitea => (200, all.collect()),
                Kind::GitHub | Kind::GitLab => (200, all.skip((page - 1) * per_page).take(per_page).collect()),
            }
        }
        "issues/create-comment" | "create a merge request note" | "issueCreateComment" => {
            let id = 1 + state.comments.iter().map(|one| one.id).max().unwrap_or(0);
            let (change, author, body) = (last.parse().unwrap(), me.to_string(), text("body"));
            let one = Comment { id, change, author, is_bot: state.is_app, body };
            state.comments.push(one.clone());
            (201, comment(kind, &one))
        }
        "issues/update-comment" | "update a merge request note" | "issueEditComment" => {
            match state.comments.iter_mut().find(|one| one.id.to_string() == last) {
                Some(one) => {
                    one.body = text("body");
                    (200, comment(kind, one))
                }
                None => (404, json!({"message": "Not Found"})),
            }
        }
        other => panic!("nothing is done for {other}"),
    }
}

fn user(kind: Kind, name: &str, is_bot: bool) -> Value {
    match kind {
        Kind::GitHub => json!({"id": 1, "login": name, "type": if is_bot { "Bot" } else { "User" }}),
        Kind::Gitea => json!({"id": 1, "login": name}),
        Kind::GitLab => json!({"id": 1, "username": name}),
    }
}

fn comment(kind: Kind, Comment { id, author, is_bot, body, .. }: &Comment) -> Value {
    let member = if kind == Kind::GitLab { "author" } else { "user" };
    json!({"id": id, "body": body, member: user(kind, author, *is_bot)})
}

fn status(kind: Kind, posted: &Posted) -> Value {
    let Posted { state, context, description, link, .. } = posted;
    match kind {
        Kind::GitHub => json!({
            "id": 1, "state": state, "context": context, "description": description, "target_url": link,
            "creator": null,
        }),
        Kind::Gitea => json!({"id": 1, "status": state, "context": context, "description": description}),
        Kind::GitLab => json!({"id": 1, "status": state, "name": context, "description": description}),
    }
}
