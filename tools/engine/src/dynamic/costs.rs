//! What masks save: multiplications of the sites and of all else, for one image.

use niwaki_prune::dynamic::{Layer, active};
use serde::Serialize;

use super::sites::{Site, of_image};
use crate::dataset::Dataset;
use crate::error::{Blame, Error};
use crate::model::Model;

/// Multiplications of one image, the mean over some.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Macs {
    /// Those of the model without masks, all layers.
    pub dense: u64,
    /// Those of the heads.
    pub heads: u64,
    /// Those that masks leave, with those of the heads.
    pub active: f64,
    /// Their share of those of the model.
    pub share: f64,
    /// Those of the convolutions that are gated, without masks.
    pub paper_dense: u64,
    /// The share of these that masks leave as the paper's code counts it: each convolution by the mask of the one before it,
    /// without heads.
    pub paper_share: f64,
}

/// The sizes of a model's layers, by what they multiply for one image.
#[derive(Clone, Debug)]
pub(super) struct Costs {
    layers: Vec<Layer>,
    /// For each site whose masks say what its input has, and whose mask the paper charges it for.
    inputs: Vec<(Option<Vec<usize>>, Option<usize>)>,
    dense: u64,
}

/// Sums over images.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    images: u64,
    honest: u64,
    papers: u64,
}

impl Costs {
    /// Those of a model that takes images as a dataset has them.
    ///
    /// # Errors
    ///
    /// Those of running the model on the first one.
    pub(super) fn of(model: &Model, sites: &[Site], data: &Dataset) -> Result<Self, Error> {
        let (shapes, dense) = of_image(model, sites, data.tensor(0..1)?)?;
        let layer = |(site, shape): (&Site, &Vec<usize>)| Layer {
            places: shape.iter().skip(2).map(|places| *places as u64).product(),
            taps: site.taps,
            inputs: site.inputs,
            outputs: site.outputs,
            groups: site.groups,
        };
        let layers = sites.iter().zip(&shapes).map(layer).collect();
        let inputs = sites.iter().map(|site| (site.sources.clone(), site.before)).collect();
        Ok(Self { layers, inputs, dense })
    }

    /// Multiplications of the sites, without masks.
    fn of_sites(&self) -> u64 {
        self.layers.iter().map(Layer::dense).sum()
    }

    /// Multiplications of all heads.
    fn heads(&self) -> u64 {
        self.layers.iter().map(Layer::head).sum()
    }

    /// Adds an image whose sites have these masks.
    ///
    /// # Errors
    ///
    /// Masks of other numbers of channels.
    pub(super) fn add(&self, marks: &[&[bool]], sums: &mut Sums) -> Result<(), Error> {
        let below = |e| Error::below(e, Blame::Caller);
        for (layer, ((sources, before), outputs)) in self.layers.iter().zip(self.inputs.iter().zip(marks)) {
            let mut inputs = vec![sources.is_none(); layer.inputs];
            for marks in sources.iter().flatten().filter_map(|site| marks.get(*site)) {
                inputs.iter_mut().zip(*marks).for_each(|(input, mark)| *input |= *mark);
            }
            sums.honest += layer.honest(&inputs, outputs).map_err(below)?;
            let before = before.and_then(|site| marks.get(site)).map_or(layer.inputs, |marks| active(marks));
            sums.papers += layer.papers(before, active(outputs));
        }
        sums.images += 1;
        Ok(())
    }

    /// The mean over images.
    pub(super) fn mean(&self, sums: Sums) -> Macs {
        let (images, of_sites, heads) = (sums.images.max(1) as f64, self.of_sites(), self.heads());
        let rest = self.dense.saturating_sub(of_sites);
        let active = sums.honest as f64 / images + (heads + rest) as f64;
        Macs {
            dense: self.dense,
            heads,
            active,
            share: active / self.dense.max(1) as f64,
            paper_dense: of_sites,
            paper_share: sums.papers as f64 / images / of_sites.max(1) as f64,
        }
    }
}
