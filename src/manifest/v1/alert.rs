//! The alerts of a Fleet: who is told when something goes wrong.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::DurationText;
use super::link::CredentialPlace;

/// Who is told when something goes wrong: a webhook or a command. How messages look is in `docs/alerts.md`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AlertTo {
    /// What they are told of. Default: all of it.
    #[schemars(length(min = 1), extend("uniqueItems" = true), example = ["runFailed", "thresholdCrossed"])]
    pub on: Option<Vec<AlertOn>>,
    /// An address that messages are posted to.
    pub webhook: Option<AlertWebhook>,
    /// The name of a command that gets messages on its stdin. The operator says what it is, with `--alert-command
    /// NAME=PATH`.
    #[schemars(example = &"mail")]
    pub command: Option<String>,
    /// The shortest time between two messages: what happens meanwhile is in the next one. Default: `5m`.
    pub every: Option<DurationText>,
}

/// An address that messages are posted to.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["url"]))]
pub struct AlertWebhook {
    /// Where the address is: that of a chat is a secret. The operator allows it with `--allow-secret`. It is of
    /// `https://`, or of `http://` and this machine.
    #[schemars(example = json!({"env": "CHAT_WEBHOOK"}))]
    pub url: Option<CredentialPlace>,
    /// Where the key is that messages are signed with, in `X-Fleetform-Signature-256`. The operator allows it with
    /// `--allow-secret`. Default: none, messages are not signed.
    #[schemars(example = json!({"env": "ALERT_KEY"}))]
    pub secret: Option<CredentialPlace>,
    /// The form of a message. Default: `json`.
    #[schemars(example = &"text")]
    pub body: Option<AlertBody>,
}

/// What somebody may be told of.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AlertOn {
    /// A run has ended as `failed`.
    RunFailed,
    /// A run was canceled because too many devices failed.
    ThresholdCrossed,
    /// A document cannot be used, and waits.
    DocumentHeld,
    /// An occurrence of a schedule did not run.
    OccurrenceMissed,
    /// The remote refuses the results.
    RemoteRefused,
}

/// The form of a message.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AlertBody {
    /// All of it, for programs.
    Json,
    /// `{"text": …}`, as the incoming webhooks of chats take it.
    Text,
}
