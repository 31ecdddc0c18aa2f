//! Networks that train, node by node as PyTorch exports them, with made-up weights: `tests/scripts/nets.py` makes
//! the same in PyTorch.

use niwaki_model::{Attribute, Definition, Graph, Node, Tape, Tensor, ValueId, ops};

/// Numbers between -1 and 1, the same in any language: the mixing function of splitmix64.
pub fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let number = |at: u64| {
        let mut x = (at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed.wrapping_mul(0xD1B5_4A32_D192_ED03));
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((x ^ x >> 31) >> 11) as f64 / (1u64 << 52) as f64 - 1.0) as f32
    };
    (0..len as u64).map(number).collect()
}

/// Numbers of a tensor, as single floats or the same as doubles.
pub fn tensor(shape: &[usize], all: Vec<f32>, doubles: bool) -> Tensor {
    let made = match doubles {
        true => Tensor::of(shape, all.into_iter().map(f64::from).collect()),
        false => Tensor::of(shape, all),
    };
    made.expect("as many numbers as the shape says")
}

/// A network, and an input for it.
pub struct Net {
    /// The graph: one input, one output.
    pub graph: Graph,
    /// The weights that train, in the order in which they were made.
    pub wanted: Vec<ValueId>,
    /// What goes in.
    pub x: Tensor,
    doubles: bool,
    seed: u64,
}

impl Net {
    fn new(x: &[usize], doubles: bool) -> (Self, ValueId) {
        let mut graph = Graph::default();
        let value = graph.input("x", None, None);
        let x = tensor(x, numbers(x.iter().product(), 1_000), doubles);
        (Self { graph, wanted: Vec::new(), x, doubles, seed: 0 }, value)
    }

    /// A weight of numbers around `middle`.
    fn weight(&mut self, name: &str, shape: &[usize], middle: f32, spread: f32) -> ValueId {
        self.seed += 1;
        let all = numbers(shape.iter().product(), self.seed).into_iter().map(|x| middle + spread * x).collect();
        let value = self.graph.weight(name, tensor(shape, all, self.doubles));
        self.wanted.push(value);
        value
    }

    /// A weight that does not train.
    fn fixed(&mut self, name: &str, shape: &[usize], number: f32) -> ValueId {
        self.graph.weight(name, tensor(shape, vec![number; shape.iter().product()], self.doubles))
    }

    fn whole(&mut self, name: &str, all: &[i64]) -> ValueId {
        self.graph.weight(name, Tensor::vector(all.to_vec()))
    }

    fn node(&mut self, op: &str, name: &str, attributes: &[(&str, Attribute)], inputs: &[ValueId]) -> ValueId {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        let definition = Definition {
            op: op.into(),
            opset: 20,
            inputs: inputs.len(),
            outputs: 1,
            attributes,
            ..Definition::default()
        };
        let op = ops::build(&definition).expect("attributes that fit").expect("an operator that there is");
        let y = self.graph.value(name);
        self.graph.push(Node { name: name.to_owned(), op, inputs, outputs: vec![Some(y)] });
        y
    }

    fn conv(&mut self, x: ValueId, name: &str, [c, o, k, stride, groups]: [usize; 5]) -> ValueId {
        let ints = |all: &[usize]| Attribute::Ints(all.iter().map(|x| *x as i64).collect());
        let spread = (3.0 / (c / groups * k * k) as f32).sqrt();
        let w = self.weight(&format!("{name}.weight"), &[o, c / groups, k, k], 0.0, spread);
        let attributes = [
            ("strides", ints(&[stride, stride])),
            ("pads", ints(&[k / 2; 4])),
            ("group", Attribute::Int(groups as i64)),
        ];
        self.node("Conv", name, &attributes, &[x, w])
    }

    /// Batch normalization by the batch.
    fn norm(&mut self, x: ValueId, name: &str, channels: usize) -> ValueId {
        let scale = self.weight(&format!("{name}.weight"), &[channels], 1.0, 0.3);
        let bias = self.weight(&format!("{name}.bias"), &[channels], 0.0, 0.3);
        let mean = self.fixed(&format!("{name}.running_mean"), &[channels], 0.0);
        let variance = self.fixed(&format!("{name}.running_var"), &[channels], 1.0);
        let attributes = [("training_mode", Attribute::Int(1)), ("epsilon", Attribute::Float(1e-5))];
        self.node("BatchNormalization", name, &attributes, &[x, scale, bias, mean, variance])
    }

    fn unit(&mut self, x: ValueId, name: &str, sizes: [usize; 5]) -> ValueId {
        let y = self.conv(x, &format!("{name}.conv"), sizes);
        self.norm(y, &format!("{name}.bn"), sizes[1])
    }

    fn relu(&mut self, x: ValueId, name: &str) -> ValueId {
        self.node("Relu", name, &[], &[x])
    }

    /// ResNet-20 for images of 32x32, with projection shortcuts.
    pub fn resnet20(images: usize, doubles: bool) -> Self {
        let (mut net, x) = Self::new(&[images, 3, 32, 32], doubles);
        let y = net.unit(x, "stem", [3, 16, 3, 1, 1]);
        let mut x = net.relu(y, "stem.relu");
        let mut channels = 16;
        for (stage, out) in [16, 32, 64].into_iter().enumerate() {
            for block in 0..3 {
                let name = format!("{stage}.{block}");
                let stride = if out == channels { 1 } else { 2 };
                let y = net.unit(x, &format!("{name}.1"), [channels, out, 3, stride, 1]);
                let y = net.relu(y, &format!("{name}.relu"));
                let y = net.unit(y, &format!("{name}.2"), [out, out, 3, 1, 1]);
                let short =
                    if stride == 1 { x } else { net.unit(x, &format!("{name}.short"), [channels, out, 1, 2, 1]) };
                let sum = net.node("Add", &format!("{name}.add"), &[], &[y, short]);
                x = net.relu(sum, &format!("{name}.out"));
                channels = out;
            }
        }
        let pooled = net.node("GlobalAveragePool", "pool", &[], &[x]);
        let row = net.node("Flatten", "flat", &[], &[pooled]);
        let w = net.weight("fc.weight", &[10, 64], 0.0, 0.2);
        let b = net.weight("fc.bias", &[10], 0.0, 0.2);
        let logits = net.node("Gemm", "fc", &[("transB", Attribute::Int(1))], &[row, w, b]);
        net.graph.output(logits);
        net
    }

    /// One depthwise 3x3 convolution; the gradient of its input is wanted too.
    pub fn depthwise(shape: [usize; 4]) -> Self {
        let (mut net, x) = Self::new(&shape, false);
        let y = net.conv(x, "conv", [shape[1], shape[1], 3, 1, shape[1]]);
        net.graph.output(y);
        net.wanted.push(x);
        net
    }

    /// An encoder layer, normalized before each half: `hidden` wide, four times that within. The gradient of its
    /// input is wanted too.
    pub fn encoder(shape: [usize; 2], hidden: usize, heads: usize, doubles: bool) -> Self {
        let [texts, tokens] = shape;
        let (mut net, x) = Self::new(&[texts, tokens, hidden], doubles);
        let split = net.whole("split", &[texts as i64, tokens as i64, heads as i64, (hidden / heads) as i64]);
        let joined = net.whole("joined", &[texts as i64, tokens as i64, hidden as i64]);
        let root = net.fixed("root", &[], ((hidden / heads) as f32).sqrt());
        let order = |all: [i64; 4]| [("perm", Attribute::Ints(all.to_vec()))];
        let normed = net.layer_norm(x, "norm1", hidden);
        let mut parts = [x; 3];
        for (part, name) in parts.iter_mut().zip(["q", "k", "v"]) {
            let y = net.linear(normed, name, hidden, hidden);
            let y = net.node("Reshape", &format!("{name}.split"), &[], &[y, split]);
            let turned = if name == "k" { [0, 2, 3, 1] } else { [0, 2, 1, 3] };
            *part = net.node("Transpose", &format!("{name}.heads"), &order(turned), &[y]);
        }
        let scores = net.node("MatMul", "scores", &[], &[parts[0], parts[1]]);
        let scores = net.node("Div", "scaled", &[], &[scores, root]);
        let shares = net.node("Softmax", "shares", &[("axis", Attribute::Int(-1))], &[scores]);
        let mixed = net.node("MatMul", "mixed", &[], &[shares, parts[2]]);
        let mixed = net.node("Transpose", "mixed.heads", &order([0, 2, 1, 3]), &[mixed]);
        let mixed = net.node("Reshape", "mixed.joined", &[], &[mixed, joined]);
        let attention = net.linear(mixed, "o", hidden, hidden);
        let x = net.node("Add", "half", &[], &[x, attention]);
        let normed = net.layer_norm(x, "norm2", hidden);
        let inner = net.linear(normed, "up", hidden, 4 * hidden);
        let inner = net.node("Gelu", "gelu", &[], &[inner]);
        let inner = net.linear(inner, "down", 4 * hidden, hidden);
        let y = net.node("Add", "whole", &[], &[x, inner]);
        net.graph.output(y);
        let input = net.graph.inputs()[0].value;
        net.wanted.push(input);
        net
    }

    fn layer_norm(&mut self, x: ValueId, name: &str, hidden: usize) -> ValueId {
        let scale = self.weight(&format!("{name}.weight"), &[hidden], 1.0, 0.3);
        let bias = self.weight(&format!("{name}.bias"), &[hidden], 0.0, 0.3);
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(1e-5))];
        self.node("LayerNormalization", name, &attributes, &[x, scale, bias])
    }

    /// x W + b, with W as exporters write it: `[in, out]`.
    fn linear(&mut self, x: ValueId, name: &str, from: usize, to: usize) -> ValueId {
        let spread = (3.0 / from as f32).sqrt();
        let w = self.weight(&format!("{name}.weight"), &[from, to], 0.0, spread);
        let b = self.weight(&format!("{name}.bias"), &[to], 0.0, 0.3);
        let y = self.node("MatMul", &format!("{name}.product"), &[], &[x, w]);
        self.node("Add", name, &[], &[b, y])
    }

    /// The gradients of what is wanted, in that order and by name, where that of the output is made up; and the
    /// most bytes that values took.
    pub fn gradients(self) -> (Vec<(String, Tensor)>, usize) {
        let doubles = self.doubles;
        let tape = Tape::new(self.graph, self.wanted).expect("a network that gradients flow through");
        let there = tape.forward(vec![self.x], None).expect("an input that fits");
        let y = &there.outputs[0];
        let gradient = tensor(y.shape(), numbers(y.len(), 2_000), doubles);
        let back = tape.backward(there, vec![Some(gradient)]).expect("gradients that fit");
        let names = tape.wanted().iter().map(|value| tape.graph().name(*value).to_owned());
        let named = names.zip(back.gradients).map(|(name, gradient)| {
            let gradient = gradient.unwrap_or_else(|| panic!("no gradient of {name}"));
            (name, gradient)
        });
        (named.collect(), back.peak_bytes)
    }
}
