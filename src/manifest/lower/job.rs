//! The Job document.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Draft, Lowering, id_detail};
use crate::diag::{Diagnostic, code, shown};
use crate::manifest::node::{Content, Node};
use crate::manifest::structure::{Subject, list};
use crate::manifest::v1;
use crate::manifest::values;
use crate::model::delivery::{Amount, Confirm, Delivery, OfflinePolicy, Retry, Threshold, ThresholdScope};
use crate::model::digest::Digest;
use crate::model::id::{DeviceId, Name, RunToken};
use crate::model::job::{ACTION_WORDS, Action, Command, DevicesOfRun, Expect, Job, Left, Selector, Target};
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::outcome::Reason;
use crate::model::patch::Section;

/// The fields of a target that name devices; `expect` stands beside them.
const SELECTORS: [&str; 5] = ["group", "query", "devices", "failedOf", "pendingOf"];
/// How long a command waits for a connection and for its answer (IoT Hub's default is 30 s).
const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

fn failed_reason(written: v1::FailedReason) -> Reason {
    match written {
        v1::FailedReason::Rejected => Reason::Rejected,
        v1::FailedReason::Timeout => Reason::Timeout,
        v1::FailedReason::Offline => Reason::Offline,
        v1::FailedReason::Expired => Reason::Expired,
        v1::FailedReason::Blocked => Reason::Blocked,
        v1::FailedReason::Deleted => Reason::Deleted,
        v1::FailedReason::TemplateMismatch => Reason::TemplateMismatch,
        v1::FailedReason::OutcomeUnknown => Reason::OutcomeUnknown,
        v1::FailedReason::Error => Reason::Error,
    }
}

fn pending_reason(written: v1::PendingReason) -> Reason {
    match written {
        v1::PendingReason::Queued => Reason::Queued,
        v1::PendingReason::InFlight => Reason::InFlight,
        v1::PendingReason::Waiting => Reason::Waiting,
    }
}

impl Lowering<'_> {
    pub(super) fn job(
        &mut self,
        (name, previous_names, labels): (Name, Vec<Name>, BTreeMap<String, String>),
        spec: v1::JobSpec,
        mut written: Value,
    ) -> Draft {
        let v1::JobSpec { run, suspend, organization, target, after, action, delivery } = spec;
        let run = self.run_token(run.is_some(), "/spec/run");
        let after = after.iter().enumerate();
        // By the last part of its path; whether there is such an organization is the matter of the rules.
        let last = organization.as_ref().and_then(|text| text.0.rsplit('/').next());
        let written = self.written_spec(written["spec"].take());
        let job = Job {
            name,
            previous_names,
            labels: Arc::new(labels),
            spec_digest: spec_digest(Some(&run), written),
            run,
            suspend,
            organization: last.and_then(|name| Name::parse(name).ok()),
            target: self.target(target),
            after: after.map(|(at, text)| self.reference(Kind::Job, &text.0, format!("/spec/after/{at}"))).collect(),
            action: self.action(action),
            delivery: self.delivery(delivery.unwrap_or_default()),
            file: self.path.to_string(),
        };
        let organization = self.organization_reference(organization, "/spec/organization");
        Draft::Job { job: Arc::new(job), organization }
    }

    /// Reports a map that has none or several of some fields.
    pub(super) fn exactly_one(&mut self, pointer: &str, fields: &[&str]) {
        let pointer = &*self.place(pointer);
        let place = self.root.locate(pointer);
        let given: Vec<_> =
            place.node.entries().iter().filter(|(key, _)| fields.contains(&key.text.as_str())).collect();
        match given.as_slice() {
            [_] => {}
            [] => {
                // An unknown field is reported as such, and may be one of these misspelt.
                let is_misspelt = place.node.entries().iter().any(|(key, _)| key.text != "expect");
                if !is_misspelt {
                    let detail = format!("{} needs one of {}.", Subject(pointer), list(fields.iter().copied()));
                    self.diagnostics.push(Diagnostic::new(code::EXACTLY_ONE, place.key_span(), detail));
                }
            }
            [(first, _), others @ ..] => {
                let words = given.iter().map(|(key, _)| key.text.as_str());
                let detail = format!("{} has {}, and only one of them can be meant.", Subject(pointer), list(words));
                let mut diagnostic = Diagnostic::new(code::EXACTLY_ONE, others[0].0.span, detail);
                if given.iter().all(|(key, _)| ["tags", "property"].contains(&key.text.as_str())) {
                    diagnostic = diagnostic.with_help("Both at once are `twin: {tags: {…}, property: {…}}`.");
                }
                self.diagnostics.push(diagnostic.with_label(first.span, "the first one"));
            }
        }
    }

    /// Returns the run token at a pointer: a number counts as its own text.
    fn run_token(&mut self, is_given: bool, pointer: &str) -> RunToken {
        let Some(node) = self.root.at(&self.place(pointer)).filter(|_| is_given) else {
            return RunToken::default();
        };
        let text = self.run_text(node);
        match RunToken::parse(&text) {
            Ok(token) => token,
            Err(error) => {
                self.report(code::RUN_TOKEN, pointer, id_detail(&text, &error));
                RunToken::default()
            }
        }
    }

    /// Returns a run token as text: a number such as `1.10` exactly as the author wrote it.
    fn run_text(&self, node: &Node) -> String {
        match &node.content {
            Content::String(text) => text.clone(),
            Content::Number(_) => self.text[node.span.start..node.span.end].to_string(),
            Content::Null | Content::Bool(_) | Content::Seq(_) | Content::Map(_) => String::new(),
        }
    }

    /// Returns the members of a spec as written. The run token that a target names counts as text: `run: 2` and
    /// `run: "2"` are the same.
    pub(super) fn written_spec(&self, spec: Value) -> Map<String, Value> {
        let mut spec = match spec {
            Value::Object(members) => members,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
        };
        for field in [Left::Failed, Left::Pending].map(Left::field) {
            if let Some(node) = self.root.at(&self.place(&format!("/spec/target/{field}/run")))
                && let Some(run) =
                    spec.get_mut("target").and_then(|target| target.pointer_mut(&format!("/{field}/run")))
            {
                *run = Value::String(self.run_text(node));
            }
        }
        spec
    }

    pub(super) fn target(&mut self, target: v1::Target) -> Target {
        let v1::Target { group, query, devices, failed_of, pending_of, expect } = target;
        self.exactly_one("/spec/target", &SELECTORS);
        let devices = devices.map(|devices| Selector::Devices(self.devices(&devices)));
        let of_run = match (failed_of, pending_of) {
            (Some(v1::FailedOf { job, run, reasons }), _) => {
                let reasons = reasons.into_iter().flatten().map(failed_reason).collect();
                Some(self.devices_of_run(Left::Failed, &job.0, run.is_some(), reasons))
            }
            (None, Some(v1::PendingOf { job, run, reasons })) => {
                let reasons = reasons.into_iter().flatten().map(pending_reason).collect();
                Some(self.devices_of_run(Left::Pending, &job.0, run.is_some(), reasons))
            }
            (None, None) => None,
        };
        let group = group.map(|text| Selector::Group(self.reference(Kind::DeviceGroup, &text.0, "/spec/target/group")));
        let selector = group.or(query.map(Selector::Query)).or(devices).or(of_run.map(Selector::OfRun));
        let expect = expect.map(|v1::Expect { min, max }| Expect { min, max });
        if let Some(Expect { min: Some(min), max: Some(max) }) = expect
            && min > max
        {
            let detail = format!("At least {min} and at most {max} devices cannot both hold.");
            self.report(code::EXPECT_RANGE, "/spec/target/expect/min", detail);
        }
        // Without a selector there is a diagnostic, so the stand-in is never used.
        Target { selector: selector.unwrap_or(Selector::Devices(Vec::new())), expect }
    }

    fn devices_of_run(&mut self, left: Left, job: &str, has_run: bool, reasons: Vec<Reason>) -> DevicesOfRun {
        let place = format!("/spec/target/{}", left.field());
        DevicesOfRun {
            job: self.reference_to_runs(job, &format!("{place}/job")),
            run: self.run_token(has_run, &format!("{place}/run")),
            left,
            reasons,
        }
    }

    fn devices(&mut self, texts: &[v1::DeviceIdText]) -> Vec<DeviceId> {
        let pointer = "/spec/target/devices";
        if texts.is_empty() {
            let detail = "The list of devices is empty, so the job would do nothing.";
            self.report(code::DEVICE_COUNT, pointer, detail);
        }
        if texts.len() > limits::DEVICES_LIST_MAX {
            let detail = format!(
                "A job lists at most {} devices. Give them a tag, and target a group or a query.",
                limits::DEVICES_LIST_MAX
            );
            self.report(code::DEVICE_COUNT, pointer, detail);
            return Vec::new();
        }
        let mut found: BTreeMap<DeviceId, usize> = BTreeMap::new();
        for (at, text) in texts.iter().enumerate() {
            let here = format!("{pointer}/{at}");
            match DeviceId::parse(&text.0) {
                Err(error) => self.report(code::DEVICE_ID, &here, id_detail(&text.0, &error)),
                Ok(id) => {
                    if let Some(first) = found.get(&id) {
                        let first = super::span(self.root, &self.place(&format!("{pointer}/{first}")));
                        let detail = format!("The device `{id}` is already in this list.");
                        let span = super::span(self.root, &self.place(&here));
                        let diagnostic = Diagnostic::new(code::DUPLICATE_DEVICE, span, detail);
                        self.diagnostics.push(diagnostic.with_label(first, "first listed here"));
                    } else {
                        found.insert(id, at);
                    }
                }
            }
        }
        found.into_keys().collect()
    }

    pub(super) fn action(&mut self, action: v1::Action) -> Action {
        let v1::Action { property, cloud_property, tags, twin, command, device_template, edge_manifest } = action;
        self.exactly_one("/spec/action", &ACTION_WORDS);
        let property = property.map(|members| Action::Property(self.patch("property", members, Section::Desired)));
        let cloud_property =
            cloud_property.map(|members| Action::CloudProperty(self.patch("cloudProperty", members, Section::Cloud)));
        let tags = tags.map(|members| Action::Tags(self.patch("tags", members, Section::Tags)));
        let twin = twin.map(|v1::TwinPatch { tags, property }| Action::Twin {
            tags: self.patch("twin/tags", tags, Section::Tags),
            desired: self.patch("twin/property", property, Section::Desired),
        });
        let command = command.map(|command| Action::Command(self.command(command)));
        let device_template = device_template.map(|text| {
            Action::DeviceTemplate(self.reference(Kind::DeviceTemplate, &text.0, "/spec/action/deviceTemplate"))
        });
        let edge_manifest = edge_manifest
            .map(|text| Action::EdgeManifest(self.reference(Kind::EdgeManifest, &text.0, "/spec/action/edgeManifest")));
        let action = property.or(cloud_property).or(tags).or(twin).or(command).or(device_template).or(edge_manifest);
        // Without an action there is a diagnostic, so the stand-in is never used.
        action.unwrap_or_else(|| Action::EdgeManifest(Name::parse("unresolved").expect("it is a legal name")))
    }

    fn command(&mut self, command: v1::Command) -> Command {
        let v1::Command { name, component, payload, connect_timeout, response_timeout, idempotent } = command;
        self.command_name(&name, "/spec/action/command/name");
        if let Some(component) = &component {
            self.component_name(component, "/spec/action/command/component");
        }
        let bytes = payload.to_string().len();
        if bytes > limits::PAYLOAD_BYTES_MAX {
            let detail = format!(
                "This payload has {bytes} bytes as JSON, and at most {} are allowed.",
                limits::PAYLOAD_BYTES_MAX
            );
            self.report(code::PAYLOAD_TOO_LARGE, "/spec/action/command/payload", detail);
        }
        self.without_secrets(&payload, "/spec/action/command/payload");
        let at = self.place("/spec/action/command/payload").into_owned();
        if let Some(node) = self.root.at(&at) {
            self.warn_of_plain_words(node, &at);
        }
        Command {
            name,
            component,
            payload,
            connect_timeout: self.timeout(connect_timeout.as_ref(), "/spec/action/command/connectTimeout"),
            response_timeout: self.timeout(response_timeout.as_ref(), "/spec/action/command/responseTimeout"),
            idempotent,
        }
    }

    /// A command is a part of a topic. The names of DTDL are among those that fit, and those of most direct methods.
    fn command_name(&mut self, name: &str, pointer: &str) {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        if name.is_empty() || name.len() > limits::COMMAND_NAME_CHARS_MAX || !name.chars().all(is_legal) {
            let detail = format!(
                "`{}` cannot be the name of a command: 1 to {} letters, digits, `_`, `-`, `.` and `:`.",
                shown(name),
                limits::COMMAND_NAME_CHARS_MAX
            );
            self.report(code::COMMAND_NAME, pointer, detail);
        }
    }

    /// A component is one of a DTDL model.
    fn component_name(&mut self, name: &str, pointer: &str) {
        if !super::beside::is_dtdl_name(name) {
            let detail = format!(
                "`{}` cannot be the name of a component: a letter, then at most 63 letters, digits and `_`, and no `_` \
                 at the end.",
                shown(name)
            );
            self.report(code::COMMAND_NAME, pointer, detail);
        }
    }

    fn timeout(&mut self, text: Option<&v1::DurationText>, pointer: &str) -> Duration {
        let timeout = self.duration(text, pointer, COMMAND_TIMEOUT_DEFAULT);
        if !(limits::COMMAND_TIMEOUT_MIN..=limits::COMMAND_TIMEOUT_MAX).contains(&timeout) {
            let detail = format!(
                "A timeout lies between {} s and {} s.",
                limits::COMMAND_TIMEOUT_MIN.as_secs(),
                limits::COMMAND_TIMEOUT_MAX.as_secs()
            );
            self.report(code::TIMEOUT, pointer, detail);
        }
        timeout
    }

    pub(super) fn delivery(&mut self, delivery: v1::Delivery) -> Delivery {
        let v1::Delivery {
            confirm,
            batch_size,
            canary,
            cancellation_threshold,
            offline,
            expires_after,
            retry,
            max_execution_time,
        } = delivery;
        let default = Delivery::default();
        let batch_size = batch_size.and_then(|text| self.amount(&text, "/spec/delivery/batchSize"));
        if matches!(batch_size, Some(Amount::Count(0) | Amount::Percent(0))) {
            let detail = "A batch of no devices would never end. Leave the field out for one batch of all devices.";
            self.report(code::BATCH_SIZE_ZERO, "/spec/delivery/batchSize", detail);
        }
        if canary == Some(0) {
            let detail = "A first batch of no devices would never end. Leave the field out for none.";
            self.report(code::BATCH_SIZE_ZERO, "/spec/delivery/canary", detail);
        }
        let v1::Retry { attempts, backoff } = retry.unwrap_or_default();
        let attempts = attempts.unwrap_or(default.retry.attempts);
        Delivery {
            confirm: match confirm {
                None | Some(v1::Confirm::Written) => Confirm::Written,
                Some(v1::Confirm::Acknowledged) => Confirm::Acknowledged,
            },
            batch_size,
            canary,
            threshold: cancellation_threshold.and_then(|threshold| self.threshold(threshold)),
            offline: match offline {
                None | Some(v1::Offline::Fail) => OfflinePolicy::Fail,
                Some(v1::Offline::Wait) => OfflinePolicy::Wait,
            },
            expires_after: self.duration(expires_after.as_ref(), "/spec/delivery/expiresAfter", default.expires_after),
            retry: Retry {
                attempts: self.range(attempts, 0, limits::RETRY_ATTEMPTS_MAX, "/spec/delivery/retry/attempts"),
                backoff: self.duration(backoff.as_ref(), "/spec/delivery/retry/backoff", default.retry.backoff),
            },
            max_execution_time: self.optional_duration(max_execution_time.as_ref(), "/spec/delivery/maxExecutionTime"),
        }
    }

    fn threshold(&mut self, threshold: v1::Threshold) -> Option<Threshold> {
        let v1::Threshold { failures, per } = threshold;
        let failures = self.amount(&failures, "/spec/delivery/cancellationThreshold/failures")?;
        let per = match per {
            None | Some(v1::ThresholdScope::Job) => ThresholdScope::Job,
            Some(v1::ThresholdScope::Batch) => ThresholdScope::Batch,
        };
        Some(Threshold { failures, per })
    }

    pub(super) fn amount(&mut self, amount: &v1::AmountText, pointer: &str) -> Option<Amount> {
        match amount {
            v1::AmountText::Count(count) => Some(Amount::Count(*count)),
            v1::AmountText::Text(text) => match values::amount(text) {
                Ok(amount) => Some(amount),
                Err(detail) => {
                    self.report(code::AMOUNT, pointer, detail);
                    None
                }
            },
        }
    }
}

/// Returns the digest of a spec as written, without the fields that may change while the job runs. An absent run token
/// counts as `1`; the job of a schedule has none.
pub(super) fn spec_digest(run: Option<&RunToken>, mut spec: Map<String, Value>) -> Digest {
    spec.remove("suspend");
    spec.remove("description");
    if let Some(run) = run {
        spec.insert("run".to_string(), Value::String(run.to_string()));
    }
    if let Some(Value::Object(delivery)) = spec.get_mut("delivery") {
        delivery.remove("expiresAfter");
        delivery.remove("maxExecutionTime");
        if delivery.is_empty() {
            spec.remove("delivery");
        }
    }
    Digest::of_json(&Value::Object(spec))
}
