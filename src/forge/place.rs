//! Which API a project has, by its name or by the address that git has of it.

use std::net::IpAddr;

use super::error::ForgeError;
use crate::model::text::sanitize_line;

/// A kind of forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    GitHub,
    GitLab,
    /// And Forgejo.
    Gitea,
}

impl Kind {
    /// Returns the characters of a description that the forge has room for.
    ///
    /// GitHub refuses more than 140; GitLab keeps 255. Gitea keeps more than it shows.
    pub fn description_chars_max(self) -> usize {
        match self {
            Kind::GitHub | Kind::Gitea => 140,
            Kind::GitLab => 255,
        }
    }

    /// Returns the kind of a well-known host, or of one that has it in its name.
    fn of_host(host: &str) -> Option<Kind> {
        let is_below = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
        let first = host.split('.').next().unwrap_or_default();
        match first {
            _ if is_below("github.com") || is_below("ghe.com") || first == "github" => Some(Kind::GitHub),
            _ if is_below("gitlab.com") || first == "gitlab" => Some(Kind::GitLab),
            _ if is_below("codeberg.org") || is_below("gitea.com") => Some(Kind::Gitea),
            "gitea" | "forgejo" => Some(Kind::Gitea),
            _ => None,
        }
    }

    /// Returns the address of the API of a host.
    fn api(self, scheme: &str, authority: &str) -> String {
        match self {
            Kind::GitHub if authority == "github.com" => "https://api.github.com".to_string(),
            Kind::GitHub if authority.ends_with(".ghe.com") => format!("https://api.{authority}"),
            Kind::GitHub => format!("{scheme}://{authority}/api/v3"),
            Kind::GitLab => format!("{scheme}://{authority}/api/v4"),
            Kind::Gitea => format!("{scheme}://{authority}/api/v1"),
        }
    }
}

/// What is known of a place, each part as it was given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    pub kind: Option<Kind>,
    /// The address of the API.
    pub api: Option<&'a str>,
    /// `owner/name`; of GitLab also a number.
    pub project: Option<&'a str>,
    /// The address that git has of the repository.
    pub remote: Option<&'a str>,
}

/// A project at a forge, and the address of its API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    kind: Kind,
    /// Without `/` at its end; https, or http to loopback.
    api: String,
    /// Host and port of the API, for people.
    host: String,
    project: String,
}

impl Place {
    /// Returns the place, with what was not given from the address of the remote.
    ///
    /// # Errors
    /// `ForgeError::Unusable`: the kind, the address or the project is not known, or cannot be used.
    pub fn of(given: Given<'_>) -> Result<Place, ForgeError> {
        let remote = given.remote.and_then(Remote::parse);
        let known = given.kind.or_else(|| Kind::of_host(remote.as_ref()?.host()));
        let Some(kind) = known else {
            return Err(unusable("it is not known which forge has the repository", "Name it with --forge."));
        };
        let api = match (given.api, &remote) {
            (Some(api), _) => api.trim_end_matches('/').to_string(),
            (None, Some(remote)) => kind.api(remote.scheme, &remote.authority),
            (None, None) => {
                let help = "Give the address of its API with --forge-api, such as https://api.github.com.";
                return Err(unusable("it is not known where the forge is", help));
            }
        };
        let host = check_api(&api)?;
        let project = given.project.map(str::to_string).or_else(|| Some(remote?.path));
        let project = project.map(|project| project.trim_matches('/').to_string()).unwrap_or_default();
        check_project(kind, &project)?;
        Ok(Place { kind, api, host, project })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the project, as `owner/name`.
    pub fn project(&self) -> &str {
        &self.project
    }

    pub(super) fn api(&self) -> &str {
        &self.api
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns true for plain HTTP, which goes to loopback alone.
    pub(super) fn is_plain(&self) -> bool {
        self.api.starts_with("http://")
    }

    /// Returns the project as a part of a path.
    pub(super) fn project_path(&self) -> String {
        match self.kind {
            Kind::GitHub | Kind::Gitea => self.project.clone(),
            Kind::GitLab => self.project.replace('/', "%2F"),
        }
    }
}

/// The address of a repository that is at a server.
struct Remote {
    scheme: &'static str,
    /// The host, and the port where the API has the same one.
    authority: String,
    path: String,
}

impl Remote {
    /// Returns the parts of an address; `None` for a path, and what is no address.
    fn parse(address: &str) -> Option<Remote> {
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme @ ("https" | "http" | "ssh" | "git+ssh"), rest)) => (scheme, rest.to_string()),
            Some(_) => return None,
            // git@host:path; a colon behind a slash is part of a path.
            None => {
                let (host, path) = address.split_once(':').filter(|(host, _)| !host.contains('/'))?;
                ("ssh", format!("{host}/{path}"))
            }
        };
        let (authority, path) = rest.split_once('/')?;
        let authority = authority.rsplit('@').next().unwrap_or_default().to_lowercase();
        // The port of ssh is none of the API's.
        let (scheme, authority) = match scheme {
            "https" => ("https", authority),
            "http" => ("http", authority),
            _ => ("https", authority.split(':').next().unwrap_or_default().to_string()),
        };
        let path = path.trim_matches('/').trim_end_matches(".git").to_string();
        (!authority.is_empty()).then_some(Remote { scheme, authority, path })
    }

    fn host(&self) -> &str {
        self.authority.split(':').next().unwrap_or_default()
    }
}

/// Checks the address of an API, and returns its host and port.
fn check_api(api: &str) -> Result<String, ForgeError> {
    let fail = |why: &str| {
        // What stands before an @ may be a password.
        let shown = api.rsplit('@').next().unwrap_or_default();
        let what = format!("the address `{}` of the forge's API cannot be used: {why}", sanitize_line(shown));
        let help = "Give --forge-api an address such as https://gitlab.example.com/api/v4.".to_string();
        Err(ForgeError::Unusable { what, help })
    };
    let Ok(uri) = api.parse::<ureq::http::Uri>() else { return fail("it is no URL") };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return fail("it is no URL") };
    if authority.as_str().contains('@') {
        return fail("it has a user or a password; the token is given apart");
    }
    if uri.query().is_some() || api.contains('#') {
        return fail("it has more than a path");
    }
    let host = authority.host();
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match scheme {
        "https" => Ok(authority.to_string()),
        "http" if is_loopback => Ok(authority.to_string()),
        "http" => fail("with http the token could be read on the way; use https"),
        _ => fail("it is not https"),
    }
}

fn check_project(kind: Kind, project: &str) -> Result<(), ForgeError> {
    let is_legal = |part: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !part.is_empty() && part.chars().all(legal) && part != "." && part != ".."
    };
    let parts: Vec<&str> = project.split('/').collect();
    let is_number = project.parse::<u64>().is_ok();
    let has_parts = match kind {
        Kind::GitHub | Kind::Gitea => parts.len() == 2,
        Kind::GitLab => is_number || parts.len() >= 2,
    };
    if has_parts && parts.iter().all(|part| is_legal(part)) {
        return Ok(());
    }
    let what = match project {
        "" => "it is not known which project of the forge it is".to_string(),
        project => format!("`{}` is no project of the forge", sanitize_line(project)),
    };
    Err(unusable(&what, "Name it with --forge-project, such as owner/name."))
}

fn unusable(what: &str, help: &str) -> ForgeError {
    ForgeError::Unusable { what: what.to_string(), help: help.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_says_which_api_it_has() {
        let check = |remote: &str, kind: Option<Kind>, expect: &str| {
            let place = Place::of(Given { remote: Some(remote), kind, ..Given::default() });
            let said = match place {
                Ok(place) => format!("{:?} {} {}", place.kind, place.api, place.project),
                Err(error) => error.to_string(),
            };
            assert_eq!(said, expect, "{remote}");
        };
        check("git@github.com:acme/fleet.git", None, "GitHub https://api.github.com acme/fleet");
        check("https://user:pw@github.com/acme/fleet", None, "GitHub https://api.github.com acme/fleet");
        check("ssh://git@github.acme.org:2222/a/b.git", None, "GitHub https://github.acme.org/api/v3 a/b");
        check("https://acme.ghe.com/a/b.git", None, "GitHub https://api.acme.ghe.com a/b");
        check("https://gitlab.com/a/b/c.git", None, "GitLab https://gitlab.com/api/v4 a/b/c");
        check("https://git.acme.org:8443/a/b", Some(Kind::GitLab), "GitLab https://git.acme.org:8443/api/v4 a/b");
        check("git@codeberg.org:a/b.git", None, "Gitea https://codeberg.org/api/v1 a/b");
        check("https://git.acme.org/a/b", None, "it is not known which forge has the repository");
        check("/srv/fleet.git", Some(Kind::GitHub), "it is not known where the forge is");
        check("git@github.com:fleet.git", None, "`fleet` is no project of the forge");
        check("https://github.com/a/b/c", None, "`a/b/c` is no project of the forge");
        let plain = "the address `http://git.acme.org/api/v1` of the forge's API cannot be used: with http the token \
            could be read on the way; use https";
        check("http://git.acme.org/a/b", Some(Kind::Gitea), plain);
    }

    #[test]
    fn an_address_is_checked_before_a_token_goes_there() {
        let check = |api: &str| {
            let given = Given { kind: Some(Kind::GitHub), api: Some(api), project: Some("a/b"), remote: None };
            Place::of(given).map(|place| place.host).map_err(|error| error.to_string())
        };
        for (api, host) in [
            ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
            ("http://[::1]:1", "[::1]:1"),
            ("http://localhost:1/x", "localhost:1"),
            ("https://api.github.com", "api.github.com"),
        ] {
            assert_eq!(check(api).as_deref(), Ok(host), "{api}");
        }
        for (api, why) in [
            ("http://localhost.example.com", "use https"),
            ("http://10.0.0.1", "use https"),
            ("ftp://x", "not https"),
            ("github.com", "no URL"),
            ("", "no URL"),
            ("https://a:secret@x", "has a user"),
            ("https://x?y=z", "more than a path"),
        ] {
            let said = check(api).unwrap_err();
            assert!(said.contains(why) && !said.contains("secret"), "{api}: {said}");
        }
    }

    #[test]
    fn a_project_cannot_lead_elsewhere() {
        let check = |kind: Kind, project: &str| {
            let api = Some("https://x");
            Place::of(Given { kind: Some(kind), api, project: Some(project), remote: None }).is_ok()
        };
        for (kind, project) in [(Kind::GitHub, "a/b.c"), (Kind::GitLab, "a/b/c"), (Kind::GitLab, "12")] {
            assert!(check(kind, project), "{project}");
        }
        for project in ["", "a", "a/..", "a/b?c", "a/b#c", "a//b", "a/b c", "a/%2e"] {
            assert!(!check(Kind::GitHub, project) && !check(Kind::Gitea, project), "{project}");
        }
    }
}
