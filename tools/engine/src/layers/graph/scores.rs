//! Scores of the blocks of a network of images.

use std::collections::BTreeMap;

use niwaki_model::{Executor, Graph, Run, Tape, Tensor, ValueId};
use niwaki_prune::layers::{Alignment, Influence, Maps, Projection};
use rayon::prelude::*;

use super::{Block, Network};
use crate::dataset::{Dataset, shuffled};
use crate::error::{Error, ErrorKind};
use crate::eval::{check_images, kl};
use crate::layers::{By, Criterion, Seen};
use crate::mask::Product;
use crate::progress::Progress;
use crate::train::{Lessons, Sample, Settings, gradients, widen};

/// Images that go through a network together.
const BATCH: usize = 64;

/// Images that gradients are taken of, and that all else is measured on, where nobody says how many.
const GRADIENTS: usize = 128;
const IMAGES: usize = 1024;

/// Components of the projection.
const COMPONENTS: usize = 4;

/// The blocks of a network that are left, and what they are looked at on.
struct View<'v> {
    network: &'v Network,
    kept: &'v [usize],
    /// What is taken instead of what blocks gave that are gone.
    bypasses: BTreeMap<ValueId, ValueId>,
    /// The graph of the blocks that are left.
    graph: Graph,
    data: &'v Dataset,
    /// The images, in the order in which they come.
    items: Vec<usize>,
    batch: usize,
}

/// What one pass makes of some images.
type Watched<'w> = &'w mut (dyn FnMut(ValueId, &Tensor) + 'w);

impl Network {
    /// The scores of the blocks `kept`, in the network that has no others.
    pub(in crate::layers) fn scores(
        &self,
        by: By<'_>,
        kept: &[usize],
        progress: Progress<'_>,
    ) -> Result<(Vec<Option<f64>>, Seen), Error> {
        let sample = by.sample()?;
        let lessons = Lessons::Images(Dataset::open(sample.data)?);
        let Lessons::Images(data) = &lessons else { return Ok((Vec::new(), Seen::default())) };
        let fixed = check_images(&self.model, data)?;
        let most = if by.criterion.of_gradients() { GRADIENTS } else { IMAGES };
        let mut items = shuffled(data.len(), by.seed, 0);
        items.truncate(sample.limit.unwrap_or(most));
        let batch = fixed.unwrap_or(if by.criterion.of_gradients() { GRADIENTS } else { BATCH });
        if fixed.is_some() {
            items.truncate(items.len() / batch * batch);
        }
        if items.is_empty() {
            let what = "no image to look at; expected one or more".to_owned();
            return Err(Error::from(ErrorKind::Usage { what }).at(sample.data));
        }
        let gone: Vec<usize> = (0..self.blocks.len()).filter(|at| !kept.contains(at)).collect();
        let images = items.len();
        let (bypasses, graph) = (self.bypasses(&gone), self.without(&gone));
        let view = View { network: self, kept, bypasses, graph, data, items, batch };
        let scores = match by.criterion {
            Criterion::Grasp | Criterion::Snip | Criterion::SnipMean => view.of_gradients(by, &lessons, progress)?,
            Criterion::HRank | Criterion::ExpectAbs => view.of_maps(by.criterion, progress)?,
            Criterion::Influence => view.influence(progress)?,
            Criterion::Pls => view.projection(progress)?,
            Criterion::Kl => view.divergence(progress)?,
            Criterion::Cka => view.alignment(progress)?,
            Criterion::Random => Vec::new(),
        };
        Ok((scores, Seen { images: images as u64, ..Seen::default() }))
    }

    fn unlike(&self, what: impl Into<String>) -> Error {
        Error::from(ErrorKind::Unlike { what: what.into() }).at(self.model.path())
    }

    fn at(&self, e: niwaki_model::Error) -> Error {
        e.at(self.model.path()).into()
    }
}

impl View<'_> {
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.kept.iter().filter_map(|at| self.network.blocks.get(*at))
    }

    /// What a block takes now: what the last block before it that is left gives, if all between are gone.
    fn input(&self, block: &Block) -> ValueId {
        self.bypasses.get(&block.input).copied().unwrap_or(block.input)
    }

    /// Scores of the blocks that may go.
    fn scores(&self, mut score: impl FnMut(usize, &Block) -> Option<f64>) -> Vec<Option<f64>> {
        let of = |(nth, block): (usize, &Block)| score(nth, block).filter(|_| block.may_go());
        self.blocks().enumerate().map(of).collect()
    }

    /// Ready to run, and all values can be seen.
    fn executor(&self, graph: Graph) -> Result<Executor, Error> {
        let mut graph = graph;
        graph.fold().map_err(|e| self.network.at(e))?;
        Executor::new(graph).map_err(|e| self.network.at(e))
    }

    /// Runs a network on some images; its outputs, and all that it made is shown.
    fn run(&self, executor: &Executor, images: &Tensor, watched: Watched<'_>) -> Result<Vec<f32>, Error> {
        let how = Run { observe: Some(watched), ..Run::default() };
        let made = executor.run(vec![images.clone()], how).map_err(|e| self.network.at(e))?;
        let logits = made.outputs.first().and_then(Tensor::get::<f32>).map(<[f32]>::to_vec);
        logits.ok_or_else(|| self.network.unlike("outputs that are no floats"))
    }

    /// Runs the network of all that are left on all images, batch by batch, and hands on what it made of each value.
    fn each(
        &self,
        progress: Progress<'_>,
        mut of: impl FnMut(&[usize], ValueId, &Tensor) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let executor = self.executor(self.graph.clone())?;
        for (nth, items) in self.items.chunks(self.batch).enumerate() {
            let mut failed = None;
            let mut watched = |value: ValueId, tensor: &Tensor| {
                if failed.is_none() {
                    failed = of(items, value, tensor).err();
                }
            };
            self.run(&executor, &self.data.tensor(items.iter().copied())?, &mut watched)?;
            match failed {
                Some(error) => return Err(error),
                None => progress((nth + 1) as u64, self.items.len().div_ceil(self.batch) as u64),
            }
        }
        Ok(())
    }

    /// Scores of gradients, by the statistics of the batch.
    fn of_gradients(&self, by: By<'_>, lessons: &Lessons, progress: Progress<'_>) -> Result<Vec<Option<f64>>, Error> {
        if !self.data.labelled() {
            let what = "images without labels: there is no loss".to_owned();
            return Err(Error::from(ErrorKind::Usage { what }).at(self.data.path()));
        }
        let model = self.network.model.with(self.graph.clone());
        let settings = Settings { batch: self.batch, seed: by.seed, ..Settings::default() };
        let mut graph = self.graph.clone();
        graph.norms(settings.norms);
        widen(&model, &mut graph, &settings)?;
        let wanted: Vec<ValueId> = self.blocks().flat_map(|block| block.products.iter().copied()).collect();
        let tape = Tape::new(graph, wanted).map_err(|e| self.network.at(e))?;
        let sample = Sample { model: &model, settings: &settings, data: lessons, examples: self.items.len() };
        let found = gradients(&sample, &tape, progress)?;
        let all: Vec<(&Tensor, Vec<f32>)> = tape
            .wanted()
            .iter()
            .zip(found)
            .filter_map(|(value, gradient)| Some((tape.graph().constant(*value)?, gradient)))
            .collect();
        let mut rest = all.as_slice();
        Ok(self.scores(|_, block| {
            let (own, others) = rest.split_at(block.products.len().min(rest.len()));
            rest = others;
            let count: usize = own.iter().map(|(weight, _)| weight.len()).sum();
            let sum = |of: fn(f64, f64) -> f64| -> f64 {
                let each = |(weight, gradient): &(&Tensor, Vec<f32>)| -> f64 {
                    let weight = weight.get::<f32>().unwrap_or_default();
                    gradient.iter().zip(weight).map(|(g, w)| of(f64::from(*g), f64::from(*w))).sum()
                };
                own.iter().map(each).sum()
            };
            Some(match by.criterion {
                Criterion::Grasp => sum(|g, _| g * g),
                Criterion::SnipMean => sum(|g, w| (g * w).abs()) / count.max(1) as f64,
                _ => sum(|g, w| (g * w).abs()),
            })
        }))
    }

    /// Scores of the maps that blocks make.
    fn of_maps(&self, criterion: Criterion, progress: Progress<'_>) -> Result<Vec<Option<f64>>, Error> {
        let mut sums = vec![Maps::default(); self.kept.len()];
        let outputs: Vec<ValueId> = self.blocks().map(|block| block.output).collect();
        self.each(progress, |_, value, tensor| {
            let Some(at) = outputs.iter().position(|output| *output == value) else { return Ok(()) };
            let (&[_, channels, height, width], Some(values)) = (tensor.shape(), tensor.get::<f32>()) else {
                return Err(self.network.unlike(format!("block {}, which makes no maps", self.kept[at])));
            };
            let each = values.par_chunks((channels * height * width).max(1));
            let found: Vec<Maps> = match criterion {
                Criterion::HRank => each.map(|image| Maps::ranks(image, height, width)).collect(),
                _ => each.map(Maps::sizes).collect(),
            };
            found.iter().for_each(|maps| sums[at].add(maps));
            Ok(())
        })?;
        let score = |maps: &Maps| if criterion == Criterion::HRank { maps.rank() } else { maps.mean() };
        Ok(self.scores(|nth, _| score(&sums[nth])))
    }

    /// 1 - the mean cosine of what a block takes and what it gives, over the places of images.
    fn influence(&self, progress: Progress<'_>) -> Result<Vec<Option<f64>>, Error> {
        let mut sums = vec![Influence::default(); self.kept.len()];
        let ends: Vec<(ValueId, ValueId)> = self.blocks().map(|block| (self.input(block), block.output)).collect();
        let counts: Vec<bool> = self.blocks().map(Block::may_go).collect();
        let mut before: Vec<Vec<f32>> = vec![Vec::new(); ends.len()];
        self.each(progress, |_, value, tensor| {
            for (at, (input, output)) in ends.iter().enumerate().filter(|(at, _)| counts[*at]) {
                if *input == value {
                    before[at] = self.places(tensor)?.0;
                } else if *output == value {
                    let (after, width) = self.places(tensor)?;
                    sums[at].add(&before[at], &after, width).map_err(|e| self.network.unlike(e.to_string()))?;
                }
            }
            Ok(())
        })?;
        Ok(self.scores(|nth, _| sums[nth].score()))
    }

    /// The numbers of each place of images, place by place, and how many a place has.
    fn places(&self, tensor: &Tensor) -> Result<(Vec<f32>, usize), Error> {
        let values = tensor.get::<f32>().ok_or_else(|| self.network.unlike("values that are no floats"))?;
        let &[_, channels, height, width] = tensor.shape() else {
            return Ok((values.to_vec(), tensor.shape().last().copied().unwrap_or(1)));
        };
        let size = height * width;
        let image = |image: &[f32]| -> Vec<f32> {
            (0..image.len()).map(|at| image[at % channels * size + at / channels]).collect()
        };
        Ok((values.par_chunks((channels * size).max(1)).flat_map_iter(image).collect(), channels))
    }

    /// The mean importance of the features of each block, means over the places of images, for the classes.
    fn projection(&self, progress: Progress<'_>) -> Result<Vec<Option<f64>>, Error> {
        if !self.data.labelled() {
            let what = "images without labels: features tell no classes".to_owned();
            return Err(Error::from(ErrorKind::Usage { what }).at(self.data.path()));
        }
        let classes = self.items.iter().map(|item| self.data.label(*item)).collect::<Result<Vec<_>, _>>()?;
        let outputs: Vec<ValueId> = self.blocks().map(|block| block.output).collect();
        let mut features: Vec<Vec<f32>> = vec![Vec::new(); outputs.len()];
        self.each(progress, |items, value, tensor| {
            let Some(at) = outputs.iter().position(|output| *output == value) else { return Ok(()) };
            let (places, width) = self.places(tensor)?;
            let image = |places: &[f32]| -> Vec<f32> {
                let mean = |col: usize| places.iter().skip(col).step_by(width).map(|x| f64::from(*x)).sum::<f64>();
                let count = (places.len() / width).max(1) as f64;
                (0..width).map(|col| (mean(col) / count) as f32).collect()
            };
            let each = places.par_chunks((places.len() / items.len()).max(1));
            features[at].extend(each.flat_map_iter(image).collect::<Vec<f32>>());
            Ok(())
        })?;
        let widths: Vec<usize> = features.iter().map(|all| all.len() / self.items.len()).collect();
        let most = classes.iter().max().map_or(0, |class| class + 1);
        let mut seen = Projection::new(widths.iter().sum(), most);
        for (nth, class) in classes.iter().enumerate() {
            let own = features.iter().zip(&widths).flat_map(|(all, width)| &all[nth * width..(nth + 1) * width]);
            let own: Vec<f32> = own.copied().collect();
            seen.add(&own, *class).map_err(|e| self.network.unlike(e.to_string()))?;
        }
        let importance = seen.importance(COMPONENTS);
        let mut rest = importance.as_slice();
        Ok(self.scores(|nth, _| {
            let width = widths[nth];
            let (own, others) = rest.split_at(width.min(rest.len()));
            rest = others;
            Some(own.iter().sum::<f64>() / width.max(1) as f64)
        }))
    }

    /// Runs the network, and for each block that may go the network without it. `of` is told the block's place, the images of
    /// a batch, and what both make: the value to `see`, else the outputs.
    fn without_each(
        &self,
        progress: Progress<'_>,
        see: Option<ValueId>,
        mut of: impl FnMut(usize, usize, [&[f32]; 2]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let whole = self.executor(self.graph.clone())?;
        let mut others = Vec::new();
        for (nth, block) in self.blocks().enumerate().filter(|(_, block)| block.may_go()) {
            let mut graph = self.graph.clone();
            graph.bypass(block.output, self.input(block));
            others.push((nth, self.executor(graph)?));
        }
        let batches = self.items.len().div_ceil(self.batch);
        let passes = (batches * (others.len() + 1)) as u64;
        let mut done = 0;
        let features = |executor: &Executor, images: &Tensor| -> Result<Vec<f32>, Error> {
            let mut seen = Vec::new();
            let mut watched = |value: ValueId, tensor: &Tensor| {
                if Some(value) == see {
                    seen = tensor.get::<f32>().map(<[f32]>::to_vec).unwrap_or_default();
                }
            };
            let logits = self.run(executor, images, &mut watched)?;
            Ok(if see.is_some() { seen } else { logits })
        };
        for items in self.items.chunks(self.batch) {
            let images = self.data.tensor(items.iter().copied())?;
            let expected = features(&whole, &images)?;
            done += 1;
            for (nth, executor) in &others {
                of(*nth, items.len(), [&expected, &features(executor, &images)?])?;
                done += 1;
                progress(done, passes);
            }
        }
        Ok(())
    }

    /// The mean of KL(q || p) over images, p the probabilities of the classes by the network, q those without a block.
    fn divergence(&self, progress: Progress<'_>) -> Result<Vec<Option<f64>>, Error> {
        let mut sums = vec![0.0; self.kept.len()];
        let images = self.items.len() as f64;
        self.without_each(progress, None, |nth, count, [expected, found]| {
            let row = (expected.len() / count).max(1);
            let each: Vec<f64> = expected.par_chunks(row).zip(found.par_chunks(row)).map(|(p, q)| kl(q, p)).collect();
            sums[nth] += each.into_iter().sum::<f64>();
            Ok(())
        })?;
        Ok(self.scores(|nth, _| Some(sums[nth] / images)))
    }

    /// 1 - the alignment of the inputs of the last layer with and without a block.
    fn alignment(&self, progress: Progress<'_>) -> Result<Vec<Option<f64>>, Error> {
        let mut sorted = self.graph.clone();
        sorted.sort().map_err(|e| self.network.at(e))?;
        let last = sorted.nodes().iter().filter_map(Product::of).next_back();
        let last = last.ok_or_else(|| self.network.unlike("a network without a layer that tells classes"))?;
        let width = sorted.constant(last.weight).map_or(0, |weight| match (last.turned, weight.shape()) {
            (true, [inputs, ..]) | (false, [_, inputs, ..]) => *inputs,
            _ => 0,
        });
        let mut sums = vec![Alignment::new([width, width]); self.kept.len()];
        self.without_each(progress, Some(last.input), |nth, _, [expected, found]| {
            sums[nth].add(expected, found).map_err(|e| self.network.unlike(e.to_string()))
        })?;
        // Features that do not change are like no others.
        Ok(self.scores(|nth, _| Some(1.0 - sums[nth].score().unwrap_or(0.0))))
    }
}
