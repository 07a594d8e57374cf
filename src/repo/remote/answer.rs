//! Interprets git's output: the kind of a failure, and the text to show.
//!
//! Text of the server (`remote: …`) is shown but never decides: a hook may print anything. The server's decision is in
//! the status lines of a push. Refused connections are in the messages of git, ssh and curl.

use std::borrow::Cow;

use crate::model::text::{sanitize_line, shorten};

/// The most characters of a message that are shown.
const MESSAGE_CHARS_MAX: usize = 400;
/// The most lines of git's output in a message.
const MESSAGE_LINES_MAX: usize = 8;

/// The kind of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server refuses, and will until a person changes something.
    Denied,
    /// Another writer was first.
    Rejected,
    /// The server cannot be reached, went away or failed.
    Unreachable,
    NotARepository,
    /// The address cannot be used.
    Address,
    /// The remote has no such reference.
    NoReference(String),
    Other,
}

/// A status line of `git push --porcelain`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PushStatus<'a> {
    flag: char,
    /// For example `[rejected] (stale info)`.
    summary: &'a str,
}

/// Returns the status of a reference from the output of `git push --porcelain`: lines of
/// `<flag>\t<from>:<to>\t<summary>`.
pub(super) fn status_of<'a>(stdout: &'a str, reference: &str) -> Option<PushStatus<'a>> {
    statuses(stdout).find(|(to, _)| *to == reference).map(|(_, status)| status)
}

/// Returns the first reference that has a status in the output.
pub(super) fn pushed_to(stdout: &str) -> Option<&str> {
    statuses(stdout).next().map(|(to, _)| to)
}

fn statuses(stdout: &str) -> impl Iterator<Item = (&str, PushStatus<'_>)> {
    stdout.lines().filter_map(|line| {
        let mut fields = line.splitn(3, '\t');
        let (flag, refs, summary) = (fields.next()?, fields.next()?, fields.next()?);
        let (_, to) = refs.rsplit_once(':')?;
        let mut flags = flag.chars();
        let status = PushStatus { flag: flags.next()?, summary };
        flags.next().is_none().then_some((to, status))
    })
}

impl<'a> PushStatus<'a> {
    /// Returns true when the reference is at the pushed commit.
    pub fn is_done(&self) -> bool {
        // A `+` is a forced update, which only a renewal of the lease is.
        matches!(self.flag, ' ' | '*' | '=')
    }

    /// Returns true when the reference was replaced by the pushed commit.
    pub fn is_forced(&self) -> bool {
        self.flag == '+'
    }

    /// Returns true when the reference was not moved because another one of the same push was not.
    pub fn is_follower(&self) -> bool {
        self.reason().contains("atomic push fail")
    }

    /// Returns true when the server takes no forced update of the reference, wherever it is.
    pub fn forbids_force(&self) -> bool {
        self.summary.starts_with("[remote rejected]") && self.reason().contains("non-fast-forward")
    }

    /// Returns the reason in parentheses.
    pub fn reason(&self) -> &'a str {
        let inner = self.summary.split_once(" (").and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(self.summary)
    }

    /// Returns the kind of a failure.
    pub fn fault(&self) -> Fault {
        let reason = self.reason().to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        if self.summary.starts_with("[rejected]") {
            // Git compared the reference with the server's when it connected.
            return Fault::Rejected;
        }
        if self.summary.starts_with("[remote failure]") || self.summary.starts_with("[no match]") {
            // "remote failed to report status": the server received everything, then went away.
            return Fault::Unreachable;
        }
        // The server's own compare-and-swap failed: another writer was faster after we connected.
        if has(SERVER_RACES) || (reason.contains("cannot lock ref") && has(LOCK_RACES)) {
            return Fault::Rejected;
        }
        if has(SERVER_ACCIDENTS) || reason == "failure" {
            return Fault::Unreachable;
        }
        if reason.contains("unpack") || reason.contains("missing necessary objects") {
            return Fault::Other;
        }
        // Hooks, protected branches, rules of the host, or a branch that is checked out there.
        Fault::Denied
    }
}

/// Reasons of servers that found the reference elsewhere, from several versions of git and from other servers.
const SERVER_RACES: &[&str] = &[
    "non-fast-forward",
    "fetch first",
    "failed to update ref",
    "incorrect old value provided",
    "reference already exists",
    "failed to lock",
    "stale info",
    "ref updated since",
    // Several references at once: git does not say which one was elsewhere.
    "atomic transaction failed",
];

/// Returns true when git's stderr says that the server cannot move several references at once.
pub(super) fn lacks_atomic(stderr: &str) -> bool {
    stderr.lines().any(|line| !line.starts_with("remote:") && line.contains("does not support --atomic"))
}

/// Text after "cannot lock ref" that means another writer; other text is about names and permissions.
const LOCK_RACES: &[&str] =
    &["but expected", "reference already exists", "file exists", "unable to resolve reference", "reference is missing"];

const SERVER_ACCIDENTS: &[&str] = &["internal server error", "internal error", "timeout", "timed out", "try again"];

/// The first match decides, so messages that name a cause come before messages that follow from any cause.
const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::Other, &["no space left on device", "disk quota exceeded"]),
    (
        Fault::NotARepository,
        &[
            "does not appear to be a git repository",
            "repository not found",
            "' not found",
            "access denied or repository not exported",
            "no such repository",
            "not a git repository",
            "returned error: 404",
            "returned error: 410",
        ],
    ),
    (
        Fault::Denied,
        &[
            "permission denied",
            "authentication failed",
            "could not read username",
            "could not read password",
            "unable to get password",
            "terminal prompts disabled",
            "returned error: 401",
            "returned error: 403",
            "returned error: 407",
            "too many authentication failures",
            "host key verification failed",
            "service not enabled",
            "dubious ownership",
            "denied to",
            "access denied",
            "insufficient permission",
            "certificate problem",
            "certificate verif",
        ],
    ),
    (
        Fault::Unreachable,
        &[
            "could not resolve",
            "unable to look up",
            "name or service not known",
            "name resolution",
            "connection refused",
            "connection reset",
            "connection closed",
            "connection lost",
            "timed out",
            "timeout",
            "no route to host",
            "network is unreachable",
            "unable to connect",
            "failed to connect",
            "couldn't connect",
            "could not connect",
            "hung up",
            "early eof",
            "unexpected disconnect",
            "disconnect while",
            "broken pipe",
            "rpc failed",
            "empty reply",
            "too slow",
            "transfer closed",
            "kex_exchange_identification",
            "banner exchange",
            "invalid response",
            "protocol error",
            "returned error: 5",
            "returned error: 429",
        ],
    ),
    // Last, because this ends a daemon that has never reached its remote.
    (
        Fault::Address,
        &[
            "' not allowed",
            "is not a git command",
            "unable to find remote helper",
            "' is not supported",
            "no path specified",
            "strange hostname",
            "strange pathname",
            "url rejected",
            "url using bad/illegal format",
            "malformed input to a url function",
        ],
    ),
];

/// Returns the kind of a failure without a status line, from git's stderr.
pub(super) fn fault_of(stderr: &str) -> Fault {
    let (theirs, ours): (Vec<&str>, Vec<&str>) = stderr.lines().partition(|line| line.starts_with("remote:"));
    let missing = ours.iter().find_map(|line| line.strip_prefix("fatal: couldn't find remote ref "));
    if let Some(reference) = missing {
        return Fault::NoReference(reference.to_string());
    }
    let text = ours.iter().map(|line| without_quoted(line)).collect::<Vec<_>>().join("\n").to_lowercase();
    let found = FAULTS.iter().find(|(_, words)| words.iter().any(|word| text.contains(word)));
    match found {
        Some((fault, _)) => fault.clone(),
        // Hosts that have authenticated the user print why they refuse, then end.
        None if text.contains("could not read from remote repository") && !theirs.is_empty() => Fault::Denied,
        None if text.contains("could not read from remote repository") => Fault::Unreachable,
        None => Fault::Other,
    }
}

/// Returns a line without the text between quotes: names of repositories, hosts and files may contain any words.
fn without_quoted(line: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(line.len()), line);
    while let Some(open) = rest.find('\'') {
        let (before, inner) = (&rest[..open], &rest[open + 1..]);
        text.push_str(before);
        text.push('\'');
        rest = inner;
        // The quote in "couldn't" opens nothing.
        if before.ends_with(char::is_alphanumeric) {
            continue;
        }
        let is_end = |at: &usize| !inner[at + 1..].starts_with(|next: char| next.is_alphanumeric() || next == '/');
        if let Some(close) = inner.match_indices('\'').map(|(at, _)| at).find(is_end) {
            text.push('\'');
            rest = &inner[close + 1..];
        }
    }
    text.push_str(rest);
    text
}

/// Lines that git adds to every failure, or that are not about the failure.
const NOISE: &[&str] = &[
    "hint:",
    "error: failed to push some refs",
    "fatal: Could not read from remote repository",
    "Please make sure you have the correct access rights",
    "and the repository exists",
    "Warning: Permanently added",
    "**",
    "remote: Resolving deltas",
    "remote: Counting objects",
    "remote: Compressing objects",
    "remote: Enumerating objects",
    "remote: Total ",
];

/// Returns the messages of git and the server on one line, safe to show: bounded, without control characters and
/// secrets in URLs.
pub(super) fn message_of(reason: Option<&str>, stderr: &str) -> String {
    let lines = stderr.lines().filter(|line| !NOISE.iter().any(|noise| line.starts_with(noise)));
    // A terminal shows only the last piece of a line with carriage returns.
    let lines = lines.filter_map(|line| line.rsplit('\r').find(|piece| !piece.trim().is_empty()));
    let lines = lines.map(|line| line.trim_start_matches("remote:").trim());
    let lines = lines.map(|line| line.strip_prefix("fatal: ").or(line.strip_prefix("error: ")).unwrap_or(line));
    let mut parts: Vec<&str> = Vec::new();
    for part in reason.into_iter().chain(lines) {
        if !part.is_empty() && !parts.contains(&part) && parts.len() < MESSAGE_LINES_MAX {
            parts.push(part);
        }
    }
    if parts.is_empty() {
        parts.extend(stderr.lines().map(str::trim).find(|line| !line.is_empty()));
    }
    let text = if parts.is_empty() { "git does not say why".to_string() } else { parts.join("; ") };
    let shown = without_secrets(&text);
    shorten(&sanitize_line(&shown), MESSAGE_CHARS_MAX).into_owned()
}

/// Returns a text whose URLs have no user and no password: `https://user:token@host` becomes `https://host`.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        rest = &after[secret_end(after)..];
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Returns the length in bytes of the user and password behind `://`, with their `@`.
fn secret_end(after: &str) -> usize {
    let word = after.split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`')).next().unwrap_or_default();
    let authority = word.split('/').next().unwrap_or_default();
    if let Some(at) = authority.rfind('@') {
        return at + 1;
    }
    // The password may contain a `/` that should have been spelled `%2F`: what precedes it looks like a port, but is
    // not.
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let is_password = !authority.starts_with('[') && port.is_some_and(|port| !port.chars().all(|c| c.is_ascii_digit()));
    match word.rfind('@') {
        Some(at) if is_password => at + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_urls_are_left_out() {
        let check = |text: &str, expect: &str| assert_eq!(without_secrets(text), expect);
        check("https://user:token@host/x", "https://host/x");
        check("https://token@host/x and ssh://git@h:22/y", "https://host/x and ssh://h:22/y");
        check("unable to access 'https://u:p@ss@host/': no", "unable to access 'https://host/': no");
        check("https://u:a/b@host/x", "https://host/x");
        check("https://host:8080/x@v1", "https://host:8080/x@v1");
        check("https://[::1]:80/x@v1", "https://[::1]:80/x@v1");
        check("git@host:team/fleet.git", "git@host:team/fleet.git");
        check("/srv/fleet.git", "/srv/fleet.git");
    }

    fn fault_of_status(summary: &str) -> Fault {
        let stdout = format!("To x\n!\tabc:refs/heads/a:b\tno\n!\tabc:refs/heads/main\t{summary}\nDone\n");
        let status = status_of(&stdout, "refs/heads/main").unwrap();
        assert!(!status.is_done());
        status.fault()
    }

    #[test]
    fn a_refused_push_is_told_by_its_status_line() {
        let check = |summary: &str, expect: Fault| assert_eq!(fault_of_status(summary), expect, "{summary}");
        check("[rejected] (stale info)", Fault::Rejected);
        check("[rejected] (fetch first)", Fault::Rejected);
        check("[rejected] (non-fast-forward)", Fault::Rejected);
        check("[remote rejected] (non-fast-forward)", Fault::Rejected);
        check("[remote rejected] (failed to update ref)", Fault::Rejected);
        check("[remote rejected] (incorrect old value provided)", Fault::Rejected);
        check("[remote rejected] (atomic transaction failed)", Fault::Rejected);
        check("[remote rejected] (cannot lock ref 'refs/heads/main': is at 12 but expected 34)", Fault::Rejected);
        check("[remote rejected] (cannot lock ref 'refs/heads/main': reference already exists)", Fault::Rejected);
        let locked = "cannot lock ref 'refs/heads/main': Unable to create '/srv/main.lock': File exists.";
        check(&format!("[remote rejected] ({locked})"), Fault::Rejected);
        check(
            "[remote rejected] (cannot lock ref 'refs/heads/main': 'refs/heads' exists; cannot create)",
            Fault::Denied,
        );
        let read_only = "cannot lock ref 'refs/heads/main': Unable to create '/srv/main.lock': Permission denied";
        check(&format!("[remote rejected] ({read_only})"), Fault::Denied);
        check("[remote rejected] (hook declined)", Fault::Denied);
        check("[remote rejected] (pre-receive hook declined)", Fault::Denied);
        check("[remote rejected] (protected branch hook declined)", Fault::Denied);
        check("[remote rejected] (push declined due to repository rule violations)", Fault::Denied);
        check("[remote rejected] (branch is currently checked out)", Fault::Denied);
        check("[remote rejected] (prohibited by Gerrit: not permitted: update)", Fault::Denied);
        check("[remote rejected] (Internal Server Error)", Fault::Unreachable);
        check("[remote rejected] (failure)", Fault::Unreachable);
        check("[remote rejected] (unpacker error)", Fault::Other);
        check("[remote failure] (remote failed to report status)", Fault::Unreachable);
    }

    #[test]
    fn a_push_that_landed_is_told_by_its_status_line() {
        let check = |line: &str, expect: Option<bool>| {
            let found = status_of(line, "refs/heads/main").map(|status| status.is_done());
            assert_eq!(found, expect, "{line}");
        };
        check(" \tabc:refs/heads/main\t123..456", Some(true));
        check("*\tabc:refs/heads/main\t[new branch]", Some(true));
        check("=\tabc:refs/heads/main\t[up to date]", Some(true));
        check("+\tabc:refs/heads/main\t123...456 (forced update)", Some(false));
        check(" \tabc:refs/heads/other\t123..456", None);
        check("Done", None);
        check("", None);
    }

    #[test]
    fn a_server_that_does_not_talk_is_told_by_what_git_reports() {
        let tail = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access \
            rights\n\
                    and the repository exists.\n";
        let check = |text: &str, expect: Fault| assert_eq!(fault_of(&format!("{text}\n{tail}")), expect, "{text}");
        check("git@github.com: Permission denied (publickey).", Fault::Denied);
        check("Host key verification failed.", Fault::Denied);
        check("ERROR: Repository not found.", Fault::NotARepository);
        check("ERROR: Permission to a/b.git denied to c.", Fault::Denied);
        check("remote: ERROR: The project you were looking for could not be found.", Fault::Denied);
        check("fatal: '/srv/x' does not appear to be a git repository", Fault::NotARepository);
        check("ssh: connect to host h port 22: Connection refused", Fault::Unreachable);
        check("ssh: Could not resolve hostname h: Name or service not known", Fault::Unreachable);
        check("", Fault::Unreachable);
        check("remote: Connection refused\nremote: permission denied", Fault::Denied);
        let check = |text: &str, expect: Fault| assert_eq!(fault_of(text), expect, "{text}");
        let access = |why: &str| format!("fatal: unable to access 'https://h/x/': {why}");
        check(&access("Could not resolve host: h"), Fault::Unreachable);
        check(&access("The requested URL returned error: 403"), Fault::Denied);
        check(&access("The requested URL returned error: 503"), Fault::Unreachable);
        check("error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403", Fault::Denied);
        check("fatal: could not read Username for 'https://h': terminal prompts disabled", Fault::Denied);
        check("fatal: repository 'https://h/x/' not found", Fault::NotARepository);
        check("fatal: remote error: access denied or repository not exported: /x", Fault::NotARepository);
        check("fatal: transport 'ext' not allowed", Fault::Address);
        check("fatal: protocol 'htps' is not supported", Fault::Address);
        check("git: 'remote-htps' is not a git command. See 'git --help'.", Fault::Address);
        check("fatal: strange hostname '-oProxyCommand=x' blocked", Fault::Address);
        check(&access("URL rejected: Malformed input to a URL function"), Fault::Address);
        check(&access("URL using bad/illegal format or missing URL"), Fault::Address);
        check("error: RPC failed; curl 56 Malformed encoding found in chunked-encoding", Fault::Unreachable);
        let named = |name: &str, why: &str| format!("fatal: unable to access 'https://h/{name}.git/': {why}");
        check(&named("malformed-frames", "Could not resolve host: h"), Fault::Unreachable);
        check(&named("url rejected", "Could not resolve host: h"), Fault::Unreachable);
        check(&named("it's permission denied", "Could not resolve host: h"), Fault::Unreachable);
        check("ssh: couldn't connect to 'timeout' ('url rejected'): Permission denied", Fault::Denied);
        check("fatal: '/srv/connection refused.git' does not appear to be a git repository", Fault::NotARepository);
        check("fatal: couldn't find remote ref refs/heads/x", Fault::NoReference("refs/heads/x".to_string()));
        check("remote: fatal: couldn't find remote ref refs/heads/x", Fault::Other);
        check("fatal: write error: No space left on device\nfatal: early EOF", Fault::Other);
        check("fatal: mismatched algorithms: client sha1; server sha256", Fault::Other);
    }

    #[test]
    fn a_message_is_one_safe_line_of_what_matters() {
        let check = |reason: Option<&str>, stderr: &str, expect: &str| assert_eq!(message_of(reason, stderr), expect);
        check(
            Some("hook declined"),
            "remote: error: only bots may write        \nremote: \u{1b}[31mred\nremote:\nerror: failed to push some \
                refs to 'x'\n\
             hint: fetch first\n",
            "hook declined; only bots may write; \\u{1b}[31mred",
        );
        check(None, "remote: Checking: 10%\rremote: Checking: 100%\rremote: done\n", "done");
        check(None, "fatal: unable to access 'https://u:p@h/': no\n", "unable to access 'https://h/': no");
        check(None, "fatal: Could not read from remote repository.\n", "fatal: Could not read from remote repository.");
        check(None, "", "git does not say why");
        let long = message_of(None, &"x".repeat(10_000));
        assert_eq!(long.chars().count(), MESSAGE_CHARS_MAX);
        assert_eq!(message_of(None, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n"), "a; b; c; d; e; f; g; h");
    }
}
