//! A job as a back end asks for it: the body of `PUT /jobs/v2/{id}`, and the document that it becomes.
//!
//! Source: Microsoft, "IoT Hub REST API: Job Client, Create Scheduled Job", and what its clients send.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::names::{CREATED_LABEL, JOB_LABEL, POLICY_LABEL, REQUEST_LABEL};
use super::{HubError, whole};
use crate::manifest::{API_VERSION, document_text};
use crate::model::digest::{Digest, canonical_json};
use crate::model::id::Name;
use crate::model::limits;
use crate::model::secret;
use crate::model::text;

/// How long a job may take that does not say it: IoT Hub's default.
const WINDOW_DEFAULT: u64 = 3_600;
/// The longest time that a job may take: as long as IoT Hub keeps one.
const WINDOW_MAX: i64 = 30 * 86_400;
/// A start that is not further away than this is now.
const START_SLACK: Duration = Duration::from_secs(2);
/// IoT Hub's limits of the time that a device has to answer, and its default, in seconds.
const RESPONSE_TIMEOUT: (i64, i64) = (5, 300);
const RESPONSE_TIMEOUT_DEFAULT: i64 = 30;

/// What a job of a back end does.
#[derive(Debug, Clone, PartialEq)]
pub enum HubAction {
    Method {
        /// With `component*` before the name of a component's command.
        method: String,
        /// `None` when there was none.
        payload: Option<Value>,
        response_timeout: Duration,
    },
    Twin {
        tags: Map<String, Value>,
        desired: Map<String, Value>,
    },
    /// Something that IoT Hub does not know, of a job that no back end made.
    Other,
}

/// A job as a back end asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRequest {
    pub id: String,
    pub condition: String,
    pub action: HubAction,
    /// `None`: now.
    pub start: Option<Timestamp>,
    /// How long it may take, from its start.
    pub window: Duration,
    /// The digest of what the request means, 16 hex digits.
    pub digest: String,
}

impl JobRequest {
    /// Reads the body of a request for a job of an id. Members that mean nothing are passed over, and numbers may be
    /// texts, as `az` sends them.
    ///
    /// # Errors
    /// A member has a value that it cannot have.
    pub fn parse(id: &str, body: &Value, now: Timestamp) -> Result<JobRequest, HubError> {
        if !super::names::is_job_id(id) {
            return Err(argument("the id of a job has 1 to 64 letters, digits and `-`"));
        }
        // `GET /jobs/v2/query` is the list of jobs.
        if id.eq_ignore_ascii_case("query") {
            return Err(argument("a job cannot have the id `query`: its address is that of the list of jobs"));
        }
        let members = body.as_object().ok_or_else(|| argument("the body is no JSON object"))?;
        if members.get("jobId").and_then(Value::as_str).is_some_and(|named| named != id) {
            return Err(argument("`jobId` is another one than in the address"));
        }
        let condition = members.get("queryCondition").and_then(Value::as_str).unwrap_or_default().trim().to_string();
        check_condition(&condition)?;
        let action = match members.get("type").and_then(Value::as_str) {
            Some("scheduleDeviceMethod") => method(members)?,
            Some("scheduleUpdateTwin") => update(members)?,
            _ => return Err(argument("`type` is `scheduleDeviceMethod` or `scheduleUpdateTwin`")),
        };
        let window = match members.get("maxExecutionTimeInSeconds").filter(|value| !value.is_null()) {
            None => WINDOW_DEFAULT,
            Some(value) => match whole(value) {
                Some(0) => WINDOW_DEFAULT,
                Some(seconds) if (1..=WINDOW_MAX).contains(&seconds) => seconds.unsigned_abs(),
                _ => return Err(argument("`maxExecutionTimeInSeconds` is a number of seconds from 1 to 2592000")),
            },
        };
        let start = start(members, now)?;
        let mut meant = members.clone();
        meant.retain(|name, value| {
            let says = ["type", "queryCondition", "cloudToDeviceMethod", "updateTwin", "maxExecutionTimeInSeconds"];
            !value.is_null() && (says.contains(&name.as_str()) || name == "startTime")
        });
        // A number and its text are the same.
        meant.insert("maxExecutionTimeInSeconds".to_string(), json!(window));
        if let Some(method) = meant.get_mut("cloudToDeviceMethod").and_then(Value::as_object_mut) {
            for (_, seconds) in method.iter_mut().filter(|(name, _)| name.ends_with("InSeconds")) {
                *seconds = whole(seconds).map_or(Value::Null, Value::from);
            }
        }
        let digest = Digest::of_bytes(canonical_json(&Value::Object(meant)).as_bytes()).to_string();
        let window = Duration::from_secs(window);
        Ok(JobRequest { id: id.to_string(), condition, action, start, window, digest: digest[..16].to_string() })
    }

    /// Returns the word of what it does, for the subject of its commit.
    pub fn verb(&self) -> String {
        match &self.action {
            HubAction::Method { method, .. } => format!("call {method}"),
            HubAction::Twin { .. } | HubAction::Other => "update twins".to_string(),
        }
    }

    /// Returns the text of its document, a job or, with a start ahead, a schedule.
    ///
    /// # Errors
    /// It cannot be written as YAML.
    pub fn document(&self, name: &Name, policy: &str, now: Timestamp) -> Result<String, HubError> {
        let created = now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        // A token of its own: the same work under another id is no job that was renamed.
        let token = Digest::of_texts([self.id.as_str(), &created]).to_string()[..12].to_string();
        let labels = json!({
            (JOB_LABEL): self.id, (POLICY_LABEL): policy, (REQUEST_LABEL): self.digest, (CREATED_LABEL): created,
        });
        let metadata = json!({"name": name.as_str(), "labels": labels});
        let window = text::duration(self.window);
        let mut delivery = json!({"maxExecutionTime": window});
        let action = match &self.action {
            HubAction::Method { method, payload, response_timeout } => {
                delivery["offline"] = json!("wait");
                delivery["expiresAfter"] = json!(window);
                command(method, payload.as_ref(), *response_timeout)
            }
            HubAction::Twin { tags, desired } => {
                if !desired.is_empty() {
                    delivery["confirm"] = json!("written");
                }
                match (tags.is_empty(), desired.is_empty()) {
                    (false, false) => json!({"twin": {"tags": tags, "property": desired}}),
                    (true, _) => json!({ "property": desired }),
                    (false, true) => json!({ "tags": tags }),
                }
            }
            HubAction::Other => return Err(argument("the job does nothing")),
        };
        let work = json!({"target": {"query": self.condition}, "action": action, "delivery": delivery});
        let (kind, spec) = match self.start {
            None => {
                let mut spec = work;
                spec["run"] = json!(token);
                ("Job", spec)
            }
            Some(start) => (
                "Schedule",
                json!({
                    "start": start.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
                    "timeZone": "UTC",
                    "recurrence": "once",
                    "missed": {"policy": "runOnce", "within": window},
                    "overlap": "queue",
                    "job": work,
                }),
            ),
        };
        let document = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec});
        document_text(&document).ok_or_else(|| argument("the job cannot be written down: it is nested too deep"))
    }
}

fn command(method: &str, payload: Option<&Value>, response_timeout: Duration) -> Value {
    let mut command = Map::new();
    let (component, name) = method.split_once('*').map_or((None, method), |(part, name)| (Some(part), name));
    command.insert("name".into(), json!(name));
    if let Some(component) = component {
        command.insert("component".into(), json!(component));
    }
    if let Some(payload) = payload {
        command.insert("payload".into(), payload.clone());
    }
    command.insert("responseTimeout".into(), json!(text::duration(response_timeout)));
    json!({ "command": command })
}

/// Checks a condition before anything is written: IoT Hub finds out when the job has begun.
///
/// # Errors
/// It is none; the sentence has the place.
pub fn check_condition(condition: &str) -> Result<(), HubError> {
    let first = condition.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if condition.is_empty() {
        return Err(argument("`queryCondition` is missing: `*` selects every device"));
    }
    if first == "select" || first == "from" {
        let why = "`queryCondition` is a condition such as `tags.line = '3'`, and no whole query, and jobs are about \
             devices, not modules";
        return Err(argument(why));
    }
    crate::query::parse(condition).map(drop).map_err(|errors| {
        let problems = errors.iter().map(|error| {
            let at = condition[..error.start.min(condition.len())].chars().count() + 1;
            let help = error.help().map(|help| format!(" {help}")).unwrap_or_default();
            format!("at character {at}: {error}{help}")
        });
        HubError::Argument(format!("`queryCondition` is no condition, {}", problems.collect::<Vec<_>>().join(", ")))
    })
}

/// Returns the method of a job.
fn method(members: &Map<String, Value>) -> Result<HubAction, HubError> {
    let called = members.get("cloudToDeviceMethod").and_then(Value::as_object);
    let called = called.ok_or_else(|| argument("`cloudToDeviceMethod` is missing"))?;
    let method = called.get("methodName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let method = method.ok_or_else(|| argument("`cloudToDeviceMethod.methodName` is missing"))?.to_string();
    let response_timeout = timeout(called, "responseTimeoutInSeconds", RESPONSE_TIMEOUT, RESPONSE_TIMEOUT_DEFAULT)?;
    timeout(called, "connectTimeoutInSeconds", (0, 300), 0)?;
    let payload = called.get("payload").filter(|payload| !payload.is_null()).cloned();
    payload.as_ref().map_or(Ok(()), |payload| without_secrets(payload, "cloudToDeviceMethod.payload"))?;
    if payload.as_ref().is_some_and(|payload| payload.to_string().len() > limits::PAYLOAD_BYTES_MAX) {
        return Err(HubError::TooLarge(format!(
            "`cloudToDeviceMethod.payload` has more than {} bytes",
            limits::PAYLOAD_BYTES_MAX
        )));
    }
    Ok(HubAction::Method { method, payload, response_timeout })
}

/// Returns a timeout in seconds of a method call.
///
/// # Errors
/// It is no whole number in its range.
pub fn timeout(
    members: &Map<String, Value>,
    name: &str,
    (least, most): (i64, i64),
    default: i64,
) -> Result<Duration, HubError> {
    let seconds = match members.get(name).filter(|value| !value.is_null()) {
        None => default,
        Some(value) => whole(value)
            .filter(|seconds| (least..=most).contains(seconds))
            .ok_or_else(|| HubError::Argument(format!("`{name}` is a number of seconds from {least} to {most}")))?,
    };
    Ok(Duration::from_secs(seconds.unsigned_abs()))
}

/// Refuses references to secrets. A document may have some, and a back end's data would become one: it would be sent what
/// the operator lets the fleet read, the keys of other policies too.
fn without_secrets(value: &Value, what: &str) -> Result<(), HubError> {
    if secret::places(value).is_empty() {
        return Ok(());
    }
    Err(HubError::Argument(format!("`{what}` refers to a secret of the fleet: commit a Job instead")))
}

/// Returns the twin update of a job.
fn update(members: &Map<String, Value>) -> Result<HubAction, HubError> {
    let twin = members.get("updateTwin").and_then(Value::as_object);
    let twin = twin.ok_or_else(|| argument("`updateTwin` is missing"))?;
    let etag = twin.get("etag").and_then(Value::as_str);
    if etag.is_some_and(|etag| etag != "*" && etag != "\"*\"") {
        // As IoT Hub: a job writes whatever is there.
        return Err(HubError::Stale);
    }
    let section = |value: Option<&Value>, what: &str| match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(members)) => Ok(members.clone()),
        Some(_) => Err(HubError::Argument(format!("`updateTwin.{what}` is no object"))),
    };
    let tags = section(twin.get("tags"), "tags")?;
    let properties = section(twin.get("properties"), "properties")?;
    let mut desired = section(properties.get("desired"), "properties.desired")?;
    desired.retain(|key, _| !matches!(key.as_str(), "$metadata" | "$version"));
    for (members, what) in [(&tags, "updateTwin.tags"), (&desired, "updateTwin.properties.desired")] {
        without_secrets(&Value::Object(members.clone()), what)?;
    }
    if tags.is_empty() && desired.is_empty() {
        return Err(argument("`updateTwin` has neither `tags` nor `properties.desired`"));
    }
    Ok(HubAction::Twin { tags, desired })
}

/// Returns when a job is to start; `None` for now. A start within a second is rounded up to the whole one.
fn start(members: &Map<String, Value>, now: Timestamp) -> Result<Option<Timestamp>, HubError> {
    let Some(value) = members.get("startTime").filter(|value| !value.is_null()) else { return Ok(None) };
    let text = value.as_str().unwrap_or_default();
    // Some clients write UTC without its `Z`.
    let parsed: Result<Timestamp, _> = text.parse().or_else(|_| format!("{text}Z").parse());
    let start = parsed.map_err(|_| argument("`startTime` is no time such as 2026-12-01T02:30:00Z"))?;
    if start.duration_since(now).as_secs_f64() <= START_SLACK.as_secs_f64() {
        return Ok(None);
    }
    let whole = start.as_second() + i64::from(start.subsec_nanosecond() > 0);
    Timestamp::from_second(whole).map(Some).map_err(|_| argument("`startTime` is too far away"))
}

fn argument(sentence: &str) -> HubError {
    HubError::Argument(sentence.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<JobRequest, HubError> {
        JobRequest::parse("job1", &body, "2026-11-20T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn numbers_may_be_texts_and_members_may_be_unknown() {
        let body = json!({
            "jobId": "job1", "type": "scheduleDeviceMethod", "queryCondition": "*", "startTime": "", "x": 1,
            "cloudToDeviceMethod": {"methodName": "lamp*reboot", "payload": "", "responseTimeoutInSeconds": "30"},
            "maxExecutionTimeInSeconds": "60",
        });
        assert!(parse(body.clone()).is_err(), "an empty start is none");
        let mut body = body;
        body["startTime"] = Value::Null;
        let request = parse(body.clone()).unwrap();
        assert_eq!((request.window.as_secs(), request.start), (60, None));
        let text = request.document(&Name::parse("job1").unwrap(), "service", Timestamp::UNIX_EPOCH).unwrap();
        for part in ["component: lamp", "name: reboot", "payload: ", "offline: wait", "expiresAfter: 1m", "iothub/job"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let digest = request.digest;
        body["x"] = json!(2);
        body["maxExecutionTimeInSeconds"] = json!(60);
        body["cloudToDeviceMethod"]["responseTimeoutInSeconds"] = json!(30);
        assert_eq!(parse(body.clone()).unwrap().digest, digest);
        body["jobId"] = Value::Null;
        let named = |id: &str| JobRequest::parse(id, &body, Timestamp::UNIX_EPOCH);
        assert!(named("query").unwrap_err().to_string().contains("list of jobs"));
        assert!(named("query1").is_ok());
        body["queryCondition"] = json!("tags.a = 1");
        assert_ne!(parse(body).unwrap().digest, digest);
    }

    #[test]
    fn a_start_ahead_is_a_schedule() {
        let body = json!({
            "type": "scheduleUpdateTwin", "queryCondition": "deviceId IN ['a']",
            "updateTwin": {"etag": "*", "tags": {"a": 1}, "properties": {"desired": {"b": null, "$version": 3}}},
            "startTime": "2026-11-20T10:00:02.5Z",
        });
        let request = parse(body.clone()).unwrap();
        let text = request.document(&Name::parse("job1").unwrap(), "owner", Timestamp::UNIX_EPOCH).unwrap();
        for part in ["kind: Schedule", "2026-11-20T10:00:03", "policy: runOnce", "within: 1h", "twin:", "b: null"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let now = json!({"startTime": "2026-11-20T10:00:02"});
        let mut soon = body;
        soon["startTime"] = now["startTime"].clone();
        assert_eq!(parse(soon).unwrap().start, None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |body: Value, expect: &str| {
            let error = parse(body).unwrap_err().to_string();
            assert!(error.contains(expect) && !error.contains(';'), "{error}");
        };
        let twin = json!({"tags": {"a": 1}});
        check(json!([]), "no JSON object");
        check(json!({"type": "scheduleTwinUpdate", "queryCondition": "*"}), "`type` is");
        check(json!({"jobId": "other"}), "another one");
        let of =
            |condition: &str| json!({"type": "scheduleUpdateTwin", "queryCondition": condition, "updateTwin": twin});
        check(of(""), "is missing");
        check(of("SELECT * FROM devices"), "no whole query");
        check(of("from devices.modules where x = 1"), "not modules");
        check(of("tags.a = "), "at character ");
        check(json!({"type": "scheduleUpdateTwin", "queryCondition": "*", "updateTwin": {"etag": "*"}}), "neither");
        check(json!({"type": "scheduleUpdateTwin", "queryCondition": "*", "updateTwin": {"etag": "x"}}), "ETag");
        check(json!({"type": "scheduleDeviceMethod", "queryCondition": "*"}), "is missing");
        let secret = json!({"a": [{"$secret": {"env": "HUB_OWNER"}}]});
        let (called, twin) =
            (json!({"methodName": "m", "payload": secret}), json!({"properties": {"desired": secret}}));
        check(
            json!({"type": "scheduleDeviceMethod", "queryCondition": "*", "cloudToDeviceMethod": called}),
            "a secret",
        );
        check(json!({"type": "scheduleUpdateTwin", "queryCondition": "*", "updateTwin": twin}), "a secret");
        let mut long = of("*");
        long["maxExecutionTimeInSeconds"] = json!(3_000_000);
        check(long, "2592000");
    }
}
