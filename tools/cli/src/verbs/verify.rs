//! `verify`: every invariant and digest of a file that niwaki wrote.

use niwaki_container::{Artifact, Fault, Kind, verify};
use niwaki_tensors::Limits;
use serde::Serialize;

use super::threads;
use crate::args::Verify;
use crate::failure::{Failure, Stop};
use crate::session::{Answer, Session};

#[derive(Serialize)]
struct Json {
    ok: bool,
    faults: Vec<JsonFault>,
}

#[derive(Serialize)]
struct JsonFault {
    message: String,
    path: Option<String>,
    tensor: Option<String>,
    part: Option<String>,
}

/// Checks a file; the answer is no if a fault was found.
pub(crate) fn run(args: &Verify, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let artifact = Artifact::open(&args.file, &Limits::default())?;
    if artifact.kind() == Kind::Plain {
        let failure =
            Failure::usage(format!("`{}`: is no niwaki container, so it has no digests", args.file.display()));
        let (kind, blame) = ("not_ours".to_owned(), "input".to_owned());
        let path = Some(args.file.display().to_string());
        return Err(Failure { kind, blame, path, ..failure }
            .hinting("`niwaki compare` measures it against another file")
            .into());
    }
    let faults = verify(&artifact, threads(session)).faults;
    let ok = faults.is_empty();
    if session.global.json {
        session.json(&Json { ok, faults: faults.into_iter().map(|f| json(f, &artifact)).collect() })?;
    } else if ok {
        let digest = artifact.digest().map(|d| d.to_string()).unwrap_or_default();
        session.say(format!("no faults in {} tensors", artifact.tensors().len()))?;
        session.say(format!("digest {digest}"))?;
    } else {
        session.say_all(faults.iter().map(|fault| format!("fault: {fault}")))?;
    }
    Ok(if ok { Answer::Yes } else { Answer::No })
}

fn json(fault: Fault, artifact: &Artifact) -> JsonFault {
    let shard = artifact.checkpoint().shards().get(fault.shard);
    JsonFault {
        message: fault.to_string(),
        path: shard.map(|s| s.path().display().to_string()),
        tensor: fault.tensor,
        part: fault.part,
    }
}
