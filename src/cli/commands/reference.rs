//! What is in the binary to look up: codes, schemas, completions.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::{CommandResult, Output};
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::cli::output::stdout_width;
use crate::cli::shells;
use crate::cli::view::{reflowed, wrapped};
use crate::diag::{CODES, CodeInfo, nearest};
use crate::manifest::schema_text;
use crate::model::kind::Kind;
use crate::ops::schema::write;

/// The words of the glossary and what they mean.
pub fn glossary() -> impl Iterator<Item = (&'static str, &'static str)> {
    let entries = include_str!("../../../docs/glossary.md").split("\n## ").skip(1);
    entries.filter_map(|entry| entry.split_once('\n')).map(|(word, text)| (word.trim(), text.trim()))
}

/// `explain [CODE|WORD]`
pub fn explain(what: Option<&str>, output: &Output) -> CommandResult {
    let codes = CODES.iter().filter(|info| what.is_none_or(|wanted| info.code.0.eq_ignore_ascii_case(wanted)));
    let codes: Vec<&CodeInfo> = codes.collect();
    // `take over` is `take-over`, and `desired` one of two words.
    let plain = |word: &str| word.to_lowercase().replace('-', " ");
    let is_wanted = |word: &str, wanted: &str| {
        let is_it = |one: &str| plain(one) == plain(wanted) || plain(one).split(' ').any(|part| part == plain(wanted));
        word.split(", ").any(is_it)
    };
    let words: Vec<(&str, &str)> =
        glossary().filter(|(word, _)| what.is_none_or(|wanted| is_wanted(word, wanted))).collect();
    if let Some(wanted) = what.filter(|_| codes.is_empty() && words.is_empty()) {
        return Err(unknown(
            "code or word",
            wanted,
            CODES.iter().map(|info| info.code.0).chain(glossary().map(|(word, _)| word)),
        ));
    }
    if output.is_json {
        for info in codes {
            output
                .json_line(&json!({"code": info.code.0, "severity": info.severity.as_str(), "summary": info.summary,
                "explanation": info.explanation.trim()}))?;
        }
        for (word, meaning) in words {
            output.json_line(&json!({"word": word, "explanation": meaning}))?;
        }
        return Ok(exit::OK);
    }
    let mut text = String::new();
    let fitted = |prose: &str| reflowed(prose, stdout_width());
    for info in codes {
        let (code, severity, summary) = (info.code.0, info.severity.as_str(), info.summary);
        match what {
            Some(_) => writeln!(text, "{code} ({severity}): {summary}\n\n{}", fitted(info.explanation.trim())),
            None => writeln!(text, "{}", wrapped(&format!("{code}  {severity:<7}  {summary}"), 16, stdout_width())),
        }
        .expect("writing to a String cannot fail");
    }
    for (word, meaning) in words {
        match what {
            Some(_) => writeln!(text, "{word}\n\n{}", fitted(meaning)),
            None => writeln!(text, "{word}"),
        }
        .expect("writing to a String cannot fail");
    }
    output.result(&text)?;
    Ok(exit::OK)
}

/// `schema [KIND] [--out DIR]`
pub fn schema(kind: Option<&str>, out: Option<&Path>, output: &Output) -> CommandResult {
    let known = |wanted: &str| {
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(wanted));
        kind.ok_or_else(|| unknown("kind", wanted, Kind::ALL.iter().map(|kind| kind.as_str())))
    };
    if let Some(folder) = out {
        let path = write(folder, kind.map(known).transpose()?)?;
        if output.is_json {
            output.json_line(&json!({"file": path.display().to_string()}))?;
        } else {
            output.say(&format!("Wrote {}.", path.display()));
        }
        return Ok(exit::OK);
    }
    let Some(wanted) = kind else {
        let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        output.result(&format!("{}\n", kinds.join("\n")))?;
        return Ok(exit::OK);
    };
    output.result(&schema_text(known(wanted)?))?;
    Ok(exit::OK)
}

/// `completions SHELL`
pub fn completions(shell: clap_complete::Shell, output: &Output) -> CommandResult {
    let shell = shell.to_string();
    let script = shells::script(&shell).ok_or_else(|| unknown("shell", &shell, ["bash", "fish", "zsh"]))?;
    output.result(&script)?;
    Ok(exit::OK)
}

fn unknown<'a>(what: &str, wanted: &str, known: impl IntoIterator<Item = &'a str>) -> CommandError {
    let help = match nearest(wanted, known) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "`fleetform explain` without a word shows all.".to_string(),
    };
    let wanted = crate::model::text::sanitize_line(wanted);
    CommandError::Usage { what: format!("there is no {what} `{wanted}`"), help }
}
