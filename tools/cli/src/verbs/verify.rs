//! `verify`: every invariant and digest of our files, every rule of the formats of others.

use niwaki_container::{Artifact, Fault, Kind, verify};
use niwaki_engine::source::Origin;
use niwaki_engine::{Names, Opened, not_finite};
use niwaki_gguf::Gguf;
use serde::Serialize;

use super::{counted, open, threads};
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
    let opened = open(&args.file)?;
    let (faults, found) = match &opened {
        Opened::Gguf(gguf) => gguf_faults(gguf),
        // Opening has read every initializer; there is no more to know without running it.
        Opened::Onnx(onnx) => {
            let opset = onnx.model().opset("").map(|opset| format!("opset {opset}"));
            (Vec::new(), [counted(onnx.len())].into_iter().chain(opset).collect())
        }
        Opened::Tensors(artifact) if artifact.kind() == Kind::Container => {
            let digest = artifact.digest().map(|d| d.to_string()).unwrap_or_default();
            let faults = verify(artifact, threads(session)).faults;
            let faults = faults.into_iter().map(|f| json(f, artifact)).collect();
            (faults, vec![counted(artifact.tensors().len()), format!("digest {digest}")])
        }
        Opened::Tensors(_) => foreign_faults(&opened, threads(session))?,
    };
    let ok = faults.is_empty();
    if session.global.json {
        session.json(&Json { ok, faults })?;
    } else if ok {
        let mut found = found.into_iter();
        session.say(format!("no faults in {}", found.next().unwrap_or_default()))?;
        session.say_all(found)?;
    } else {
        session.say_all(faults.iter().map(|fault| format!("fault: {}", fault.message)))?;
    }
    Ok(if ok { Answer::Yes } else { Answer::No })
}

/// Every rule of GGUF, and every scale of the blocks.
fn gguf_faults(gguf: &Gguf) -> (Vec<JsonFault>, Vec<String>) {
    let path = Some(gguf.path().display().to_string());
    let fault = |f: niwaki_gguf::Fault| JsonFault {
        message: f.to_string(),
        path: path.clone(),
        tensor: f.tensor().map(str::to_owned),
        part: None,
    };
    let architecture = gguf.metadata().text("general.architecture").unwrap_or("none").to_owned();
    let found = vec![counted(gguf.len()), format!("architecture {architecture}")];
    (gguf.verify().into_iter().map(fault).collect(), found)
}

/// Every rule of the layout of another tool, and that every weight decodes to a finite number.
fn foreign_faults(opened: &Opened, threads: usize) -> Result<(Vec<JsonFault>, Vec<String>), Stop> {
    let path = opened.path().display().to_string();
    let faulty = |message: String, tensor: Option<&str>| JsonFault {
        message,
        path: Some(path.clone()),
        tensor: tensor.map(str::to_owned),
        part: None,
    };
    let source = match opened.source(None, Names::Own) {
        Ok(source) => source,
        Err(error) => return Ok((vec![faulty(error.to_string(), error.tensor())], Vec::new())),
    };
    let Origin::Foreign(family) = source.origin() else {
        let failure = Failure::usage(format!("`{path}`: is no niwaki container, so it has no digests"));
        let (kind, blame) = ("not_ours".to_owned(), "input".to_owned());
        return Err(Failure { kind, blame, path: Some(path), ..failure }
            .hinting("`niwaki compare` measures it against another file")
            .into());
    };
    let mut faults = Vec::new();
    for (name, index) in not_finite(&source, threads)? {
        faults.push(faulty(format!("tensor `{name}`: weight {index} decodes to NaN or an infinity"), Some(&name)));
    }
    Ok((faults, vec![counted(source.tensors().len()), format!("layout {family}")]))
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
