//! Verifies the commits of a fleet that has an Access document.
//!
//! The walk goes along first parents, from the commit that brought the first Access document, or from where it ended
//! the last time. Each commit is judged by the Access document that was trusted before it, which is that of its first
//! parent unless a commit that was refused has changed it. A merge that adds nothing of its own needs the right to
//! merge, and what it brings in is judged commit by commit, by the Access document of the branch that it goes into.
//!
//! What a refused commit has changed stays refused until somebody who may changes it again, or until an administrator
//! vouches for all that came before.

use std::collections::{BTreeMap, BTreeSet};

use super::PrepareError;
use super::scratch::ScratchFolder;
use super::touched::{Change, Outlines};
use crate::access::lack;
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::model::access::Access;
use crate::model::fleet::{HeldDocuments, Hold};
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::text::sanitize_line;
use crate::repo::{CommitInfo, Repo, Signature, SigningKeys};

/// The trailer with which an administrator vouches.
const VOUCH: &str = "Fleetform-Vouch";
/// Where the walk ended the last time, and where it began.
const VERIFIED: &str = "verified";
const INTRODUCTION: &str = "introduction";
/// Signatures that are asked for ahead.
const AHEAD: usize = 800;

/// How to verify.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The commit that brought the first Access document, or a later one that is trusted, as its id.
    pub introduction: Option<String>,
    /// Note how far the history was verified.
    pub remembers: bool,
}

impl Trust {
    /// Returns the same with the id of the commit that is named.
    ///
    /// # Errors
    /// There is no such commit.
    pub fn resolved(&self, repo: &Repo) -> Result<Trust, PrepareError> {
        let introduction = self.introduction.as_ref().map(|revision| repo.resolve(revision)).transpose()?;
        Ok(Trust { introduction, ..self.clone() })
    }
}

/// What verification found: the documents that commits have changed that were not allowed to.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    refused: BTreeMap<Change, Refused>,
    /// Why nothing can be trusted at all.
    distrust: Option<Refused>,
    /// The Access document was brought by an administrator.
    is_introduced: bool,
    /// Commits that were looked at.
    pub commits: usize,
}

/// Why a document is refused: a sentence.
#[derive(Debug, Clone)]
struct Refused {
    why: String,
}

impl Verified {
    /// Returns true when everything may be used.
    pub fn is_whole(&self) -> bool {
        self.refused.is_empty() && self.distrust.is_none()
    }

    /// Returns the documents that are not to be used, with why.
    pub fn holds(&self) -> BTreeMap<(Kind, Name), Hold> {
        let hold =
            |refused: &Refused| Hold { why: refused.why.clone(), code: Some(code::REFUSED_COMMIT.0), place: None };
        let of = |(change, refused): (&Change, &Refused)| Some(((change.kind?, change.name.clone()?), hold(refused)));
        self.refused.iter().filter_map(of).collect()
    }

    /// Returns why nothing can be used; `None` when only some documents cannot.
    pub fn distrust(&self) -> Option<&str> {
        self.distrust.as_ref().map(|refused| refused.why.as_str())
    }

    /// Returns the errors of the refused commits, with the places of the documents where they are still there.
    pub fn diagnostics(&self, loaded: &crate::manifest::Loaded) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        for (change, refused) in &self.refused {
            let help = match self.is_introduced {
                true => {
                    "Let somebody who may change it do so in a signed commit; or let an administrator vouch: `fleetform \
                     explain FF685`."
                }
                false => {
                    "Let an administrator that it names change it in a signed commit, or make this commit again with a \
                     signature: until then there is nobody who could vouch."
                }
            };
            let span = change.kind.zip(change.name.as_ref());
            let span = span.and_then(|(kind, name)| loaded.spans.span_of(kind, name, "/metadata/name"));
            diagnostics.push(Diagnostic::new(code::REFUSED_COMMIT, span, &*refused.why).with_help(help));
        }
        if let Some(Refused { why, .. }) = &self.distrust {
            diagnostics.push(Diagnostic::new(code::REFUSED_COMMIT, None, &**why).with_help(
                "Nothing is done until the history is the one that was introduced. Name another commit to trust with \
                 `--introduction COMMIT`, once you know why.",
            ));
        }
        diagnostics
    }

    /// Marks documents as held.
    pub fn hold(&self, held: &mut HeldDocuments) {
        held.documents.extend(self.holds());
    }
}

/// Verifies the history of a commit. With a change, the commits that it has and `head` has not are judged as those of a
/// merge into `head` are; a commit of it that merges and adds nothing of its own is not made yet.
///
/// # Errors
/// The history or the keys cannot be read, or git cannot check signatures.
pub fn verify(
    repo: &Repo,
    (head, change): (&str, Option<&str>),
    trust: &Trust,
    declares_access: bool,
) -> Result<Verified, PrepareError> {
    let noted = trust.introduction.clone().or_else(|| repo.noted_history(INTRODUCTION));
    let verified = repo.noted_history(VERIFIED).filter(|commit| repo.descends(head, commit) == Some(true));
    if noted.is_none() && verified.is_none() && !declares_access {
        return Ok(Verified::default());
    }
    if let Some(introduction) = &noted
        && repo.descends(head, introduction) != Some(true)
    {
        let why = format!(
            "The history does not contain the commit {} with which this fleet's Access document was introduced.",
            short(introduction)
        );
        let distrust = Some(Refused { why });
        return Ok(Verified { distrust, ..Verified::default() });
    }
    let mut walk = Walk::new(repo);
    let mut begin = None;
    let is_unusable = trust.introduction.as_ref().is_some_and(|named| !walk.trust(named));
    let after = |commit: &&String| noted.as_ref().is_none_or(|noted| repo.descends(commit, noted) == Some(true));
    for known in verified.iter().filter(after).chain(&noted) {
        if begin.is_none() && walk.trust(known) {
            begin = Some(known.as_str());
        }
    }
    if is_unusable {
        let why = "The commit that is named as the introduction has no Access document that can be read.".to_string();
        let distrust = Some(Refused { why });
        return Ok(Verified { distrust, ..Verified::default() });
    }
    let (chain, is_from_root) = repo.first_parents(head, begin)?;
    if is_from_root {
        // It came in by a merge: the whole is verified.
        walk = Walk::new(repo);
    }
    walk.all(&chain)?;
    if let Some(change) = change.filter(|_| walk.trusted.is_some()) {
        let brought = repo.not_behind(change, head)?;
        walk.bring(&brought)?;
    }
    if trust.remembers && walk.refused.is_empty() && walk.trusted.is_some() {
        // Where the Access document cannot be read now, the next walk begins before that.
        let is_readable = walk.trusted_at(head) == walk.trusted;
        if let Some(introduced) = noted.or(walk.introduced.clone()).filter(|_| is_readable) {
            repo.note_history(INTRODUCTION, &introduced)?;
            repo.note_history(VERIFIED, head)?;
        }
    }
    let is_introduced = walk.trusted.is_some();
    Ok(Verified { refused: walk.refused, distrust: None, is_introduced, commits: walk.commits })
}

/// Returns true when the history was verified once.
pub(super) fn has_verified(repo: &Repo) -> bool {
    repo.noted_history(INTRODUCTION).is_some()
}

/// The Access document that judges, with its keys.
#[derive(Debug, Clone, PartialEq)]
struct Trusted {
    access: Access,
    keys: SigningKeys,
}

struct Walk<'a> {
    repo: &'a Repo,
    outlines: Outlines<'a>,
    trusted: Option<Trusted>,
    /// The commit that brought the Access document.
    introduced: Option<String>,
    refused: BTreeMap<Change, Refused>,
    /// Signatures by commit, of the keys that are trusted now.
    signatures: BTreeMap<String, Signature>,
    commits: usize,
}

/// How a commit was judged.
enum Judgement {
    /// `None`: nothing was to be allowed, and it has no signature that counts.
    Allowed {
        signer: Option<String>,
    },
    Refused(String),
}

impl<'a> Walk<'a> {
    fn new(repo: &'a Repo) -> Walk<'a> {
        Walk {
            repo,
            outlines: Outlines::new(repo),
            trusted: None,
            introduced: None,
            refused: BTreeMap::new(),
            signatures: BTreeMap::new(),
            commits: 0,
        }
    }

    /// Trusts the Access document of a commit. Returns false when it has none that can be read.
    fn trust(&mut self, commit: &str) -> bool {
        self.trusted = self.trusted_at(commit);
        self.trusted.is_some()
    }

    /// Returns the Access document of a commit with its keys; `None` when it has none that can be read.
    fn trusted_at(&mut self, commit: &str) -> Option<Trusted> {
        let access = self.outlines.access_at(commit)?;
        let max = limits::JSON_FILE_BYTES_MAX;
        let file = |path: &Option<String>| self.repo.file_at(commit, path.as_ref()?, max);
        let keys = SigningKeys { allowed_signers: file(&access.allowed_signers), openpgp: file(&access.openpgp_keys) };
        Some(Trusted { access, keys })
    }

    /// Judges commits, the oldest first.
    fn all(&mut self, chain: &[String]) -> Result<(), PrepareError> {
        for (at, id) in chain.iter().enumerate() {
            self.commits += 1;
            let commit = self.repo.commit(id)?;
            let changes = self.outlines.changes(commit.parents.first().map(String::as_str), id)?;
            if self.trusted.is_none() {
                self.introduce(&commit, &changes)?;
                continue;
            }
            self.look_ahead(id, &chain[at..])?;
            let is_plain = commit.parents.len() == 2 && self.repo.adds_nothing(&commit);
            if is_plain {
                self.merge(&commit, &changes)?;
            } else {
                let judgement = self.judge(&commit, &changes);
                self.settle(&commit, changes, judgement);
            }
        }
        Ok(())
    }

    /// Takes the first Access document, when this commit brings one.
    fn introduce(&mut self, commit: &CommitInfo, changes: &[Change]) -> Result<(), PrepareError> {
        if !changes.iter().any(|change| change.kind == Some(Kind::Access)) {
            return Ok(());
        }
        let Some(trusted) = self.trusted_at(&commit.id) else { return Ok(()) };
        self.trusted = Some(trusted);
        self.look_ahead(&commit.id, std::slice::from_ref(&commit.id))?;
        match self.administrator(&commit.id) {
            Ok(_) => {
                // Before it nobody restricted anything.
                self.refused.clear();
                self.introduced = Some(commit.id.clone());
            }
            Err(why) => {
                self.trusted = None;
                let why = format!(
                    "{} brings the first Access document, and has to be signed by an administrator that it names: \
                     {why}.",
                    named(commit)
                );
                let access = changes.iter().filter(|change| change.kind == Some(Kind::Access));
                for change in access {
                    let refused = Refused { why: why.clone() };
                    self.refused.insert(change.clone(), refused);
                }
            }
        }
        Ok(())
    }

    /// Asks for the signatures of the next commits.
    fn look_ahead(&mut self, id: &str, next: &[String]) -> Result<(), PrepareError> {
        if self.signatures.contains_key(id) {
            return Ok(());
        }
        let Some(trusted) = &self.trusted else { return Ok(()) };
        let folder = ScratchFolder::make()?;
        let ahead = &next[..next.len().min(AHEAD)];
        self.signatures = self.repo.signatures(ahead, &trusted.keys, folder.path())?;
        Ok(())
    }

    /// Returns who signed a commit, or why that is not known: a phrase.
    fn signer(&self, commit: &str) -> Result<String, String> {
        match self.signatures.get(commit) {
            Some(Signature::Good { signer }) => Ok(signer.clone()),
            Some(Signature::None) | None => Err("it has no signature".to_string()),
            Some(Signature::UnknownKey { key }) => Err(format!("the key `{}` is not known", sanitize_line(key))),
            Some(Signature::Expired { signer }) => {
                Err(format!("the key of `{}` was not valid at its time", sanitize_line(signer)))
            }
            Some(Signature::Bad) => {
                Err("its signature is not one of a known key that is valid at its time".to_string())
            }
        }
    }

    fn administrator(&self, commit: &str) -> Result<String, String> {
        let signer = self.signer(commit)?;
        let access = self.trusted.as_ref().map(|trusted| &trusted.access);
        match access.is_some_and(|access| access.is_administrator(&signer)) {
            true => Ok(signer),
            false => Err(format!("`{}` is no administrator", sanitize_line(&signer))),
        }
    }

    /// Judges a commit as the work of who signed it.
    fn judge(&self, commit: &CommitInfo, changes: &[Change]) -> Judgement {
        let signer = match self.signer(&commit.id) {
            Ok(signer) => signer,
            Err(_) if changes.is_empty() => return Judgement::Allowed { signer: None },
            Err(why) => return Judgement::Refused(why),
        };
        let Some(trusted) = &self.trusted else { return Judgement::Refused("nobody is known".to_string()) };
        let touched: BTreeSet<_> = changes.iter().flat_map(|change| &change.touched).collect();
        let lacking: Vec<String> =
            touched.into_iter().filter_map(|one| lack(&trusted.access, &signer, one)).map(|lack| lack.0).collect();
        match lacking.is_empty() {
            true => Judgement::Allowed { signer: Some(signer) },
            false => Judgement::Refused(format!("signed by `{}`, and {}", sanitize_line(&signer), shortened(&lacking))),
        }
    }

    /// Judges a merge that adds nothing of its own, and what it brings in.
    fn merge(&mut self, commit: &CommitInfo, changes: &[Change]) -> Result<(), PrepareError> {
        let may_merge = self.signer(&commit.id).and_then(|signer| {
            let access = self.trusted.as_ref().map(|trusted| &trusted.access);
            match access.is_some_and(|access| access.may_merge(&signer)) {
                true => Ok(signer),
                false => Err(format!("signed by `{}`, who has no role that merges", sanitize_line(&signer))),
            }
        });
        if let Err(why) = may_merge {
            // Whoever may make all of its changes may merge them.
            let judgement = match self.judge(commit, changes) {
                Judgement::Refused(_) => Judgement::Refused(why),
                allowed => allowed,
            };
            self.settle(commit, changes.to_vec(), judgement);
            return Ok(());
        }
        let brought = self.repo.merged(commit)?;
        if self.bring(&brought)? && !self.is_access_refused() {
            self.take_access(&commit.id);
        }
        Ok(())
    }

    /// Judges commits by what they are merged into. Returns true when one that is allowed changes the Access document.
    fn bring(&mut self, brought: &[String]) -> Result<bool, PrepareError> {
        if let Some(trusted) = &self.trusted {
            let folder = ScratchFolder::make()?;
            let found = self.repo.signatures(brought, &trusted.keys, folder.path())?;
            self.signatures.extend(found);
        }
        let before = (self.trusted.clone(), self.signatures.clone());
        let mut has_access = false;
        for id in brought {
            self.commits += 1;
            let inner = self.repo.commit(id)?;
            if inner.parents.len() == 2 && self.repo.adds_nothing(&inner) {
                // What it brings in is judged by itself.
                continue;
            }
            let changes = self.outlines.changes(inner.parents.first().map(String::as_str), id)?;
            let judgement = self.judge(&inner, &changes);
            has_access |= matches!(judgement, Judgement::Allowed { .. })
                && changes.iter().any(|change| change.kind == Some(Kind::Access));
            self.settle(&inner, changes, judgement);
            // All of them are judged by the same.
            (self.trusted, self.signatures) = before.clone();
        }
        Ok(has_access)
    }

    fn is_access_refused(&self) -> bool {
        self.refused.keys().any(|change| change.kind == Some(Kind::Access))
    }

    /// Notes what came of a commit.
    fn settle(&mut self, commit: &CommitInfo, changes: Vec<Change>, judgement: Judgement) {
        let has_access = changes.iter().any(|change| change.kind == Some(Kind::Access));
        match judgement {
            Judgement::Allowed { signer } => {
                let access = self.trusted.as_ref().map(|trusted| &trusted.access);
                let is_administrator =
                    signer.is_some_and(|signer| access.is_some_and(|access| access.is_administrator(&signer)));
                let vouches = is_administrator && commit.trailer(VOUCH).is_some();
                if vouches {
                    self.refused.clear();
                } else {
                    // Whoever may change it has seen how it was.
                    changes.iter().for_each(|change| drop(self.refused.remove(change)));
                }
                if has_access || vouches {
                    self.take_access(&commit.id);
                }
            }
            Judgement::Refused(why) => {
                let why = format!("{} is not allowed to change this: {why}.", named(commit));
                for change in changes {
                    self.refused.insert(change, Refused { why: why.clone() });
                }
            }
        }
    }

    /// Trusts the Access document of a commit from here on. One that cannot be read leaves the former one.
    fn take_access(&mut self, commit: &str) {
        let is_gone = !self.outlines.has_access(commit);
        let next = self.trusted_at(commit);
        if is_gone || next.is_some() && next != self.trusted {
            self.trusted = next;
            self.signatures.clear();
        }
    }
}

fn named(commit: &CommitInfo) -> String {
    let subject = crate::model::text::shorten(&commit.subject, 60);
    format!(
        "The commit {} by {} (\u{201c}{}\u{201d})",
        short(&commit.id),
        sanitize_line(&commit.author),
        sanitize_line(&subject)
    )
    .replace(['\u{201c}', '\u{201d}'], "\"")
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

/// Returns the first of some phrases and how many more there are.
fn shortened(phrases: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = phrases.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", phrases[..phrases.len().min(SHOWN)].join("; "))
}
