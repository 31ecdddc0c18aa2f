//! `completions` and `man`: what is generated from the arguments themselves.

use clap_complete::Shell;
use clap_mangen::Man;
use serde::Serialize;

use crate::examples;
use crate::failure::{Failure, Stop};
use crate::session::{Answer, Session};

#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

/// Prints the completion script of a shell.
pub(crate) fn completions(shell: Shell, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut examples::command(), "niwaki", &mut script);
    if session.global.json {
        let script = String::from_utf8_lossy(&script).into_owned();
        session.json(&Script { shell: shell.to_string(), script })?;
    } else {
        session.write(&script)?;
    }
    Ok(Answer::Yes)
}

#[derive(Serialize)]
struct Page {
    page: String,
}

/// Prints the manual page of the program or of one verb, which may be one under another.
pub(crate) fn man(verbs: &[String], session: &mut Session<'_>) -> Result<Answer, Stop> {
    let mut command = examples::command();
    command.build();
    for verb in verbs {
        let found = command.find_subcommand(verb).cloned();
        command = found.ok_or_else(|| {
            let names = command.get_subcommands().map(clap::Command::get_name);
            let failure = Failure::usage(format!("no verb `{}`", verbs.join(" ")));
            match niwaki_engine::recipe::nearest(verb, names) {
                Some(near) => failure.hinting(format!("did you mean `{near}`?")),
                None => failure.hinting("`niwaki --help` lists the verbs"),
            }
        })?;
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    if session.global.json {
        session.json(&Page { page: String::from_utf8_lossy(&page).into_owned() })?;
    } else {
        session.write(&page)?;
    }
    Ok(Answer::Yes)
}
