use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::{Bits, Symmetry, Widths};

use super::*;

fn bits(bits: u32) -> Bits {
    Bits::new(bits).unwrap()
}

fn both(width: u32) -> LayerBits {
    LayerBits { weights: bits(width), activations: bits(width) }
}

/// The convolutions and the linear layer of ResNet-18 on images of 224 by 224, shortcuts included.
fn resnet18() -> Space {
    let conv = |from: u64, to: u64, kernel: u64, size: u64, fixed: bool| LayerSize {
        weights: from * to * kernel * kernel,
        inputs: from * size * size,
        fixed,
    };
    let mut layers = vec![conv(3, 64, 7, 224, true)];
    layers.extend([conv(64, 64, 3, 56, false); 4]);
    for (channels, size) in [(128, 28), (256, 14), (512, 7)] {
        layers.push(conv(channels / 2, channels, 3, size * 2, false));
        layers.extend([conv(channels, channels, 3, size, false); 3]);
        layers.push(conv(channels / 2, channels, 1, size * 2, false));
    }
    layers.push(LayerSize { weights: 512 * 1000, inputs: 512, fixed: true });
    Space::new(layers, Widths::ALL).unwrap()
}

#[test]
fn each_form_has_one_spelling() {
    for text in ["w4a8/row/sym", "w2a2/tensor/affine", "w8a3/row/sym/affine", "w4a4/tensor/affine/sym", "w4/row/sym"] {
        assert_eq!(text.parse::<Form>().unwrap().to_string(), text);
    }
    let form: Form = "w3a5/row/affine/sym".parse().unwrap();
    let style = Style { granularity: Granularity::Row, weights: Symmetry::Affine, activations: Symmetry::Symmetric };
    assert_eq!(form, Form { weights: bits(3), activations: Some(bits(5)), style });
    assert_eq!(form.scheme().groups(7, 3), 7);
    for text in [
        "",
        "w4",
        "4a8/row/sym",
        "w1a8/row/sym",
        "w4a9/row/sym",
        "w04a8/row/sym",
        "w4a/row/sym",
        "w4a8/g64/sym",
        "w4a8/row",
        "w4a8/row/sym/sym",
        "w4/row/sym/affine",
        "w4a8/row/sym/affine/",
        "wäa8/row/sym",
    ] {
        assert_eq!(text.parse::<Form>().unwrap_err().kind(), ErrorKind::FormText, "{text}");
    }
    let mut all: Vec<_> = Style::ALL.map(|style| Form { style, ..form }.to_string()).to_vec();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 8);
}

#[test]
fn ratios_are_those_of_the_paper() {
    let space = resnet18();
    // Table 2 of EQ-Net: weights and activations at 2 and at 3 bits, to two places.
    for (width, weights, activations) in [(2, 14.11, 13.25), (3, 9.93, 9.56)] {
        let configuration = space.uniform(Style::ALL[0], both(width));
        let half_of_last_place = 0.005;
        let weight_ratio = space.ratio(Side::Weights, &configuration).unwrap();
        let activation_ratio = space.ratio(Side::Activations, &configuration).unwrap();
        assert!((weight_ratio - weights).abs() <= half_of_last_place, "{weight_ratio}");
        assert!((activation_ratio - activations).abs() <= half_of_last_place, "{activation_ratio}");
        assert_eq!(space.average(Side::Weights, &configuration), Ok(f64::from(width)));
    }
}

#[test]
fn averages_leave_fixed_layers_out() {
    let layer = |weights, inputs, fixed| LayerSize { weights, inputs, fixed };
    let sizes = vec![layer(100, 100, true), layer(30, 1, false), layer(10, 3, false)];
    let space = Space::new(sizes, Widths::ALL).unwrap();
    let mut configuration = space.uniform(Style::ALL[3], both(2));
    configuration.layers[2] = both(6);
    assert_eq!(configuration.layers[0], LayerBits::WIDEST);
    assert_eq!(space.average(Side::Weights, &configuration), Ok(3.0));
    assert_eq!(space.average(Side::Activations, &configuration), Ok(5.0));
    assert_eq!(space.ratio(Side::Weights, &configuration), Ok(32.0 * 140.0 / (800.0 + 60.0 + 60.0)));
    let texts: Vec<_> = configuration.forms().map(|form| form.to_string()).collect();
    assert_eq!(texts, ["w8a8/tensor/affine", "w2a2/tensor/affine", "w6a6/tensor/affine"]);
    configuration.layers.pop();
    assert!(matches!(
        space.average(Side::Weights, &configuration).unwrap_err().kind(),
        ErrorKind::Length { needs: 3, has: 2, .. }
    ));
}

#[test]
fn networks_without_choices_are_refused() {
    let layer = |weights, inputs, fixed| LayerSize { weights, inputs, fixed };
    let kind = |layers| Space::new(layers, Widths::ALL).unwrap_err().kind();
    assert_eq!(kind(vec![]), ErrorKind::NoFreeLayer);
    assert_eq!(kind(vec![layer(1, 1, true)]), ErrorKind::NoFreeLayer);
    assert_eq!(kind(vec![layer(1, 1, false), layer(1, 0, false)]), ErrorKind::EmptyLayer { layer: 1 });
    assert_eq!(kind(vec![layer(1, 1 << 48, false)]), ErrorKind::SpaceSize);
    assert_eq!(kind(vec![layer(u64::MAX, 1, false), layer(2, 1, false)]), ErrorKind::SpaceSize);
}

#[test]
fn draws_take_every_width_and_repeat() {
    let space = resnet18();
    let all: Vec<_> = (0..200).map(|item| space.random(Style::ALL[5], 1, item)).collect();
    assert_eq!(all[7], space.random(Style::ALL[5], 1, 7));
    assert_ne!(all[7], space.random(Style::ALL[5], 2, 7));
    for layer in 1..20 {
        for width in Bits::all() {
            assert!(all.iter().any(|one| one.layers[layer].weights == width));
            assert!(all.iter().any(|one| one.layers[layer].activations == width));
        }
    }
    assert!(all.iter().all(|one| one.layers[0] == LayerBits::WIDEST && one.layers[20] == LayerBits::WIDEST));
}

#[test]
fn the_three_passes_of_a_step_have_their_widths_and_any_style() {
    let space = resnet18();
    for (pick, width) in [(Pick::Widest, bits(8)), (Pick::Narrowest, bits(2))] {
        let forms = space.forms(pick, 3, 4);
        assert!(forms[1..20].iter().all(|form| form.weights == width && form.activations == Some(width)));
        assert_eq!((forms[0].weights, forms[20].activations), (bits(8), Some(bits(8))));
    }
    let drawn: Vec<Form> = (0..50).flat_map(|step| space.forms(Pick::Drawn, 3, step)).collect();
    for style in Style::ALL {
        assert!(drawn.iter().any(|form| form.style == style));
    }
    assert_ne!(space.forms(Pick::Drawn, 3, 0), space.forms(Pick::Drawn, 3, 1));
}

#[test]
fn a_prior_draws_near_the_average_asked_for() {
    let space = resnet18();
    let prior = Prior::new(&space, 20_000, 9);
    let mut draws = crate::draws::Draws::new(0, 0, 0);
    let mean = |average: f64, draws: &mut crate::draws::Draws| {
        let mut sum = 0.0;
        let mut picks = vec![0; 19];
        for _ in 0..400 {
            prior.draw(Side::Weights, average, draws, &mut picks);
            let ladder = space.ladder();
            let bits = picks.iter().map(|pick| LayerBits { weights: ladder[*pick], activations: bits(2) });
            sum += space.average(Side::Weights, &space.filled(Style::ALL[0], bits)).unwrap();
        }
        sum / 400.0
    };
    // An average of widths has a deviation below 2 bits, a mean of 400 below 0.1; a bin is 0.1 to either side.
    for average in [4.0, 5.0, 6.0] {
        assert!((mean(average, &mut draws) - average).abs() < 0.3);
    }
    // No sample averages 2: the nearest are taken.
    assert!(mean(2.0, &mut draws) < 3.5);
    assert_eq!(prior.random(Style::ALL[1], 4, 5), prior.random(Style::ALL[1], 4, 5));
    let free = Prior::new(&space, 0, 0).random(Style::ALL[0], 0, 0);
    assert_eq!(free.layers.len(), 21);
}
