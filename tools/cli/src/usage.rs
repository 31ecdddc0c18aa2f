//! What was typed and is not a command, in one line and a hint.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::failure::Failure;

/// The failure that clap's error amounts to.
pub(crate) fn failure(error: &Error) -> Failure {
    let invalid = |kind| error.get(kind).map(text).unwrap_or_default();
    let argument = flag(&invalid(ContextKind::InvalidArg));
    let value = invalid(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let verb = invalid(ContextKind::InvalidSubcommand);
            let failure = Failure::usage(format!("no verb `{verb}`"));
            suggest(failure, error, ContextKind::SuggestedSubcommand, "`niwaki --help` lists the verbs")
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let failure = Failure::usage(format!("no flag `{argument}`"));
            suggest(failure, error, ContextKind::SuggestedArg, "`--help` after the verb lists its flags")
        }
        ErrorKind::UnknownArgument => Failure::usage(format!("`{argument}` is one argument too many"))
            .hinting("`--help` shows what the verb takes"),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let verbs = verbs_before(error);
            Failure::usage(format!("`{verbs}` needs a verb")).hinting(format!("`{verbs} --help` lists them"))
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = invalid(ContextKind::InvalidArg).replace('\n', ", ");
            Failure::usage(format!("missing {}", quoted(&missing))).hinting("`--help` shows what the verb takes")
        }
        ErrorKind::InvalidValue if value.is_empty() => Failure::usage(format!("`{argument}` needs a value")),
        ErrorKind::InvalidValue => {
            let valid = invalid(ContextKind::ValidValue);
            Failure::usage(format!("`{argument} {value}`: expected one of {}", valid.replace('\n', ", ")))
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            Failure::usage(format!("`{argument} {value}`: {why}"))
        }
        ErrorKind::ArgumentConflict if invalid(ContextKind::PriorArg) == invalid(ContextKind::InvalidArg) => {
            Failure::usage(format!("`{argument}` stands there twice"))
        }
        _ => Failure::usage(first_line(error)),
    }
}

fn suggest(failure: Failure, error: &Error, kind: ContextKind, otherwise: &str) -> Failure {
    // Clap lists its suggestions with the likeliest last.
    match error.get(kind).map(text).unwrap_or_default().split('\n').next_back() {
        Some(near) if !near.is_empty() => failure.hinting(format!("did you mean `{near}`?")),
        _ => failure.hinting(otherwise),
    }
}

/// Program and verbs of the line of usage that clap prints: `niwaki mask` of `Usage: niwaki mask [OPTIONS] <COMMAND>`.
fn verbs_before(error: &Error) -> String {
    let text = error.to_string();
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or("niwaki");
    let words = usage.split(' ').take_while(|word| !word.starts_with(['[', '<']));
    words.collect::<Vec<_>>().join(" ")
}

/// Values one a line.
fn text(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(all) => all.join("\n"),
        other => other.to_string(),
    }
}

/// `--threads <N>` is the flag `--threads`, `<SHELL>` the argument `SHELL`.
fn flag(usage: &str) -> String {
    usage.split(' ').next().unwrap_or_default().replace(['<', '>'], "")
}

/// Each name in backticks, without clap's angle brackets around values.
fn quoted(list: &str) -> String {
    let names = list.split(", ").map(|name| format!("`{}`", name.replace(['<', '>'], "")));
    names.collect::<Vec<_>>().join(", ")
}

/// Clap's own words, where we have none.
fn first_line(error: &Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).replace('\'', "`")
}
