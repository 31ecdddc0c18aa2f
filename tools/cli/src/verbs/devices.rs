//! `devices`: what there is to compute on, and why other things are not there.

use niwaki_codes::simd::Level;
use serde::Serialize;

use super::threads;
use crate::failure::{Failure, Stop};
use crate::session::{Answer, Session};
use crate::table::{Side, Table};

const NO_CUDA: &str = "this version has no CUDA kernels";

#[derive(Serialize)]
struct Devices {
    devices: Vec<Device>,
    kernels: Vec<Kernel>,
    threads: usize,
}

#[derive(Serialize)]
struct Device {
    name: &'static str,
    available: bool,
    why: Option<String>,
}

#[derive(Serialize)]
struct Kernel {
    name: &'static str,
    available: bool,
    used: bool,
}

/// Kernels that this version has for some processor.
const KERNELS: [&str; 4] = ["scalar", "neon", "avx2", "avx512"];

fn found() -> (Vec<Device>, Vec<Kernel>) {
    let best = Level::best().name();
    let here: Vec<_> = Level::all().map(Level::name).collect();
    let kernel = |name| Kernel { name, available: here.contains(&name), used: name == best };
    let devices = vec![
        Device { name: "cpu", available: true, why: None },
        Device { name: "cuda", available: false, why: Some(NO_CUDA.to_owned()) },
    ];
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
        let state = d.why.clone().unwrap_or_else(|| format!("used, {threads} threads"));
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

/// Refuses devices that are not there; says under `-v` which one `auto` took.
pub(crate) fn check(session: &mut Session<'_>) -> Result<(), Stop> {
    let device = session.global.device.clone();
    match device.split_once(':').map_or((device.as_str(), None), |(kind, n)| (kind, Some(n))) {
        ("auto", None) => {
            session.detail(&format!("device: cpu with {} kernels; {NO_CUDA}", Level::best().name()));
            Ok(())
        }
        ("cpu", None) => Ok(()),
        ("cuda", n) if n.is_none_or(|n| n.parse::<u32>().is_ok()) => {
            let failure = Failure::unsupported(format!("`--device {device}`"));
            Err(Failure { blame: "environment".to_owned(), ..failure }
                .hinting("`niwaki devices` lists what there is")
                .into())
        }
        _ => Err(Failure::usage(format!("`--device {device}`: expected auto, cpu or cuda[:N]")).into()),
    }
}
