//! Widths of all layers of a network.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::{Bits, Symmetry, Widths};

use super::{Form, Granularity, Side, Style};
use crate::draws::Draws;
use crate::error::exactly;
use crate::{Error, ErrorKind};

/// What configurations are drawn for, and forms of single layers.
const CONFIGURATION: u64 = 0x636f_6e66;
const FORMS: u64 = 0x666f_726d;

/// What the layers together may have of weights, or of inputs: products with widths stay exact in doubles.
const MOST: u64 = 1 << 48;

/// What of a layer takes space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSize {
    /// Weights.
    pub weights: u64,
    /// Elements of its input, of one example.
    pub inputs: u64,
    /// Whether it stays at 8 bits: the first and the last layer (EQ-Net's released code).
    pub fixed: bool,
}

impl LayerSize {
    /// The numbers of one side.
    pub fn of(&self, side: Side) -> u64 {
        match side {
            Side::Weights => self.weights,
            Side::Activations => self.inputs,
        }
    }
}

/// The widths of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerBits {
    /// Of its weights.
    pub weights: Bits,
    /// Of its input.
    pub activations: Bits,
}

impl LayerBits {
    /// 8 bits each.
    pub const WIDEST: Self = Self { weights: Bits::MAX, activations: Bits::MAX };

    /// The width of one side.
    pub fn of(self, side: Side) -> Bits {
        match side {
            Side::Weights => self.weights,
            Side::Activations => self.activations,
        }
    }
}

/// A form of a whole network: one style, and widths by layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// Steps and offsets of all layers.
    pub style: Style,
    /// Widths of each layer, those that are fixed included.
    pub layers: Vec<LayerBits>,
}

impl Configuration {
    /// The form of each layer.
    pub fn forms(&self) -> impl ExactSizeIterator<Item = Form> {
        let style = self.style;
        self.layers.iter().map(move |bits| Form { weights: bits.weights, activations: Some(bits.activations), style })
    }
}

/// Which widths the layers of a training step get: the sandwich of three (EQ-Net).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The widest everywhere.
    Widest,
    /// Any, for each layer and side by itself.
    Drawn,
    /// The narrowest everywhere.
    Narrowest,
}

/// The layers of a network and the widths that they may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    layers: Vec<LayerSize>,
    widths: Widths,
}

impl Space {
    /// Layers in the order in which they run, and the widths of those that are not fixed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::EmptyLayer`], [`ErrorKind::NoFreeLayer`], and [`ErrorKind::SpaceSize`] for 2^48 weights or inputs in
    /// all, or more.
    pub fn new(layers: Vec<LayerSize>, widths: Widths) -> Result<Self, Error> {
        if let Some(layer) = layers.iter().position(|layer| layer.weights == 0 || layer.inputs == 0) {
            return Err(ErrorKind::EmptyLayer { layer }.into());
        }
        if layers.iter().all(|layer| layer.fixed) {
            return Err(ErrorKind::NoFreeLayer.into());
        }
        for side in Side::ALL {
            let sum = layers.iter().try_fold(0u64, |sum, layer| sum.checked_add(layer.of(side)));
            sum.filter(|sum| *sum < MOST).ok_or(ErrorKind::SpaceSize)?;
        }
        Ok(Self { layers, widths })
    }

    /// The layers.
    pub fn layers(&self) -> &[LayerSize] {
        &self.layers
    }

    /// The widths that layers may take.
    pub fn widths(&self) -> Widths {
        self.widths
    }

    /// The layers that are not fixed.
    pub(crate) fn free(&self) -> impl Iterator<Item = &LayerSize> {
        self.layers.iter().filter(|layer| !layer.fixed)
    }

    /// The widths as a list, narrowest first.
    pub(crate) fn ladder(&self) -> Vec<Bits> {
        self.widths.iter().collect()
    }

    /// A configuration of which `bits` says the widths of the layers that are not fixed, in their order.
    pub(crate) fn filled(&self, style: Style, bits: impl IntoIterator<Item = LayerBits>) -> Configuration {
        let mut bits = bits.into_iter();
        let mut of = |layer: &LayerSize| if layer.fixed { None } else { bits.next() }.unwrap_or(LayerBits::WIDEST);
        Configuration { style, layers: self.layers.iter().map(&mut of).collect() }
    }

    /// The same widths in every layer that is not fixed.
    pub fn uniform(&self, style: Style, bits: LayerBits) -> Configuration {
        self.filled(style, core::iter::repeat(bits))
    }

    /// Widths drawn evenly for each layer and side by itself. `item` counts the draws of one seed; none hangs on others.
    pub fn random(&self, style: Style, seed: u64, item: u64) -> Configuration {
        let mut draws = Draws::new(seed, CONFIGURATION, item);
        let ladder = self.ladder();
        let any = core::iter::repeat_with(|| drawn_bits(&mut draws, &ladder));
        self.filled(style, any)
    }

    /// The forms of one of the three passes of a training step: for each layer a style by itself, drawn evenly, and
    /// widths as `pick` has it; layers that are fixed have 8 bits.
    pub fn forms(&self, pick: Pick, seed: u64, step: u64) -> Vec<Form> {
        let mut draws = Draws::new(seed, FORMS ^ (pick as u64) << 32, step);
        let ladder = match pick {
            Pick::Widest => vec![self.widths.widest()],
            Pick::Drawn => self.ladder(),
            Pick::Narrowest => vec![self.widths.narrowest()],
        };
        let mut form = |layer: &LayerSize| {
            let style = drawn_style(&mut draws);
            let LayerBits { weights, activations } =
                if layer.fixed { LayerBits::WIDEST } else { drawn_bits(&mut draws, &ladder) };
            Form { weights, activations: Some(activations), style }
        };
        self.layers.iter().map(&mut form).collect()
    }

    /// The average width of one side, in bits: `Σ b·n / Σ n` over the layers that are not fixed, where n are weights or
    /// elements of the input.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Length`] for a configuration of another number of layers.
    pub fn average(&self, side: Side, configuration: &Configuration) -> Result<f64, Error> {
        let (bits, count) = self.sums(side, configuration, |layer| !layer.fixed)?;
        Ok(bits as f64 / count as f64)
    }

    /// How many times smaller than in F32 one side is: `32 Σ n / Σ b·n` over all layers. Codes alone are counted, not
    /// steps and offsets.
    ///
    /// # Errors
    ///
    /// As [`average`](Self::average).
    pub fn ratio(&self, side: Side, configuration: &Configuration) -> Result<f64, Error> {
        let (bits, count) = self.sums(side, configuration, |_| true)?;
        Ok(32.0 * count as f64 / bits as f64)
    }

    /// `Σ b·n` and `Σ n` over some layers.
    fn sums(
        &self,
        side: Side,
        configuration: &Configuration,
        counts: impl Fn(&LayerSize) -> bool,
    ) -> Result<(u64, u64), Error> {
        self.matches(configuration)?;
        let all = self.layers.iter().zip(&configuration.layers).filter(|(layer, _)| counts(layer));
        Ok(all.fold((0, 0), |(bits, count), (layer, has)| {
            let n = layer.of(side);
            (bits + n * u64::from(has.of(side).get()), count + n)
        }))
    }

    /// Refuses a configuration of another number of layers.
    pub(crate) fn matches(&self, configuration: &Configuration) -> Result<(), Error> {
        exactly("layers of a configuration", self.layers.len(), configuration.layers.len())
    }
}

fn drawn(draws: &mut Draws, ladder: &[Bits]) -> Bits {
    ladder.get(draws.below(ladder.len())).copied().unwrap_or(Bits::MAX)
}

fn drawn_bits(draws: &mut Draws, ladder: &[Bits]) -> LayerBits {
    LayerBits { weights: drawn(draws, ladder), activations: drawn(draws, ladder) }
}

fn drawn_style(draws: &mut Draws) -> Style {
    let mut symmetry = || if draws.coin() { Symmetry::Affine } else { Symmetry::Symmetric };
    let (weights, activations) = (symmetry(), symmetry());
    let granularity = if draws.coin() { Granularity::Row } else { Granularity::Tensor };
    Style { granularity, weights, activations }
}
