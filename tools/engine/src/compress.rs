//! Does a plan: streams every tensor from the mapped source to its place in the output.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use niwaki_codes::Scheme;
use niwaki_codes::simd::Level;
use niwaki_container::{Digest, Lineage, META_KEY, Meta, Placement, Slot, TensorMeta};
use niwaki_container::{checkpoint_digest, tensor_digest};
use niwaki_quant::Distortion;
use niwaki_tensors::{Dtype, Entry, Layout, Overwrite, Writer, metadata_len};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::blocks::{BLOCK, Blocks};
use crate::destination::Seats;
use crate::device::Device;
use crate::error::{Blame, Error, ErrorKind};
use crate::job::{ByWidth, Job, Run};
use crate::journal::{Finished, Journal};
use crate::part::{self, Said, Share};
use crate::plan::{Plan, Planned};
use crate::progress::{Progress, counting};
use crate::report::{Damped, Report, TensorReport, Totals};
use crate::source::Source;
use crate::target::Target;
use crate::weigh::{DAMPING, Weighing};
use crate::{masked, queue, sink};

/// What to do with a tensor that is to be encoded and holds NaN or an infinity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NanPolicy {
    /// Refuse, naming the tensor and the weight.
    #[default]
    Refuse,
    /// Carry the tensor as it is.
    Keep,
}

/// How a run goes about its work; none of it changes the bytes written but `nan` and `share`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that encode.
    pub threads: usize,
    /// Bytes of private memory that the encoders' buffers may take together.
    /// What a device reaches of the host's memory, about as much as blocks take, is not among them.
    pub memory: Option<usize>,
    /// Whether an existing output is replaced.
    pub replace: bool,
    /// Whether the output is flushed to the disk before the run ends.
    pub durable: bool,
    /// What to do with weights that no code holds.
    pub nan: NanPolicy,
    /// What encodes beside the processor.
    pub device: Device,
    /// The share of the plan that is done, where other runs do the rest of it.
    pub share: Option<Share>,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads,
            memory: None,
            replace: false,
            durable: false,
            nan: NanPolicy::Refuse,
            device: Device::default(),
            share: None,
        }
    }
}

impl Options {
    pub(crate) fn overwrite(&self) -> Overwrite {
        if self.replace { Overwrite::Replace } else { Overwrite::Refuse }
    }

    pub(crate) fn pool(&self) -> Result<ThreadPool, Error> {
        let pool = ThreadPoolBuilder::new().num_threads(self.threads.max(1)).build();
        pool.map_err(|e| Error::below(e, Blame::Environment))
    }
}

/// Writes the checkpoint as planned, in the format of the destination that the plan was made
/// for.
///
/// `out` is the file to write; where the checkpoint is a folder and `out` does not end in
/// `.safetensors`, it is a folder that gets `model.safetensors` and the source's other files.
/// Formats of other tools are always folders, with a `config.json`; GGUF and ONNX are always files.
/// With a share, it is the folder of the job, which gets this run's part, `plan` being left with
/// what that holds; [`join()`](crate::join()) makes one of all parts.
///
/// `progress` is told the bytes of source done so far, and all there are; any thread may call it.
///
/// # Errors
///
/// Those of reading and writing, weights that no code holds, and a memory cap that not even
/// one thread keeps. The output is then as it was before.
pub fn compress(
    source: &Source<'_>,
    plan: &mut Plan,
    out: &Path,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, Error> {
    plan.check_known()?;
    if plan.stats.is_some() && !matches!(plan.to.seats, Seats::Ours | Seats::Onnx(_)) {
        let what = format!("statistics on the way to {}", plan.to.format().name());
        let error = Error::from(ErrorKind::Unsupported { what });
        return Err(error.hinting("compress to safetensors first; `export` takes the codes over"));
    }
    let pool = options.pool()?;
    if options.nan == NanPolicy::Keep {
        carry_not_finite(source, plan, &pool)?;
    }
    if let Some(share) = options.share {
        let room = metadata_room(source, plan)?;
        part::take(source, plan, share, room)?;
    }
    let options = Options { threads: affordable_threads(plan, options)?, ..options.clone() };
    match &plan.to.seats {
        Seats::Ours => {
            let target = match (plan.signature.is_some(), options.share) {
                (true, _) => Target::file(out),
                (false, Some(share)) => Target::part(source, out, share, &options)?,
                (false, None) => Target::new(source, out, &options)?,
            };
            let outcome = write(source, plan, &target, &options, progress);
            target.close(source, &options, outcome)
        }
        Seats::Gguf(seats) => sink::gguf(source, plan, seats, out, &options, progress),
        Seats::Onnx(seats) => sink::onnx(source, plan, seats, out, &options, progress),
        Seats::Tool(tool) => sink::tool(source, plan, *tool, out, &options, progress),
    }
}

fn write(
    source: &Source<'_>,
    plan: &Plan,
    target: &Target,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, Error> {
    let placement = Placement::new(plan.tensors.iter().map(|t| (t.name.as_str(), t.layout)))?;
    let entry =
        |e: &niwaki_container::Entry| Entry { name: e.name.clone(), dtype: e.dtype, shape: e.shape.dims().to_vec() };
    let room = metadata_room(source, plan)?;
    let layout = Layout::exact(placement.entries().iter().map(entry).collect(), room)?;
    let run = run_digest(source, plan, &layout);
    let known = Journal::read(&target.journal, run);
    let resumed = match known.is_empty() {
        true => None,
        false => Writer::resume(&target.file, layout.clone(), options.overwrite())?,
    };
    let (writer, known) = match resumed {
        Some(writer) => (writer, known),
        None => (Writer::create(&target.file, layout, options.overwrite())?, Vec::new()),
    };
    let journal = Journal::create(&target.journal, run, &known)?;
    let encoded = encode_all(source, plan, &placement, &writer, (&journal, &known), (options, progress));
    let (finished, damped) = match encoded {
        Ok(finished) => finished,
        Err(error) => {
            writer.keep_partial(false);
            journal.remove();
            return Err(error);
        }
    };
    let (meta, tensors) = describe(source, plan, &finished)?;
    let output_bytes = writer.layout().file_bytes();
    writer.finish(&[(META_KEY, &meta.to_json())], options.durable)?;
    journal.remove();
    Ok(Report {
        input_bytes: if plan.part.is_some() { plan.bytes_before() } else { source.opened().file_bytes() },
        output_bytes,
        bits_per_weight: Totals::of(plan).bits_per_weight(),
        tensors,
        digest: Some(meta.digest.to_string()),
        damped,
        resumed: known.iter().filter(|k| finished.get(k.tensor) == Some(k)).count(),
    })
}

fn encode_all(
    source: &Source<'_>,
    plan: &Plan,
    placement: &Placement,
    writer: &Writer,
    (journal, known): (&Journal, &[Finished]),
    (options, progress): (&Options, Progress<'_>),
) -> Result<(Vec<Finished>, Vec<Damped>), Error> {
    let report = counting(progress, plan.bytes_before());
    let (stats, damped) = (plan.stats.as_ref(), Mutex::default());
    let damping = plan.recipe.damping.unwrap_or(DAMPING);
    let (level, device) = (Level::best(), &options.device);
    let run = Run { writer, journal, level, device, stats, damping, damped: &damped, progress: &report };
    let mut jobs = Vec::with_capacity(plan.tensors.len());
    let mut entries = vec![Vec::new(); plan.tensors.len()];
    for (at, entry) in placement.entries().iter().enumerate() {
        if let Slot::Part { tensor, part, .. } = entry.slot {
            entries[tensor].push((part, at));
        }
    }
    let mut earlier = vec![None; plan.tensors.len()];
    for finished in known {
        if let Some(slot) = earlier.get_mut(finished.tensor) {
            *slot = Some(finished.clone());
        }
    }
    for (index, (planned, entries)) in plan.tensors.iter().zip(&entries).enumerate() {
        let tensor = &source.tensors()[planned.index];
        let place = |part| entries.iter().find(|(p, _)| *p == part).map_or(usize::MAX, |(_, at)| *at);
        let parts = planned.layout.parts()?.into_iter().map(|spec| (spec, place(spec.part))).collect();
        jobs.push(Job::new(&run, index, planned, tensor, parts, earlier[index].take()));
    }
    // A masked tensor is one item, so the largest of them begin first and others run beside
    // them; the rest goes in file order, as disks like it.
    jobs.sort_by_key(|job| std::cmp::Reverse(job.planned.selection.as_ref().map(|_| job.planned.bytes_before)));
    queue::run(&jobs, &options.pool()?)?;
    let mut finished: Vec<Finished> = jobs.into_iter().filter_map(Job::into_finished).collect();
    finished.sort_by_key(|f| f.tensor);
    let damped = damped.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter();
    let named = |(at, damping): (usize, f64)| Damped { name: plan.tensors[at].name.clone(), damping };
    Ok((finished, damped.map(named).collect()))
}

/// What tells runs apart: recipe, source, and where everything goes.
fn run_digest(source: &Source<'_>, plan: &Plan, layout: &Layout) -> Digest {
    let mut text = part::decided(source, plan);
    for (bytes, modified) in source.opened().files() {
        text += &format!("{bytes} {modified:?}\n");
    }
    text += &format!("{}\n", layout.file_bytes());
    Digest::of(text.as_bytes())
}

/// The metadata and the report of what was written.
fn describe(from: &Source<'_>, plan: &Plan, finished: &[Finished]) -> Result<(Meta, Vec<TensorReport>), Error> {
    let mut tensors = Vec::with_capacity(plan.tensors.len());
    let mut metas = std::collections::BTreeMap::new();
    let mut sources = Vec::with_capacity(plan.tensors.len());
    for (planned, finished) in plan.tensors.iter().zip(finished) {
        let layout = planned.layout;
        let made = from.tensors()[planned.index].is_made();
        let source: Digest = finished.source.parse()?;
        let source = (!made).then(|| tensor_digest(layout.dtype, layout.shape.dims(), source));
        let mut hashes = Vec::new();
        for (spec, hash) in layout.parts()?.iter().zip(&finished.parts) {
            hashes.push((spec.part, hash.parse::<Digest>()?));
        }
        sources.extend(source.map(|source| (planned.name.as_str(), source)));
        metas.insert(planned.name.clone(), TensorMeta::new(layout, &hashes, source)?);
        let distortion: ByWidth = finished.distortion.iter().map(|(w, bits)| (*w, Distortion::from(*bits))).collect();
        tensors.push(TensorReport::new(planned, &distortion));
    }
    let mut meta = meta(from, plan, metas, &tensors);
    // A part has read its share of the source only: all of them together know the digest of it.
    let whole = plan.part.is_none() && !sources.is_empty();
    meta.lineage.source = whole.then(|| checkpoint_digest(sources));
    Ok((meta, tensors))
}

fn meta(
    source: &Source<'_>,
    plan: &Plan,
    metas: std::collections::BTreeMap<String, TensorMeta>,
    tensors: &[TensorReport],
) -> Meta {
    let mut meta = Meta::new(metas).with_recipe(plan.recipe.to_string());
    // A signature is to be small, and says of itself what matters.
    if plan.signature.is_none() {
        meta.report = Totals::of(plan).embedded(tensors);
    }
    meta.lineage = Lineage { source: None, parents: Vec::new() };
    meta.source_metadata.extend(source.texts());
    meta.signature.clone_from(&plan.signature);
    meta.part = plan.part.as_ref().map(Said::to_value);
    meta
}

/// Bytes of header that the metadata takes at most.
fn metadata_room(source: &Source<'_>, plan: &Plan) -> Result<usize, Error> {
    Ok(metadata_len(&[(META_KEY, &longest_meta(source, plan)?)]))
}

/// The metadata at its longest, to reserve room for the header with.
fn longest_meta(source: &Source<'_>, plan: &Plan) -> Result<String, Error> {
    let any = Digest([0xFF; 32]);
    let mut metas = std::collections::BTreeMap::new();
    for planned in &plan.tensors {
        let parts: Vec<_> = planned.layout.parts()?.iter().map(|spec| (spec.part, any)).collect();
        metas.insert(planned.name.clone(), TensorMeta::new(planned.layout, &parts, Some(any))?);
    }
    let tensors: Vec<_> = plan.tensors.iter().map(TensorReport::widest).collect();
    let mut meta = meta(source, plan, metas, &tensors);
    meta.lineage.source = Some(any);
    Ok(meta.to_json())
}

/// How many threads the memory cap allows.
fn affordable_threads(plan: &Plan, options: &Options) -> Result<usize, Error> {
    let Some(cap) = options.memory else { return Ok(options.threads) };
    let whole = plan.to.lays_out_whole_tensors();
    let Some((needs, name)) = plan.tensors.iter().map(|t| (buffers(t, whole), &t.name)).max() else {
        return Ok(options.threads);
    };
    match cap / needs {
        0 => Err(Error::from(ErrorKind::Memory { needs, cap }).of(name)),
        threads => Ok(threads.min(options.threads)),
    }
}

/// Bytes of buffers that one thread needs for a tensor, of a format that lays out a `whole` one
/// at once or by rows.
fn buffers(t: &Planned, whole: bool) -> usize {
    const HASHING: usize = 1 << 20;
    let (rows, cols) = t.layout.matrix();
    let direct = t.coding.is_none() && matches!(t.layout.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
    let decoded = |elements: usize| if direct { 0 } else { elements * 4 };
    match (&t.selection, t.layout.scheme) {
        (None, None) => HASHING,
        // Packed and single codes, and the words that they become.
        (None, Some(Scheme::Uniform(_))) if whole => HASHING + decoded(t.elements()) + t.elements() * 3,
        // Weights as they came, in single and in double floats, and half as many errors.
        (None, Some(Scheme::Uniform(scheme))) if matches!(t.weighing, Some(Weighing::Down(_))) => {
            HASHING + Blocks::of_columns(rows, cols, &scheme).largest() * 24
        }
        (None, Some(scheme)) => {
            let block = Blocks::new(rows, cols, scheme).largest().min(BLOCK.max(cols));
            HASHING + decoded(block) + block * 2
        }
        // Bits of the mask, two thirds of them for positions, histograms of magnitudes, a run of
        // weights and the kept ones.
        (Some(_), _) => rows * cols.div_ceil(8) / 3 * 5 + (1 << 20) + 5 * 4 * BLOCK.max(cols) + HASHING,
    }
}

/// Carries tensors as they are that hold NaN or an infinity.
fn carry_not_finite(source: &Source<'_>, plan: &mut Plan, pool: &ThreadPool) -> Result<(), Error> {
    let Plan { tensors, to, .. } = plan;
    for planned in tensors {
        let tensor = &source.tensors()[planned.index];
        if planned.layout.is_plain() || planned.taken {
            continue;
        }
        let elements = planned.elements();
        let first = |piece: usize| -> Result<Option<usize>, Error> {
            let (start, end) = (piece * BLOCK, ((piece + 1) * BLOCK).min(elements));
            let mut decoded = Vec::new();
            let weights = masked::floats(tensor, start, end, Level::best(), &mut decoded)?;
            Ok(weights.iter().position(|w| !w.is_finite()).map(|at| start + at))
        };
        let found = pool.install(|| {
            (0..elements.div_ceil(BLOCK)).into_par_iter().map(first).find_map_first(|found| found.transpose())
        });
        if let Some(index) = found.transpose()? {
            planned.keep(tensor, to.plain(planned.index, tensor)?, &format!("weight {index} is NaN or infinite"))?;
        }
    }
    Ok(())
}
