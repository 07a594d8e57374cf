//! Verifies the commits of a fleet that has an Access document.
//!
//! The walk goes along the line of the branch, which at a merge is the parent that was seen here before, else the first
//! one: from the commit that brought the first Access document, or from where it ended the last time. Each commit is
//! judged by the Access document that was trusted before it, which is that of its parent on the line unless a commit
//! that was refused has changed it. A merge that adds nothing of its own needs the right to merge, and what it brings in
//! is judged commit by commit, by the Access document of the branch that it goes into.
//!
//! What a refused commit has changed stays refused until somebody who may changes it again, or until an administrator
//! vouches for all that came before.

use std::collections::{BTreeMap, BTreeSet};

use super::PrepareError;
use super::preparation::short;
use super::scratch::ScratchFolder;
use super::touched::{Change, Outlines};
use super::verified::{Refused, Trust, Verified};
use crate::access::lack;
use crate::model::access::Access;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::text::sanitize_line;
use crate::repo::{CommitInfo, FLEET_FILE, Repo, Signature, SigningKeys};

/// The trailer with which an administrator vouches.
const VOUCH: &str = "Fleetform-Vouch";
/// Where the walk ended the last time, and where it began.
const VERIFIED: &str = "verified";
const INTRODUCTION: &str = "introduction";
/// The commit that was looked at last, whatever came of it: the line of the branch goes through it.
const SEEN: &str = "seen";
/// Signatures that are asked for ahead.
const AHEAD: usize = 800;

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
        return Ok(Verified::distrusted(why));
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
        return Ok(Verified::distrusted(why));
    }
    let seen = repo.noted_history(SEEN).filter(|commit| repo.descends(head, commit) == Some(true));
    let (chain, is_apart) = repo.line(head, begin, seen.as_deref().or(begin))?;
    if begin.is_some() && is_apart
        || seen.as_ref().is_some_and(|seen| Some(seen.as_str()) != begin && !chain.contains(seen))
    {
        // Where it was verified is behind another parent of a merge: what the branch was is not what it was seen to be.
        let why = format!(
            "The commit {} that was verified here is not on the line of this history: it came in by a merge.",
            short(begin.or(seen.as_deref()).unwrap_or_default())
        );
        return Ok(Verified::distrusted(why));
    }
    walk.last = begin.map(str::to_string);
    walk.all(&chain)?;
    if let Some(change) = change.filter(|_| walk.trusted.is_some()) {
        let brought = repo.not_behind(change, head)?;
        walk.before = Some(head.to_string());
        walk.bring(&brought)?;
    }
    if trust.remembers && walk.trusted.is_some() {
        repo.note_history(SEEN, head)?;
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
    // A fleet in a folder hides documents, or brings them in: which ones is not known.
    let hidden = walk.refused.iter().find(|(change, _)| change.kind.is_none() && change.path.contains(FLEET_FILE));
    let distrust = hidden.map(|(_, refused)| refused.clone());
    let access = walk.trusted.as_ref().map(|trusted| trusted.access.clone());
    let access = access.map(|access| walk.outlines.placed(&access, head));
    let is_governed = is_introduced || walk.outlines.has_access(head);
    Ok(Verified { refused: walk.refused, distrust, is_introduced, commits: walk.commits, access, is_governed })
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
    /// The commit of the line that was looked at last.
    last: Option<String>,
    /// What the commit that is judged was made to, or is merged into.
    before: Option<String>,
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
            last: None,
            before: None,
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
            let mut commit = self.repo.commit(id)?;
            // The parent on the line is what the commit was made to, wherever it stands.
            if let Some(place) = self.last.as_ref().and_then(|last| commit.parents.iter().position(|one| one == last)) {
                commit.parents.swap(0, place);
            }
            self.last = Some(id.clone());
            self.before = commit.parents.first().cloned();
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
                    self.refuse(&commit.id, change.clone(), &why);
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
    fn judge(&mut self, commit: &CommitInfo, changes: &[Change]) -> Judgement {
        let signer = match self.signer(&commit.id) {
            Ok(signer) => signer,
            Err(_) if changes.is_empty() => return Judgement::Allowed { signer: None },
            Err(why) => return Judgement::Refused(why),
        };
        let Some(access) = self.trusted.as_ref().map(|trusted| trusted.access.clone()) else {
            return Judgement::Refused("nobody is known".to_string());
        };
        let access = self.outlines.placed(&access, commit.parents.first().unwrap_or(&commit.id));
        let touched: BTreeSet<_> = changes.iter().flat_map(|change| &change.touched).collect();
        let lacking: Vec<String> =
            touched.into_iter().filter_map(|one| lack(&access, &signer, one)).map(|lack| lack.0).collect();
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
        let access = self.trusted.as_ref().map(|trusted| trusted.access.clone());
        let (has_access, authors) = self.bring(&brought)?;
        let access = access.map(|access| self.outlines.placed(&access, commit.parents.first().unwrap_or(&commit.id)));
        for change in changes {
            // What it was on the line, and what it becomes, may be more than what its authors saw.
            let of_it = authors.iter().filter(|(_, one)| one == change);
            let lacks = |signer: &str| {
                change.touched.iter().find_map(|one| access.as_ref().and_then(|access| lack(access, signer, one)))
            };
            let lacking = of_it.filter_map(|(signer, _)| Some((signer.clone(), lacks(signer)?))).next();
            if let Some((signer, lacking)) = lacking {
                let why = format!(
                    "{} brings in what `{}` has signed, and {} there.",
                    named(commit),
                    sanitize_line(&signer),
                    lacking.0
                );
                self.refuse(&commit.id, change.clone(), &why);
            }
        }
        if has_access && !self.is_access_refused() {
            self.take_access(&commit.id);
        }
        Ok(())
    }

    /// Judges commits by what they are merged into. Returns true when one that is allowed changes the Access document, and
    /// who has signed which changes that were allowed.
    fn bring(&mut self, brought: &[String]) -> Result<(bool, Vec<(String, Change)>), PrepareError> {
        if let Some(trusted) = &self.trusted {
            let folder = ScratchFolder::make()?;
            let found = self.repo.signatures(brought, &trusted.keys, folder.path())?;
            self.signatures.extend(found);
        }
        let before = (self.trusted.clone(), self.signatures.clone());
        let (mut has_access, mut authors) = (false, Vec::new());
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
            if let Judgement::Allowed { signer: Some(signer) } = &judgement {
                authors.extend(changes.iter().map(|change| (signer.clone(), change.clone())));
            }
            self.settle(&inner, changes, judgement);
            // All of them are judged by the same.
            (self.trusted, self.signatures) = before.clone();
        }
        Ok((has_access, authors))
    }

    fn is_access_refused(&self) -> bool {
        self.refused.keys().any(|change| change.kind == Some(Kind::Access))
    }

    /// Notes what came of a commit.
    fn settle(&mut self, commit: &CommitInfo, changes: Vec<Change>, judgement: Judgement) {
        let has_access = changes.iter().any(|change| change.kind == Some(Kind::Access));
        match judgement {
            Judgement::Allowed { signer } => {
                let trusted = self.trusted.as_ref().map(|trusted| trusted.access.clone());
                let place = commit.parents.first().unwrap_or(&commit.id);
                let access = trusted.map(|access| self.outlines.placed(&access, place));
                let access = access.as_ref();
                let is_administrator =
                    signer.as_ref().is_some_and(|signer| access.is_some_and(|access| access.is_administrator(signer)));
                let vouches = is_administrator && commit.trailer(VOUCH).is_some();
                let restores_access = has_access && self.trusted_at(&commit.id) == self.trusted;
                // What came on another branch nobody has seen who was on this one.
                let saw = |refused: &Refused| {
                    refused.commits.iter().all(|one| self.repo.descends(&commit.id, one) == Some(true))
                };
                let settled: Vec<Change> = match vouches {
                    true => {
                        self.refused.iter().filter(|(_, refused)| saw(refused)).map(|(one, _)| one.clone()).collect()
                    }
                    false => {
                        // Whoever may change it as it was, and as it became, has seen it.
                        let may = |refused: &Refused| {
                            let lacks = |one| {
                                access
                                    .zip(signer.as_deref())
                                    .is_none_or(|(access, signer)| lack(access, signer, one).is_some())
                            };
                            !refused.touched.iter().any(lacks)
                        };
                        let known = changes.iter().filter_map(|change| self.refused.get_key_value(change));
                        // Who may what is not settled in passing: it has to be as it was trusted, or be vouched for.
                        let is_back = |change: &Change| change.kind != Some(Kind::Access) || restores_access;
                        let settled = known.filter(|(one, refused)| is_back(one) && saw(refused) && may(refused));
                        settled.map(|(one, _)| one.clone()).collect()
                    }
                };
                settled.iter().for_each(|change| drop(self.refused.remove(change)));
                if has_access && !self.is_access_refused() || vouches {
                    self.take_access(&commit.id);
                }
            }
            Judgement::Refused(why) => {
                let why = format!("{} is not allowed to change this: {why}.", named(commit));
                for change in changes {
                    self.refuse(&commit.id, change, &why);
                }
            }
        }
    }

    fn refuse(&mut self, commit: &str, change: Change, why: &str) {
        let touched = change.touched.clone();
        let before = || Refused { before: self.before.clone(), ..Refused::default() };
        let refused = self.refused.entry(change).or_insert_with(before);
        refused.why = why.to_string();
        refused.commits.insert(commit.to_string());
        refused.touched.extend(touched);
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

/// Returns the first of some phrases and how many more there are.
fn shortened(phrases: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = phrases.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", phrases[..phrases.len().min(SHOWN)].join("; "))
}
