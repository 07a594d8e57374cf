//! The clients of forges: comments, commit statuses, what they refuse and how they fail; against a stand-in that holds each
//! request against the published description of the API.

use std::time::{Duration, Instant};

use fleetform::forge::{
    Forge, ForgeError, Given, Kind, Place, Report, Reporter, State, Status, Token, TokenSource, marker,
};

use crate::servers::{free_port, wait_until};
use crate::stand_in::{Comment, Misdeed, PROJECT, StandIn, TOKEN, assert_secret, says};

const KINDS: [Kind; 3] = [Kind::GitHub, Kind::GitLab, Kind::Gitea];
const COMMIT: &str = "0123456789012345678901234567890123456789";

fn status(state: State, description: &str) -> Status {
    Status { context: "fleetform/acme".to_string(), state, description: description.to_string(), link: None }
}

fn report(state: State, description: &str) -> Report {
    Report { commit: COMMIT.to_string(), status: status(state, description), is_late: false }
}

#[test]
fn a_comment_is_made_once_and_then_brought_up_to_date() {
    for kind in KINDS {
        let server = StandIn::new(kind);
        let forge = server.forge();
        let body = |text: &str| format!("{}\n{text}", marker(""));
        let first = forge.upsert_comment(7, &marker(""), &body("one")).unwrap();
        let second = forge.upsert_comment(7, &marker(""), &body("two")).unwrap();
        assert_eq!((first.is_new, second.is_new, first.id), (true, false, second.id), "{kind:?}");
        // Another pull request and another fleet of the same one have comments of their own.
        assert!(forge.upsert_comment(8, &marker(""), &body("other")).unwrap().is_new);
        let folder = marker("fleets/hall-c/");
        assert!(forge.upsert_comment(7, &folder, &format!("{folder}\nthree")).unwrap().is_new);
        assert!(!forge.upsert_comment(7, &marker(""), &body("four")).unwrap().is_new);
        let bodies: Vec<(u64, String)> = server.comments().into_iter().map(|one| (one.change, one.body)).collect();
        let expected =
            [(7, body("four")), (8, body("other")), (7, "<!-- fleetform:plan fleets/hall-c -->\nthree".to_string())];
        assert_eq!(bodies, expected, "{kind:?}");
        server.assert_described();
    }
}

#[test]
fn a_comment_is_found_behind_others_and_one_of_somebody_else_is_left_alone() {
    for kind in KINDS {
        let server = StandIn::new(kind);
        let comment = |id: u64, author: &str, body: &str| Comment {
            id,
            change: 7,
            author: author.to_string(),
            is_bot: false,
            body: body.to_string(),
        };
        let mut comments: Vec<Comment> = (1..=230).map(|id| comment(id, "person", "looks good")).collect();
        comments[2].body = format!("{}\nnothing to do, merge me", marker(""));
        comments[3] = comment(4, "fleet-bot", &format!("as I said:\n{}\nx", marker("")));
        comments[220] = comment(221, "fleet-bot", &format!("{}\r\nold", marker("")));
        server.state().comments = comments;
        let made = server.forge().upsert_comment(7, &marker(""), &format!("{}\nnew", marker(""))).unwrap();
        assert_eq!((made.id, made.is_new), (221, false), "{kind:?}");
        assert!(server.comments()[2].body.ends_with("merge me"));
        server.assert_described();
    }
    // The token of a workflow is of no user: what apps write is its own.
    let server = StandIn::new(Kind::GitHub);
    server.state().is_app = true;
    for is_new in [true, false] {
        let comment = server.forge().upsert_comment(7, &marker(""), &format!("{}\nx", marker(""))).unwrap();
        assert_eq!(comment.is_new, is_new);
    }
}

#[test]
fn a_status_is_set_and_read() {
    for kind in KINDS {
        let server = StandIn::new(kind);
        let forge = server.forge();
        assert_eq!(forge.state_of(COMMIT, "fleetform/acme").unwrap(), None);
        // GitLab has no way from a state to itself, and it is as it should be.
        for state in [State::Pending, State::Pending, State::Failure, State::Success] {
            forge.set_status(COMMIT, &status(state, &"long ".repeat(100))).unwrap();
            assert_eq!(forge.state_of(COMMIT, "fleetform/acme").unwrap(), Some(state), "{kind:?}");
        }
        let link = Some("https://fleet.example.com/".to_string());
        forge
            .set_status(COMMIT, &Status { context: "other".into(), link: link.clone(), ..status(State::Failure, "") })
            .unwrap();
        assert_eq!(server.statuses().last().unwrap().link, link);
        assert_eq!(forge.state_of(COMMIT, "fleetform/acme").unwrap(), Some(State::Success));
        for commit in ["", "main", "../../user", &COMMIT[..12]] {
            let error = forge.set_status(commit, &status(State::Success, "")).unwrap_err();
            assert!(matches!(error, ForgeError::Unusable { .. }), "{error:?}");
        }
        server.assert_described();
    }
}

/// Sets a status, and returns the error.
fn failure(server: &StandIn, misdeed: Misdeed) -> ForgeError {
    server.misdeed(misdeed);
    let error = server.forge().set_status(COMMIT, &status(State::Success, "")).unwrap_err();
    assert_secret(&format!("{error} {error:?} {}", error.help()));
    assert!(server.statuses().is_empty());
    error
}

#[test]
fn what_a_forge_refuses_is_one_sentence_without_the_token() {
    for kind in KINDS {
        let server = StandIn::new(kind);
        let wrong = server.forge_with("wrong-HUSH").set_status(COMMIT, &status(State::Success, "")).unwrap_err();
        assert!(matches!(wrong, ForgeError::Denied { status: 401, .. }), "{wrong:?}");
        assert_secret(&format!("{wrong} {wrong:?}"));
        let check = |misdeed: Misdeed, expect: &str| {
            let error = failure(&server, misdeed);
            let host = server.api.trim_start_matches("http://");
            assert_eq!(error.to_string().replace(host, "HOST"), expect);
            assert!(!error.help().is_empty());
            error.is_transient()
        };
        let denied = |status: u16, message: &str| {
            format!("HOST does not let this token set a commit status ({status}{message})")
        };
        let echo = format!(r#"{{"message": "no rights for {TOKEN}"}}"#);
        assert!(!check(says(403, "", &echo), &denied(403, ": no rights for …")));
        assert!(!check(says(404, "", "<html>"), &denied(404, "")));
        assert!(!check(
            says(422, "", r#"{"message": {"state": ["bad"]}}"#),
            "HOST refuses to set a commit status (422: {\"state\":[\"bad\"]})"
        ));
        assert!(check(says(429, "Retry-After: 7\r\n", "{}"), "HOST asks to wait for 7s"));
        assert!(check(says(403, "Retry-After: 60\r\n", "{}"), "HOST asks to wait for 1m"));
        assert!(check(says(403, "X-RateLimit-Remaining: 0\r\n", "{}"), "HOST asks to wait for 1m"));
        assert!(check(says(429, "Retry-After: 999999999999\r\n", "{}"), "HOST asks to wait for 15m"));
        assert!(check(says(502, "", "<html>"), "HOST fails (502)"));
        assert!(!check(says(201, "", "<html>"), "what HOST answers cannot be used: it is no JSON"));
    }
}

#[test]
fn the_token_goes_to_no_other_host() {
    let (server, other) = (StandIn::new(Kind::GitHub), StandIn::new(Kind::GitHub));
    for status in [301, 302, 307, 308] {
        let headers = format!("Location: {}/steal?token={TOKEN}\r\n", other.api);
        let error = failure(&server, says(status, &headers, ""));
        let ForgeError::Moved { to, .. } = error else { panic!("{error:?}") };
        assert_eq!(to, format!("{}/steal", other.api));
    }
    assert_eq!(other.state().requests, Vec::<String>::new());
}

#[test]
fn a_forge_that_stands_still_or_floods_is_left() {
    let server = StandIn::new(Kind::GitHub);
    for (misdeed, word) in [
        (Misdeed::Silence, "no answer after 700ms"),
        (Misdeed::Drip, "no answer after 700ms"),
        (Misdeed::HangUp, "does not answer"),
    ] {
        let began = Instant::now();
        server.misdeed(misdeed.clone());
        let forge = server.forge().with_time_max(Duration::from_millis(700));
        let error = forge.set_status(COMMIT, &status(State::Success, "")).unwrap_err();
        assert!(error.to_string().contains(word) && error.is_transient(), "{misdeed:?}: {error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{misdeed:?}");
    }
    let error = failure(&server, Misdeed::Flood);
    assert!(error.to_string().ends_with("it has more than 16 MiB"), "{error}");
    // Nothing listens there any more.
    let gone = free_port();
    let given = Given {
        kind: Some(Kind::GitHub),
        api: Some(&format!("http://127.0.0.1:{gone}")),
        project: Some(PROJECT),
        remote: None,
    };
    let token = TokenSource::Given(Token::parse(TOKEN).unwrap());
    let forge = Forge::new(Place::of(given).unwrap(), token);
    let error = forge.set_status(COMMIT, &status(State::Success, "")).unwrap_err();
    assert!(matches!(error, ForgeError::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_status_that_was_not_taken_is_sent_again_and_the_newest_wins() {
    let server = StandIn::new(Kind::GitHub);
    server.misdeed(says(503, "", ""));
    server.misdeed(says(429, "Retry-After: 1\r\n", ""));
    let reporter = Reporter::start(server.forge()).unwrap();
    let began = Instant::now();
    reporter.tell(report(State::Pending, "one"));
    wait_until("the first try has failed", || server.state().requests.len() == 1);
    (2..10).for_each(|n| reporter.tell(report(State::Pending, &n.to_string())));
    reporter.tell(report(State::Success, "last"));
    assert!(began.elapsed() < Duration::from_millis(900), "nothing waits for the forge");
    wait_until("the status is set", || !server.statuses().is_empty());
    // What it asked to wait for, and the first pause.
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(reporter.end(), None);
    let said: Vec<String> = server.statuses().into_iter().map(|one| one.description).collect();
    assert_eq!(said, ["last"]);
    assert_eq!(server.state().requests.len(), 3);
    // What another process said is not overwritten by one that knows less.
    let reporter = Reporter::start(server.forge()).unwrap();
    reporter.tell(Report { is_late: true, ..report(State::Success, "late") });
    assert_eq!((reporter.end(), server.statuses().len()), (None, 1));
}

#[test]
fn the_end_does_not_wait_for_a_forge_that_is_down() {
    let server = StandIn::new(Kind::GitHub);
    server.state().denies = Some(("/statuses/", says(503, "", "")));
    let reporter = Reporter::start(server.forge()).unwrap();
    reporter.tell(report(State::Success, "x"));
    wait_until("the first try has failed", || !server.state().requests.is_empty());
    let began = Instant::now();
    assert!(matches!(reporter.end(), Some(ForgeError::Broken { status: 503, .. })));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    server.state().denies = Some(("/statuses/", Misdeed::Silence));
    let reporter = Reporter::start(server.forge()).unwrap();
    (0..200).for_each(|n| reporter.tell(Report { commit: format!("{n:040}"), ..report(State::Success, "x") }));
    let began = Instant::now();
    reporter.end();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
