//! `devices`: what there is to compute on, and why other things are not there.

use niwaki_codes::product::Kernel as Products;
use niwaki_codes::simd::Level;
use niwaki_engine::Device;
use serde::Serialize;

use super::threads;
use crate::args::Verb;
use crate::failure::{Failure, Stop};
use crate::session::{Answer, Session};
use crate::table::{Side, Table};

const CUDA_VERBS: &str = "only `compress` and `calibrate` compute on CUDA devices";

#[derive(Serialize)]
struct Devices {
    devices: Vec<Listed>,
    kernels: Vec<Kernel>,
    threads: usize,
}

#[derive(Clone, Serialize)]
struct Listed {
    name: String,
    available: bool,
    /// What the driver calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
    why: Option<String>,
}

#[derive(Serialize)]
struct Kernel {
    name: &'static str,
    available: bool,
    used: bool,
}

/// Kernels that this version has for some processor; the last two multiply packed weights.
const KERNELS: [&str; 6] = ["scalar", "neon", "avx2", "avx512", "avx2-products", "avx512-vnni"];

fn found() -> (Vec<Listed>, Vec<Kernel>) {
    let best = [Level::best().name(), Products::best().name()];
    let here: Vec<_> = Level::all().map(Level::name).chain(Products::all().map(Products::name)).collect();
    let kernel = |name| Kernel { name, available: here.contains(&name), used: best.contains(&name) };
    let cpu = Listed { name: "cpu".to_owned(), available: true, what: None, why: None };
    let cuda = match Device::found() {
        Err(why) => vec![Listed { name: "cuda".to_owned(), available: false, what: None, why: Some(why.to_string()) }],
        Ok(all) => {
            let listed = |(n, what)| Listed { name: format!("cuda:{n}"), available: true, what: Some(what), why: None };
            all.into_iter().enumerate().map(listed).collect()
        }
    };
    let devices = [vec![cpu], cuda].concat();
    (devices, KERNELS.map(kernel).into())
}

/// Lists devices and kernels.
pub(crate) fn run(session: &mut Session<'_>) -> Result<Answer, Stop> {
    let (devices, kernels) = found();
    let threads = threads(session);
    if session.global.json {
        session.json(&Devices { devices, kernels, threads })?;
        return Ok(Answer::Yes);
    }
    let mut table = Table::new(&[("device", Side::Left), ("state", Side::Left)]);
    for d in &devices {
        let state = d.why.clone().or_else(|| d.what.clone());
        let state = state.unwrap_or_else(|| format!("used, {threads} threads"));
        table.row([d.name.to_owned(), state]);
    }
    session.say_all(table.lines())?;
    session.say("")?;
    let mut table = Table::new(&[("kernels", Side::Left), ("state", Side::Left)]);
    for k in &kernels {
        let state = match (k.used, k.available) {
            (true, _) => "used: the fastest of this processor",
            (_, true) => "works here",
            _ => "this processor does not have it",
        };
        table.row([k.name.to_owned(), state.to_owned()]);
    }
    session.say_all(table.lines())?;
    Ok(Answer::Yes)
}

/// What the verb is to compute on: refuses devices that are not there, and those that the verb has no kernels for; says under
/// `-v` what `auto` took and why.
pub(crate) fn choose(verb: &Verb, session: &mut Session<'_>) -> Result<Device, Stop> {
    let text = session.global.device.clone();
    let on_cuda = matches!(verb, Verb::Compress(_) | Verb::Calibrate(_));
    match text.split_once(':').map_or((text.as_str(), None), |(kind, n)| (kind, Some(n))) {
        ("auto", None) => Ok(taken(on_cuda, session)),
        ("cpu", None) => Ok(Device::default()),
        ("cuda", n) if n.is_none_or(|n| n.parse::<u32>().is_ok()) => {
            let device = Device::cuda(n.and_then(|n| n.parse().ok()).unwrap_or(0)).map_err(|why| {
                let failure = Failure::usage(format!("`--device {text}`: {why}"));
                let failure = Failure { kind: "device".to_owned(), blame: "environment".to_owned(), ..failure };
                failure.hinting("`niwaki devices` lists what there is")
            })?;
            if on_cuda || matches!(verb, Verb::Devices) {
                return Ok(device);
            }
            let failure = Failure::unsupported(format!("`--device {text}` with this verb"));
            Err(failure.hinting(format!("{CUDA_VERBS}; without the flag this one takes the cpu")).into())
        }
        _ => Err(Failure::usage(format!("`--device {text}`: expected auto, cpu or cuda[:N]")).into()),
    }
}

/// What `auto` takes: the CPU. A device is taken where it is asked for, for nobody has measured yet when one is faster;
/// a driver is woken only where somebody reads what it says.
fn taken(on_cuda: bool, session: &mut Session<'_>) -> Device {
    if session.global.verbose > 0 {
        let why = match on_cuda.then(|| Device::cuda(0)) {
            None => CUDA_VERBS.to_owned(),
            Some(Ok(device)) => format!("`--device cuda` takes {}", device.name().unwrap_or_default()),
            Some(Err(why)) => why.to_string(),
        };
        session.detail(&format!("device: cpu with {} kernels; {why}", Level::best().name()));
    }
    Device::default()
}
