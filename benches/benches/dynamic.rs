//! One image through a gated network, on one core: `cargo bench -p niwaki-benches --bench dynamic -- NET.onnx DATA
//! [HEADS] [--images N] [--active S,…]`.
//!
//! Without HEADS, as `dynamic train` makes them, heads that see nothing let through the shares S of the channels of each layer,
//! which are drawn. For each the median time of an image in ms, of the network without gates, with gates that multiply, and with
//! those that skip; and what masks leave of all multiplications. Outputs of the last two are the same to the bit, or it stops.

#![allow(clippy::print_stdout, reason = "a bench prints what it measures")]

use std::path::Path;
use std::time::Instant;

use niwaki_engine::dataset::{Dataset, shuffled};
use niwaki_engine::dynamic::{HeadsFile, Network};
use niwaki_engine::model::Model;
use niwaki_model::{Executor, Run, Tensor};
use niwaki_tensors::{Dtype, Overwrite, write_file};

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The output for an image, and the milliseconds that it took.
fn pass(executor: &Executor, image: &Tensor) -> (Vec<u32>, f64) {
    let start = Instant::now();
    let made = executor.run(vec![image.clone()], Run::default()).expect("an image that fits").outputs;
    let took = start.elapsed().as_secs_f64() * 1e3;
    // 0 has one sign.
    (made[0].get::<f32>().expect("floats").iter().map(|x| (x + 0.0).to_bits()).collect(), took)
}

/// Weights of a model, and heads that let through a share of the channels of its 4-dimensional weights, which are drawn.
fn drawn(model: &Model, share: f64, path: &Path) {
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut layers = Vec::new();
    for (value, tensor) in model.graph().weights().filter(|(_, t)| t.dtype() == Dtype::F32 && t.rank() > 0) {
        let name = model.graph().name(value);
        tensors.push((name.to_owned(), tensor.shape().to_vec(), tensor.data().to_bytes()));
        let &[out, channels, _, _] = tensor.shape() else { continue };
        let on = ((share * out as f64).round() as usize).clamp(1, out);
        let mut bias = vec![-1.0f32; out];
        shuffled(out, layers.len() as u64, 0).into_iter().take(on).for_each(|at| bias[at] = 1.0);
        let bias = bias.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.push((format!("{name}.head.weight"), vec![out, channels], vec![0; out * channels * 4]));
        tensors.push((format!("{name}.head.bias"), vec![out], bias));
        layers.push(format!("{name:?}"));
    }
    let all: Vec<_> = tensors.iter().map(|(n, shape, b)| (n.as_str(), Dtype::F32, &shape[..], &b[..])).collect();
    let about = format!(
        r#"{{"version":1,"target":{{"mass":1.0}},"pool":"max","joint":false,"layers":[{}]}}"#,
        layers.join(",")
    );
    write_file(path, &all, &[("niwaki.dynamic", &about)], Overwrite::Replace).expect("a file of heads");
}

/// Times a network.
fn time(name: &str, network: &Network, data: &Dataset, images: usize) {
    let share = network.measure(data, Some(images), &|_, _| {}).expect("images that fit").macs.share;
    let dense = network.model().executor().expect("a model that runs");
    let masked = network.gated().executor().expect("a network that runs");
    let skipping = network.skipping().expect("a network that runs");
    let [c, h, w] = data.shape();
    let mut times: [Vec<f64>; 3] = Default::default();
    for item in 0..images.min(data.len()) {
        let mut image = vec![0.0; data.item_len()];
        data.batch([item], &mut image).expect("an image");
        let image = Tensor::of([1, c, h, w], image).expect("as many pixels");
        let made = [&dense, &masked, &skipping].map(|executor| {
            pass(executor, &image);
            pass(executor, &image)
        });
        assert_eq!(made[1].0, made[2].0, "{name}: skipping changes image {item}");
        made.iter().zip(&mut times).for_each(|((_, took), all)| all.push(*took));
    }
    let [dense, masked, skipping] = times.map(median);
    println!(
        "{name}: {:.1} % of MACs; dense {dense:.3} ms, masked {masked:.3} ms, skipping {skipping:.3} ms, {:.2} times as fast",
        share * 100.0,
        dense / skipping
    );
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let flag = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)).cloned();
    let names: Vec<&String> = args.iter().take_while(|arg| !arg.starts_with("--")).collect();
    let [net, data, heads @ ..] = names.as_slice() else {
        println!("skipped: no NET and DATA");
        return;
    };
    let images = flag("--images").and_then(|text| text.parse().ok()).unwrap_or(64);
    let active = flag("--active").unwrap_or("1,0.75,0.62,0.5".to_owned());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| {
        let model = Model::open(Path::new(net)).expect("a model");
        let data = Dataset::open(Path::new(data)).expect("images");
        let network =
            |path: &Path| HeadsFile::open(path).and_then(|file| file.network(&model)).expect("heads of that model");
        for path in heads {
            time(path, &network(Path::new(path)), &data, images);
        }
        let made = std::env::temp_dir().join(format!("niwaki-heads-{}.safetensors", std::process::id()));
        for share in active.split(',').filter(|_| heads.is_empty()) {
            drawn(&model, share.parse().expect("a share"), &made);
            time(&format!("{share} of channels"), &network(&made), &data, images);
        }
        let _ = std::fs::remove_file(made);
    });
}
