//! What the surroundings of a job of CI say: which project, which pull request, compared with what.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Variables;
use crate::forge::Kind;

/// Bytes of the file in which GitHub describes an event: what a webhook sends at most.
const EVENT_BYTES_MAX: u64 = 25 << 20;

/// A job of CI.
#[derive(Clone, PartialEq, Eq)]
pub struct Surroundings {
    pub kind: Kind,
    /// The address of the API.
    pub api: Option<String>,
    pub project: Option<String>,
    /// The number of the pull request; `None` when the job is about none.
    pub change: Option<u64>,
    /// The newest commit of the pull request, which is seldom the one that is checked out.
    pub commit: Option<String>,
    /// The branch that it is to be merged into, as a revision of the clone.
    pub base: Option<String>,
    /// A file to whose end a summary is written.
    pub summary: Option<PathBuf>,
    /// The token of the job.
    pub token: Option<String>,
    /// The page of the job.
    pub link: Option<String>,
    /// The pull request comes from another project: the token of the job may not write.
    pub is_of_fork: bool,
}

/// Returns the surroundings; `None` outside of CI.
pub fn detect(variables: Variables<'_>) -> Option<Surroundings> {
    let is_set = |name: &str| variables(name).as_deref() == Some("true");
    if is_set("GITHUB_ACTIONS") || is_set("GITEA_ACTIONS") || is_set("FORGEJO_ACTIONS") {
        let is_gitea = is_set("GITEA_ACTIONS") || is_set("FORGEJO_ACTIONS");
        return Some(actions(if is_gitea { Kind::Gitea } else { Kind::GitHub }, variables));
    }
    is_set("GITLAB_CI").then(|| gitlab(variables))
}

/// <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>
fn actions(kind: Kind, variables: Variables<'_>) -> Surroundings {
    let project = variables("GITHUB_REPOSITORY");
    let event = variables("GITHUB_EVENT_PATH").and_then(|path| read_event(Path::new(&path))).unwrap_or_default();
    let request = &event["pull_request"];
    let head = request["head"]["repo"]["full_name"].as_str();
    let page = |server: String| {
        Some(format!("{server}/{}/actions/runs/{}", variables("GITHUB_REPOSITORY")?, variables("GITHUB_RUN_ID")?))
    };
    Surroundings {
        kind,
        api: variables("GITHUB_API_URL"),
        change: request["number"].as_u64(),
        commit: request["head"]["sha"].as_str().map(str::to_string).or_else(|| variables("GITHUB_SHA")),
        base: variables("GITHUB_BASE_REF").map(|branch| format!("origin/{branch}")),
        summary: variables("GITHUB_STEP_SUMMARY").map(PathBuf::from),
        token: variables("GITHUB_TOKEN"),
        link: variables("GITHUB_SERVER_URL").and_then(page),
        is_of_fork: !request.is_null() && head != project.as_deref(),
        project,
    }
}

/// <https://docs.gitlab.com/ci/variables/predefined_variables/>
fn gitlab(variables: Variables<'_>) -> Surroundings {
    let (own, target) = (variables("CI_PROJECT_ID"), variables("CI_MERGE_REQUEST_PROJECT_ID"));
    let source = variables("CI_MERGE_REQUEST_SOURCE_PROJECT_ID");
    Surroundings {
        kind: Kind::GitLab,
        api: variables("CI_API_V4_URL"),
        change: variables("CI_MERGE_REQUEST_IID").and_then(|number| number.parse().ok()),
        // Of a pipeline of merged results, what is checked out is a commit that nobody has.
        commit: variables("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA").or_else(|| variables("CI_COMMIT_SHA")),
        base: variables("CI_MERGE_REQUEST_TARGET_BRANCH_NAME").map(|branch| format!("origin/{branch}")),
        summary: None,
        // The token of a job may not write notes.
        token: None,
        link: variables("CI_JOB_URL"),
        is_of_fork: source.is_some() && source != target,
        project: target.or(own),
    }
}

/// Returns the event of the workflow; `None` when it cannot be read.
fn read_event(path: &Path) -> Option<Value> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(EVENT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(given: &[(&str, &str)]) -> Option<Surroundings> {
        detect(&|name| given.iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn an_action_knows_its_pull_request_by_the_event() {
        let folder = tempfile::tempdir().unwrap();
        let event = folder.path().join("event.json");
        let check = |text: &str, expect: (Option<u64>, Option<&str>, bool)| {
            std::fs::write(&event, text).unwrap();
            let around = detected(&[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_REPOSITORY", "acme/fleet"),
                ("GITHUB_SHA", "merge"),
                ("GITHUB_EVENT_PATH", event.to_str().unwrap()),
                ("GITHUB_SERVER_URL", "https://github.com"),
                ("GITHUB_RUN_ID", "9"),
            ])
            .unwrap();
            assert_eq!((around.change, around.commit.as_deref(), around.is_of_fork), expect, "{text}");
            assert_eq!(around.link.as_deref(), Some("https://github.com/acme/fleet/actions/runs/9"));
        };
        let request = |project: &str| {
            format!(r#"{{"pull_request": {{"number": 7, "head": {{"sha": "tip", "repo": {project}}}}}}}"#)
        };
        check(&request(r#"{"full_name": "acme/fleet"}"#), (Some(7), Some("tip"), false));
        check(&request(r#"{"full_name": "mallory/fleet"}"#), (Some(7), Some("tip"), true));
        // The project of the branch is gone.
        check(&request("null"), (Some(7), Some("tip"), true));
        check(r#"{"ref": "refs/heads/main"}"#, (None, Some("merge"), false));
        check("no JSON", (None, Some("merge"), false));
    }

    #[test]
    fn each_kind_is_known_by_its_variables() {
        assert!(detected(&[("CI", "true"), ("GITLAB_CI", "")]).is_none());
        let kind = |given: &[(&str, &str)]| detected(given).unwrap().kind;
        assert_eq!(kind(&[("GITHUB_ACTIONS", "true")]), Kind::GitHub);
        assert_eq!(kind(&[("GITHUB_ACTIONS", "true"), ("GITEA_ACTIONS", "true")]), Kind::Gitea);
        let merge_request = |source: &str| {
            detected(&[
                ("GITLAB_CI", "true"),
                ("CI_PROJECT_ID", "5"),
                ("CI_MERGE_REQUEST_IID", "12"),
                ("CI_MERGE_REQUEST_PROJECT_ID", "4"),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", source),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
                ("CI_COMMIT_SHA", "merged"),
                ("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "tip"),
            ])
            .unwrap()
        };
        let around = merge_request("4");
        assert_eq!((around.change, around.project.as_deref(), around.is_of_fork), (Some(12), Some("4"), false));
        assert_eq!((around.commit.as_deref(), around.base.as_deref()), (Some("tip"), Some("origin/main")));
        assert!(merge_request("5").is_of_fork);
    }
}
