//! Every maximum, with its reason. Nothing in fleetform is unbounded; a bound that is not named here is a bug.

use std::time::Duration;

use super::buckets::Rate;

/// Bytes of one YAML file. Git hosts review files of this size badly, and parsing one stays below 0.2 s.
pub const YAML_FILE_BYTES_MAX: usize = 1 << 20;
/// Bytes of one file of an import: a hundred million short rows, more than any fleet that a registry was tested with.
pub const IMPORT_FILE_BYTES_MAX: u64 = 4 << 30;
/// Bytes of one file of the results branch. A shard has at most 50,000 rows, each with a message of at most a few
/// hundred bytes.
pub const RESULT_FILE_BYTES_MAX: u64 = 256 << 20;
/// Bytes of one document of the results branch that is read whole and parsed: a claim, a record, a report. The record
/// of a run with the most batches has about 10 MB.
pub const RESULT_DOCUMENT_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a saved plan. One of the most documents, each with a job of many values, has about 200 MB.
pub const SAVED_PLAN_BYTES_MAX: u64 = 256 << 20;
/// Documents of one fleet: ten times the largest Flux repositories that we know of.
pub const DOCUMENTS_MAX: usize = 100_000;
/// Files of each kind that a daemon keeps parsed, those of the newest commit: as many as a fleet has documents. They
/// are shared with the declared documents, so they cost little more than the parsed trees of the newest commit.
pub const REMEMBERED_FILES_MAX: usize = DOCUMENTS_MAX;
/// Nesting of a YAML document. Our own kinds need 16 (a patch of depth 10 inside a job).
pub const YAML_DEPTH_MAX: usize = 64;
/// Nodes of a YAML file after alias expansion: an inline list of 100,000 device ids fits, an alias bomb does not.
pub const YAML_NODES_MAX: usize = 250_000;
/// Aliases of a YAML file. Sharing a block among the jobs of one file needs tens.
pub const YAML_ALIASES_MAX: usize = 1_000;
/// Characters of `metadata.name`: a legal IoT Hub job id and a legal DNS label.
pub const NAME_CHARS_MAX: usize = 63;
/// Characters of a run token; it is a file name on the results branch.
pub const RUN_TOKEN_CHARS_MAX: usize = 63;
/// Characters of a device id (IoT Hub).
pub const DEVICE_ID_CHARS_MAX: usize = 128;
/// Files of authorities of devices that a Fleet names.
pub const DEVICE_AUTHORITIES_MAX: usize = 100;
/// Characters of a device name (IoT Central).
pub const DEVICE_NAME_CHARS_MAX: usize = 148;
/// Sentences about what was done that are kept for the pages of those who did it.
pub const PAGE_NOTES_MAX: usize = 256;
/// Commits that are looked back for one whose Fleet document can be used.
pub const COMMITS_BACK_MAX: usize = 100;
/// The most time of a call of the remote for a stop that somebody waits for.
pub const STOP_CALL_TIME_MAX: Duration = Duration::from_secs(20);
/// Levels of organizations below the root (IoT Central).
pub const ORGANIZATION_DEPTH_MAX: usize = 5;
/// Characters of a query (IoT Hub).
pub const QUERY_CHARS_MAX: usize = 8_192;
/// Nesting of a query. Bounds the recursion of parser, evaluator and SQL.
pub const QUERY_DEPTH_MAX: usize = 64;
/// Bytes of a merge patch as JSON: the desired section of a twin (IoT Hub, 32 KiB).
pub const PATCH_BYTES_MAX: usize = 32 * 1024;
/// Nesting of a merge patch: that of a twin section (IoT Hub).
pub const PATCH_DEPTH_MAX: usize = 10;
/// Bytes of a twin key (IoT Hub).
pub const TWIN_KEY_BYTES_MAX: usize = 1_024;
/// Bytes of a string value of a twin (IoT Hub).
pub const TWIN_STRING_BYTES_MAX: usize = 4 * 1024;
/// Counted size of the tags of a twin (IoT Hub, 8 KiB).
pub const TAGS_SIZE_MAX: usize = 8 * 1024;
/// Counted size of the desired, reported or cloud section (IoT Hub, 32 KiB).
pub const PROPERTIES_SIZE_MAX: usize = 32 * 1024;
/// The largest integer of a twin, 2^52 - 1; the smallest is -2^52 (IoT Hub).
pub const TWIN_INTEGER_MAX: i64 = 4_503_599_627_370_495;
/// Bytes of a command payload (IoT Hub, 128 KiB).
pub const PAYLOAD_BYTES_MAX: usize = 128 * 1024;
/// The longest name of a command, in characters: a direct method of IoT Hub.
pub const COMMAND_NAME_CHARS_MAX: usize = 128;
/// Bytes of a message to a device (IoT Hub, 64 KiB).
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Connections and ends of connections that are kept of one device.
pub const CONNECTIONS_KEPT_MAX: u32 = 32;
/// Messages that wait for one device (IoT Hub).
pub const MESSAGES_MAX: u64 = 50;
/// Bytes of what stands beside the body of a message to a device, names and values. As IoT Hub's headers, and below what
/// a topic of MQTT takes when each is percent-encoded.
pub const MESSAGE_PROPERTIES_BYTES_MAX: usize = 16 * 1024;
/// How long a message waits for its device that does not say it (IoT Hub), and the most that it may say.
pub const MESSAGE_LIFETIME: Duration = Duration::from_secs(3_600);
pub const MESSAGE_LIFETIME_MAX: Duration = Duration::from_secs(30 * 86_400);
/// New messages of all devices that are named at once.
pub const MESSAGES_NAMED_MAX: u64 = 1_000;
/// How often a message is handed over to its device (IoT Hub).
pub const DELIVERIES_MAX: u32 = 10;
/// Bytes of a JSON file that a document names (a DTDL model, a deployment manifest).
pub const JSON_FILE_BYTES_MAX: usize = 1 << 20;
/// Modules of an edge deployment manifest beside those of the runtime (IoT Hub).
pub const EDGE_MODULES_MAX: usize = 50;
/// Problems of an edge deployment manifest that are reported: an author does not read more at once.
pub const EDGE_PROBLEMS_MAX: usize = 100;
/// Characters of a name in a DTDL model (version 3; version 2 has 64).
pub const DTDL_NAME_CHARS_MAX: usize = 512;
/// Characters of a name that a job calls or a cloud property has (DTDL version 2).
pub const CAPABILITY_NAME_CHARS_MAX: usize = 64;
/// Characters of an identifier in a DTDL model.
pub const DTMI_CHARS_MAX: usize = 2_048;
/// Characters of the identifier of an interface.
pub const DTMI_INTERFACE_CHARS_MAX: usize = 128;
/// Characters of a comment, a description and a display name in a DTDL model (version 2 has fewer for the last).
pub const DTDL_TEXT_CHARS_MAX: usize = 512;
/// Arrays, maps and objects within each other (DTDL).
pub const DTDL_SCHEMA_DEPTH_MAX: usize = 5;
/// Interfaces that stand on each other by `extends` (DTDL).
pub const DTDL_EXTENDS_DEPTH_MAX: usize = 10;
/// Rows of an import file that `validate` looks at; a plan looks at all.
pub const VALIDATED_ROWS_MAX: u64 = 100_000;
/// Interfaces that one extends in version 3 of DTDL.
pub const DTDL_3_EXTENDS_MAX: usize = 1_024;
/// Elements of a model that are read before no more are looked up by their `@id`: some that name each other would be read
/// without an end.
pub const DTDL_ELEMENTS_MAX: usize = 100_000;
/// Members of lists in version 2 of DTDL; version 3 bounds a model as a whole.
pub const DTDL_2_EXTENDS_MAX: usize = 2;
pub const DTDL_2_CONTENTS_MAX: usize = 300;
pub const DTDL_2_FIELDS_MAX: usize = 30;
pub const DTDL_2_ENUM_VALUES_MAX: usize = 100;
/// Characters of a name and of a display name in version 2 of DTDL.
pub const DTDL_2_NAME_CHARS_MAX: usize = 64;
/// The largest `maxMultiplicity` of a relationship in version 2 of DTDL.
pub const DTDL_2_MULTIPLICITY_MAX: i64 = 500;
/// Problems of a model that are reported: an author does not read more at once.
pub const DTDL_PROBLEMS_MAX: usize = 100;
/// Bytes of one file of another system that is converted: some ten thousand jobs, and read in a second.
pub const CONVERT_FILE_BYTES_MAX: usize = 16 << 20;
/// Jobs that run at once unless the fleet says otherwise (IoT Central).
pub const RUNNING_JOBS_DEFAULT: u32 = 5;
/// The most jobs that may run at once.
pub const RUNNING_JOBS_MAX: u32 = 1_000;
/// Devices spoken to at once unless the fleet says otherwise: 1,000 x 20 ms keeps a broker at 50,000 commands a second.
pub const IN_FLIGHT_DEFAULT: u32 = 1_000;
/// The most devices spoken to at once.
pub const IN_FLIGHT_MAX: u32 = 100_000;
/// The shortest and longest connect and response timeout of a command (IoT Hub has 5 to 300 s).
pub const COMMAND_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// See [`COMMAND_TIMEOUT_MIN`].
pub const COMMAND_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// The longest duration of any field: a year is longer than any job should wait.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Retries of one device in one run.
pub const RETRY_ATTEMPTS_MAX: u32 = 100;
/// Devices that a job may list by id: beyond it, a tag and a group are the better tool.
pub const DEVICES_LIST_MAX: usize = 100_000;
/// Rows of one shard of results: about 4 MB, which git hosts still render.
pub const SHARD_ROWS_MAX: usize = 50_000;
/// Devices of one registry transaction: long enough to amortise the commit, short enough to lose little on a crash.
pub const WRITE_CHUNK: usize = 1_000;
/// Batches of one run: their counts are in its record, which stays below 1 MB.
pub const BATCHES_MAX: u64 = 10_000;
/// Saved plans that a registry remembers as used, the newest: a day of one each minute, with room to spare.
pub const USED_PLANS_MAX: u32 = 2_000;
/// Characters of a device's answer or message that are kept.
pub const MESSAGE_CHARS_MAX: usize = 256;
/// Bytes of one row of an import. The longest legal row with tags stays well below it.
pub const IMPORT_ROW_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one line of an import of IoT Hub's form: a full twin (72 KiB as counted) with the `$metadata` of each of
/// its values, which an export of IoT Hub has, stays below it.
pub const IMPORT_LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a file whose rows are compared with the registry together: what bounds the memory where rows are long.
pub const IMPORT_LOOK_BYTES_MAX: u64 = 4 << 20;
/// Rejected rows of an import that are written to `errors.csv`; the count is always exact.
pub const IMPORT_ERRORS_MAX: usize = 10_000;
/// Indexes that conditions of groups and jobs get. Each index makes every import and every job that writes its path
/// slower, by about 2 us a device (extrapolated from 300,000 rows).
pub const QUERY_INDEXES_MAX: usize = 8;
/// The number of devices from which a write to a good part of the fleet drops the indexes that it would update; the end
/// of the apply makes them again. That takes 0.7 s for a million devices, where updating one takes 2 s.
pub const INDEX_REMAKE_DEVICES_MIN: u64 = 100_000;
/// Paths under `!=` or NOT of one condition for which a plan counts the devices without them: each count reads every
/// device.
pub const NEGATED_PATHS_MAX: usize = 8;
/// Schedules for which a plan counts the devices that they would select now: each count may read every device.
pub const SCHEDULES_COUNTED_MAX: usize = 10;
/// Properties that a plan looks for in all devices: those that conditions compare which select no device.
pub const PROPERTIES_LOOKED_FOR_MAX: usize = 8;
/// Missed occurrences of a schedule that are listed one by one; a sentence counts the earlier ones. This covers a daily
/// schedule that did not run for three months, and each is a row of a commit.
pub const MISSED_OCCURRENCES_MAX: u64 = 100;
/// Occurrences of a schedule that are shown at once: 27 years of a daily one.
pub const OCCURRENCES_SHOWN_MAX: u64 = 10_000;
/// Rows of each list of the daemon's status, and with it series of one metric: a page of them stays below 1 MB. The
/// counts are exact.
pub const STATUS_ROWS_MAX: usize = 1_000;
/// How old the last heartbeat of the daemon may be: four of its longest usual waits (the default interval of 30 s).
pub const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(120);
/// Bytes of the body of a webhook: GitHub sends at most 25 MB, and a signature needs every byte. None of it is kept.
/// <https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap>
pub const WEBHOOK_BODY_BYTES_MAX: u64 = 25 << 20;
/// How long the body of a webhook may take: GitHub and GitLab give up after 10 s themselves.
pub const WEBHOOK_READ_TIME_MAX: Duration = Duration::from_secs(10);
/// Calls of one webhook that are accepted per minute: looking more often than once a second has no use.
pub const WEBHOOKS_ACCEPTED_PER_MINUTE_MAX: u32 = 60;
/// Refused calls of all webhooks per minute that are answered with the reason. A valid call is accepted whatever other
/// clients send.
pub const WEBHOOKS_REFUSED_PER_MINUTE_MAX: u32 = 60;
/// Bytes of the name of a variable with a secret: more than any shell or service manager is given.
pub const SECRET_NAME_BYTES_MAX: usize = 255;
/// Bytes of the path of a file with a secret: a quarter of what Linux allows for the whole of it.
pub const SECRET_PATH_BYTES_MAX: usize = 1_024;
/// Bytes of a secret: fewer would be found by chance in what devices answer, where secrets are masked.
pub const SECRET_BYTES_MIN: usize = 4;
/// Bytes of a secret: those of a string value of a twin.
pub const SECRET_BYTES_MAX: usize = TWIN_STRING_BYTES_MAX;
/// Characters of a webhook's secret: 16 hex digits are 64 bits, and each guess is a call.
pub const WEBHOOK_SECRET_CHARS_MIN: usize = 16;
/// Bytes of a file of webhook secrets: two lines of any reasonable length.
pub const WEBHOOK_SECRET_FILE_BYTES_MAX: u64 = 4 * 1024;
/// Connections that are served at once; the others wait in the system's queue. Each costs at most a buffer of headers.
pub const LISTEN_CONNECTIONS_MAX: usize = 64;
/// Connections of an address in a second, and so many at once; more of them are closed unread. A browser that loads
/// pages as fast as it may needs some hundred.
pub const LISTEN_ACCEPTS_OF_ADDRESS_MAX: Rate = Rate { per_second: 300.0, at_once: 1_000.0 };
/// How long a connection keeps its place when all are taken: GitHub sends a webhook at once.
pub const LISTEN_PATIENCE: Duration = Duration::from_millis(250);
/// Bytes of the head of a request: GitHub sends 1 KB, proxies add as much again.
pub const LISTEN_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request: GitHub sends 15.
pub const LISTEN_HEADERS_MAX: usize = 64;
/// How long the head of a request may take: a client that is slower holds a place for nothing.
pub const LISTEN_HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may live: a head, a body, and as long again for an answer that is read slowly.
pub const LISTEN_CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the rest of a request is read after the answer, so that a reset does not lose the answer (RFC 9112, section
/// 9.6).
pub const LISTEN_LINGER_TIME_MAX: Duration = Duration::from_secs(1);
/// Receivers of alerts of a fleet: each has a thread.
pub const ALERT_RECEIVERS_MAX: usize = 16;
/// Alerts that a message has whole: as many as somebody reads.
pub const ALERTS_OF_MESSAGE_MAX: usize = 100;
/// Characters of the reason of an alert: a hundred of them stay below what chats take.
pub const ALERT_REASON_CHARS_MAX: usize = 300;
/// How long the first alert waits for others that belong to it.
pub const ALERT_GATHER_TIME: Duration = Duration::from_secs(2);
/// The shortest time between two messages that a fleet may ask for.
pub const ALERT_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How long a webhook or a command may take for one message.
pub const ALERT_CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Tries to send a message, with pauses of 1, 3, 9 and 27 s.
pub const ALERT_TRIES_MAX: u32 = 5;
/// How long the end of a process waits for the last message.
pub const ALERT_END_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of the token of a forge: the longest known ones, of GitHub's apps, have some hundreds.
pub const FORGE_TOKEN_BYTES_MAX: u64 = 4 * 1024;
/// How long one call of a forge may take, with connecting and all of its answer. GitHub ends its own after 10 s.
pub const FORGE_CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// How long connecting to a server of HTTP may take.
pub const HTTP_CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer of a forge: a page of 100 comments of 64 KiB, and what is around them.
pub const FORGE_ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Items of a page of a list: the most that GitHub and GitLab give.
pub const FORGE_PAGE_ITEMS: usize = 100;
/// Pages of comments in which one of ours is looked for: GitHub has at most 2,500 comments on a pull request.
pub const FORGE_PAGES_MAX: u32 = 50;
/// Characters of a context of a status. GitHub and GitLab keep 255.
pub const FORGE_CONTEXT_CHARS_MAX: usize = 255;
/// Characters of the link of a status (GitLab).
/// <https://docs.gitlab.com/api/commits/#set-commit-pipeline-status>
pub const FORGE_LINK_CHARS_MAX: usize = 255;
/// Commits whose statuses wait to be sent: when a forge is down for longer than so many commits, the oldest is left.
pub const FORGE_QUEUE_MAX: usize = 64;
/// Tries to send a status, with pauses that grow to [`FORGE_PAUSE_MAX`]: some hours in all.
pub const FORGE_TRIES_MAX: u32 = 40;
/// The longest pause between two tries, and the longest that a forge may ask for.
pub const FORGE_PAUSE_MAX: Duration = Duration::from_secs(15 * 60);
/// Statuses of one commit that say that more has started. GitHub keeps 1,000 of a context, and the last one counts.
/// <https://docs.github.com/en/rest/commits/statuses#create-a-commit-status>
pub const FORGE_PENDING_STATUSES_MAX: u32 = 100;
/// How long the end of a process waits for the last statuses.
pub const FORGE_END_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the right to work on a registry in a database holds after its last renewal: so long nobody takes over from a
/// machine that is gone.
pub const REGISTRY_LEASE: Duration = Duration::from_secs(15);
/// The time between two renewals of that right.
pub const REGISTRY_LEASE_RENEWAL: Duration = Duration::from_secs(5);
/// How long a database that was lost is waited for, before a command gives up.
pub const REGISTRY_PATIENCE: Duration = Duration::from_secs(30);
/// Devices of a run that a page looks at to find those that it shows: reading so many takes some 50 ms, and the next
/// page goes on behind them.
pub const GRID_ROWS_LOOKED_AT_MAX: usize = 50_000;
/// Runs in which a download of the jobs of a device looks for it: each is a shard or some to read.
pub const DEVICE_RUNS_MAX: usize = 2_000;
/// Rows of runs that are read to find the devices that fail again and again: a second or two.
pub const FAILING_ROWS_MAX: usize = 2_000_000;
/// Rows of a page with a table; the whole of it is a download.
pub const PAGE_ROWS: usize = 100;
/// The most rows of a page that a request may ask for.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Bytes of shards that are kept for pages: some of a large run.
pub const KEPT_SHARD_BYTES_MAX: usize = 32 << 20;
/// Bytes of the targets of open runs that are kept for pages: those of some millions of devices.
pub const KEPT_TARGET_BYTES_MAX: usize = 64 << 20;
/// Shards of which the first device is kept for pages, and runs of which the organization is.
pub const KEPT_SHARDS_MAX: usize = 20_000;
/// Runs and failed devices that are kept for pages: 30 MiB or so.
pub const KEPT_FAILURES_MAX: usize = 200_000;
/// Counts of devices that are kept for pages, and runs of which a crossing is.
pub const KEPT_COUNTS_MAX: usize = 500;
/// Failed devices of one run that are kept for pages.
pub const KEPT_FAILURES_OF_RUN_MAX: usize = 10_000;
/// Threads that read what pages show. The daemon is not among them, and a machine with two cores has one left for it.
pub const PAGE_THREADS: usize = 2;
/// Requests for pages that wait for such a thread: some seconds of work. Beyond, others are told to come again.
pub const PAGES_WAITING_MAX: usize = 64;
/// Downloads at the same time, each with a thread of its own that waits for its reader.
pub const DOWNLOADS_MAX: usize = 4;
/// How long a reader of a download may take for the next part of it.
pub const DOWNLOAD_PATIENCE: Duration = Duration::from_secs(30);
/// Streams of events that are open at the same time.
pub const EVENT_STREAMS_MAX: usize = 128;
/// Events that are kept for who comes again; one who missed more reads the page anew.
pub const EVENTS_KEPT: usize = 1_000;
/// How long a stream of events lasts; a browser opens it again, and goes on where it was.
pub const EVENT_STREAM_TIME_MAX: Duration = Duration::from_secs(300);
/// Connections that are served at once where pages are: a browser opens six, and a page one for its events.
pub const PAGES_CONNECTIONS_MAX: usize = 512;
/// How long a connection may live where pages are: one waits for those before it, and is read.
pub const PAGES_CONNECTION_TIME_MAX: Duration = Duration::from_secs(120);
/// How long the connection of a download or of a stream of events may live.
pub const PAGES_DOWNLOAD_TIME_MAX: Duration = Duration::from_secs(1_800);
/// Seconds of the processor that the pages of a visitor may take while a job runs: a page takes some hundredths.
pub const PAGE_TIME: Rate = Rate { per_second: 0.1, at_once: 0.5 };
/// Seconds beyond those for which a visitor gets copies, before it waits.
pub const PAGE_TIME_OWED: f64 = 1.0;
/// The most that a visitor owes: after ten seconds it gets copies again.
pub const PAGE_TIME_OWED_MAX: f64 = 2.0;
/// How old the copies are that such a visitor gets.
pub const PAGE_TIME_COPY_AGE: Duration = Duration::from_secs(2);
/// Requests of a visitor that wait until it owes less: more are told to come again.
pub const PAGE_TIME_WAITING_MAX: usize = 4;
/// How old an answer may be that is given once more to who says that such a copy will do.
pub const COPY_AGE_MAX: Duration = Duration::from_secs(10);
/// Such answers that are kept.
pub const COPIES_MAX: usize = 64;
/// Bytes of the largest of them.
pub const COPY_BYTES_MAX: u64 = 512 * 1024;
/// How long a form may take to arrive.
pub const FORM_READ_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of a form: a reason of some lines.
pub const FORM_BYTES_MAX: usize = 16 * 1024;
/// Characters of the reason of an action.
pub const REASON_CHARS_MAX: usize = 500;
/// Bytes of a file of tokens: ten thousand people.
pub const TOKEN_FILE_BYTES_MAX: u64 = 1 << 20;
/// Sessions of browsers; a new one ends the oldest.
pub const SESSIONS_MAX: usize = 1_000;
/// How long a session lasts: who looks on then logs in again.
pub const SESSION_TIME_MAX: Duration = Duration::from_secs(8 * 3_600);
/// Logins by a provider that were begun and did not come back yet; a new one ends the oldest.
pub const OIDC_LOGINS_MAX: usize = 1_000;
/// How long somebody may take to log in at the provider.
pub const OIDC_LOGIN_TIME_MAX: Duration = Duration::from_secs(600);
/// Calls of the provider at the same time, each on a thread that waits.
pub const OIDC_CALLS_MAX: usize = 8;
/// The most time of such a call.
pub const OIDC_CALL_TIME_MAX: Duration = Duration::from_secs(15);
/// Bytes of an answer of the provider.
pub const OIDC_ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How long what is known of the provider counts: its addresses and its keys.
pub const OIDC_KNOWN_TIME_MAX: Duration = Duration::from_secs(3_600);
/// The pause between two looks for a key that is not known.
pub const OIDC_KEYS_PAUSE_MIN: Duration = Duration::from_secs(30);
