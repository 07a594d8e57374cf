//! fleetform: bulk work on fleets of connected devices through pull requests.
//!
//! Jobs, device imports, groups and templates are YAML files in a git repository. fleetform diffs what they declare
//! against what the registry observes, shows a plan, executes it in batches with cancellation thresholds, and commits
//! what happened.
//!
//! # The way of one `apply`
//!
//! It can be read from top to bottom in `reconcile/reconciler.rs`; the daemon and the rehearsal go the same way.
//!
//! ```text
//!  prepare::Files   files at HEAD ──repo──> bytes ──manifest──> Declared + Diagnostics     (errors end here: exit 65)
//!  prepare::View    results branch ──repo──> claims, records ──┐
//!                   journal ──registry──> open runs ───────────┴─ledger──> Ledger   (before what is observed)
//!  view.plan(…)     registry.devices().observe(targets, paths) ──> Observations            (ids and values, no twins)
//!                   plan::plan(declared, ledger, observations) ──> Plan              pure: same input, same bytes
//!
//!  Reconciler::round      recover ──> plan ──> take the right to work ──> plan again ──> begin
//!                         a claim is journaled, then committed by compare-and-swap  (a lost race: exit 75)
//!  Reconciler::run_until  event ──> rollout::step ──> effects, in order ──> event …        intent before effect
//!                         results::{shards, run.json} ──repo──> a commit on the results branch
//!  Reconciler::rest       push, give back the lease and the lock, note what was applied
//! ```
//!
//! A process waits in one place, `clock.wait(until, &inbox)`. Threads beside it (signals, the link, fetches and pushes,
//! the HTTP listener) have a [`execute::Waker`] each. Everything else is synchronous.
//!
//! # Rooms, and who may import whom
//!
//! A room may import the rooms of lower levels as listed, never its siblings; a test holds this table against the
//! source (`tests/it/tidy.rs`). Files do not import each other in a circle either (`tests/it/circles.rs`).
//!
//! | level | room | what it is | may import |
//! | --- | --- | --- | --- |
//! | 0 | [`diag`] | what we tell the author of a file, as data | nothing of ours but `model::text` |
//! | 0 | [`model`] | the nouns, validated and immutable | nothing of ours |
//! | 1 | [`access`] | what an Access document says of a commit | model |
//! | 1 | [`query`] | the target language: text, AST, reference semantics | diag, model |
//! | 1 | [`schedule`] | recurrence: when a schedule is due | model |
//! | 1 | [`template`] | DTDL interfaces: what a job may set and call on a device | diag, model |
//! | 2 | [`manifest`] | what users write: YAML into the model | diag, model, query, schedule, template |
//! | 2 | [`ledger`] | claims and records of runs, run keys | model |
//! | 2 | [`plan`] | the brain | model, query, schedule, ledger |
//! | 3 | [`rollout`] | the machine of a running job | model, plan, ledger |
//! | 3 | [`policy`] | what policies say of a plan | model, ledger, plan |
//! | 3 | [`results`] | outcomes as bytes to commit | model, ledger |
//! | 3 | [`convert`] | JSON of Azure IoT Central and IoT Hub to documents of ours | diag, model, query, template, manifest |
//! | | **the IO line** | clock, files, network and threads only below | |
//! | 3 | [`tls`] | what is trusted, and who we are, on an encrypted connection | model |
//! | 4 | [`registry`] | devices, imports, the journal: a port, SQLite and PostgreSQL behind it | diag, model, query, ledger, tls |
//! | 4 | [`link`] | the way to the devices: a port, and simulated devices, an MQTT broker or IoT Hub's clients behind it | model, tls |
//! | 4 | [`repo`] | git: a fleet's tree out, results in | diag, model, results |
//! | 4 | [`alert`] | messages to people: webhooks, and commands of the operator | model, tls |
//! | 4 | [`forge`] | comments and commit statuses at GitHub, GitLab, Gitea | model, tls |
//! | 5 | [`prepare`] | a fleet that is open for planning: [`prepare::View`] | levels 0 to 3, registry, repo |
//! | 5 | [`execute`] | the driver: performs effects, feeds back events | levels 0 to 3, registry, link, repo |
//! | 5 | [`device`] | the reference device: the other side of the device protocol | model, tls, link |
//! | 5 | [`listen`] | what the daemon shows and hears: connections, health, metrics, webhooks, events | model |
//! | 6 | [`reconcile`] | claims, recovery, the lease, pushes | ledger, manifest, plan, results, levels 0, 4, 5 |
//! | 7 | [`ops`] | one use case a file | everything above |
//! | 8 | [`rest`] | IoT Hub's REST API, for back ends | ops, link, query, and the values that it shows |
//! | 8 | [`web`] | pages for people, and their JSON | ops, listen, and the values that it shows |
//! | 9 | [`cli`] | arguments, commands, views | rest, web, ops, alert, forge, device and the values that it shows |
//! | 9 | [`sim`] | a seeded world around `ops`: faults, people, an auditor | ops, and the rooms that it replaces or judges |
//!
//! Three rooms are ours beyond the usual. `prepare` is apart from `plan` so that a planner that cannot see the registry
//! cannot call it, and apart from `ops` because every command has to open a fleet alike. `reconcile` is apart from
//! `ops` because `apply`, the daemon and the rehearsal are one machine with three drivers.
//!
//! # Ports
//!
//! | port | what it asks | what is behind it | who replaces it |
//! | --- | --- | --- | --- |
//! | [`registry::Store`] | `commit(&Fence, &[Change])`, and what was done | `registry/sqlite`, `registry/postgres` | a store that passes the contract |
//! | [`link::DeviceLink`] | requests out, events in, each with a [`link::Token`] | `link/simulated`, `link/mqtt`, `link/hub` | the simulation |
//! | [`execute::Clock`] | now, and the one wait | the system's clock, a virtual one | the simulation |
//!
//! The contract of a store is `tests/it/contract.rs`. [`execute::Ports`] wraps the first two.
//! With `sim::dying`, each of their durable steps is a place to die.
//!
//! # How to add a link to devices
//!
//! 1. Write `src/link/<name>.rs` with a type that implements [`link::DeviceLink`], and its variant of
//!    [`link::LinkError`] with the help; `link/simulated.rs` is the smallest, `link/mqtt` one with threads.
//! 2. Give [`model::fleet::LinkConfig`] a variant with its settings, and open it in [`link::open`]. A link with a
//!    thread of its own keeps the [`link::Wake`] that it gets there. The compiler names what else depends on the kind
//!    of link: the rehearsal, which always has simulated devices, and `reconcile/kept_link.rs`, which reads what the
//!    settings refer to. One with connections stays open while nothing is to be done (`has_connections`).
//! 3. Give the document a field beside `spec.link.simulated`: `v1::Link` in `manifest/v1/link.rs`, then `link` in
//!    `manifest/lower/fleet.rs`, where the list of `exactly_one` gets its name.
//!    `UPDATE_SCHEMAS=1 cargo test schemas` writes the JSON schemas anew.
//! 4. Add a valid and an invalid document to `fixtures/manifests` (the file's name begins with the code, and
//!    `UPDATE_FIXTURES=1` writes what is expected), and a test that applies a job over it: `tests/it/delivery.rs` is an
//!    example. A file of tests is declared in `tests/it/main.rs`.
//! 5. Name it in `docs/documents.md`, the changelog and the tables here.
//!
//! What is asked of a link may hold secrets ([`model::secret`]): it sends them and does nothing else with them. A twin
//! of the registry has their marks, and a [`link::Reply`] the values that may be read here.
//!
//! What a device says is acknowledged to whoever delivers it when it is durable ([`link::DeviceLink::settle`]). What a
//! device is told is of two kinds: a command is handed over once, anything else has a version or a request id and may
//! be sent again. The protocol itself is pure and has two sides ([`link::protocol`]); [`device`] is the other one.
//!
//! A file of `src` has at most 500 lines without its tests; `tests/it/tidy.rs` holds it.
//!
//! # Invariants
//!
//! 1. A plan is immutable and complete: execution makes no choice that a plan could have made.
//! 2. Planning is a function of its input; same input, same bytes.
//! 3. Claimed before started, journaled before done, decided after journaled.
//! 4. A run key is executed once, whatever is deleted, renamed, reverted or restarted.
//! 5. A reconcile starts from what it reads, never from what woke it.
//! 6. Nothing is unbounded: [`model::limits`] names every maximum.
//! 7. Every device in scope ends in exactly one place, and the counts add up to the target.
//! 8. Only the rooms below the IO line touch the world.
//!
//! # Files that fleetform touches
//!
//! | what | who | where |
//! | --- | --- | --- |
//! | declared files | read only, from a commit or the work tree | the fleet's folder |
//! | the registry and its locks | `registry`, `reconcile` | `.fleetform/fleet.db`, `fleet.lock` and `fleet.listener`, or where the fleet says |
//! | the results branch | `repo`, by compare-and-swap, never forced | `refs/heads/fleetform/results` |
//! | the renewals of a lease | `repo`, replaced by compare-and-swap | `refs/heads/fleetform/results-lease` of the remote |
//! | what the remote had of them | `repo`, with a remote | `refs/fleetform/upstream/…`, `refs/fleetform/fetched/…` |
//! | the mirror of a followed repository | `ops::watch` | `.fleetform/mirror.git`, its branch at `refs/fleetform/source/…` |
//! | what a daemon says of itself, and its lock | `ops::status` | `.fleetform/status.json`, `.fleetform/watch.lock` |
//! | the mark of who moves a branch | `repo`, empty unless a process died | `.git/<branch>.writer` |
//! | a file of a work tree that is being written | `repo`, renamed into place | `.git/fleetform.begun` |
//! | new fleets | `ops::init` | the folder that it is given |
//! | schemas for editors | `ops::init`, `ops::schema` | `.schemas` in a new fleet, or where `--out` says |
//! | the chosen columns | `cli` | `fleetform/columns.yaml` in the user's configuration |
//! | secrets that the operator allows | `prepare`, read only | where a job's reference says |
//! | what simulated devices executed | `link` | where `spec.link.simulated.journal` says |
//! | certificates of a broker, and our key | `link`, read only | where `spec.link.mqtt` says |
//! | telemetry of devices of IoT Hub | `link`, appended | where `spec.link.iotHub.telemetry` says |
//! | the policies that `gateway init` makes | `ops::hub` | `.fleetform/gateway.json`, mode 0600 |
//! | the jobs of back ends | `ops::hub`, `repo` | the folder of `jobs.folder`, a commit of the followed branch |
//! | the certificate of the gateway, and its key | `link`, read only | where `--certificate` and `--key` say |
//! | the tokens of those who may look, the certificate of pages and its key | `web`, read only | where `--auth`, `--tls-cert` and `--tls-key` say |
//! | the secret of our client of OpenID Connect | `cli`, read only | where `--oidc-secret-file` says |
//! | what reference devices executed | `device` | where `--state` and `--journal` say |
//! | rehearsals | `ops::rehearse` | a nameless copy of the registry, a folder below the system's temporary one |
//! | exports, saved plans and snapshots | `ops::device`, `ops::plan`, `ops::snapshot`, `cli` | where `-o` and `--out` say |
//! | copies of the registry, and what is witnessed of them | `ops::registry`, `reconcile` | where the arguments say |
//! | a snapshot that is planned with | `prepare`, until the process ends | a folder below the system's temporary one |
//! | the summary of a job of CI | `cli` | where `GITHUB_STEP_SUMMARY` says |
//! | converted documents | `ops::convert` | where `-o` says, and never over a file that is there |

pub mod access;
pub mod alert;
pub mod cli;
pub mod convert;
pub mod device;
pub mod diag;
pub mod execute;
pub mod forge;
pub mod ledger;
pub mod link;
pub mod listen;
pub mod manifest;
pub mod model;
pub mod ops;
pub mod plan;
pub mod policy;
pub mod prepare;
pub mod query;
pub mod reconcile;
pub mod registry;
pub mod repo;
pub mod rest;
pub mod results;
pub mod rollout;
pub mod schedule;
pub mod sim;
pub mod template;
pub mod tls;
pub mod web;
