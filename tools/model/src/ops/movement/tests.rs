use crate::attributes::Attribute;
use crate::fault::Fault;
use crate::ops::trial::{definition, elements, run, simple, tensor};
use crate::tensor::{Buffer, Data, Element, Tensor};

fn ints(all: &[i64]) -> Tensor {
    tensor(&[all.len()], all)
}

/// 0, 1, 2 .. in a shape.
fn count(shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    tensor(shape, &(0..len).map(|x| x as f32).collect::<Vec<_>>())
}

fn with(op: &str, attributes: &[(&str, Attribute)], inputs: &[Tensor]) -> Result<Tensor, Fault> {
    let inputs: Vec<_> = inputs.iter().cloned().map(Some).collect();
    run(&definition(op, attributes), &inputs).map(|mut outputs| outputs.remove(0))
}

fn shape_and<T: Element>(tensor: &Tensor) -> (Vec<usize>, Vec<T>) {
    (tensor.shape().to_vec(), elements(tensor))
}

#[test]
fn shapes_are_read_with_their_open_places() {
    let shape =
        |wanted: &[i64], of: &[usize]| simple("Reshape", &[count(of), ints(wanted)]).map(|t| t.shape().to_vec());
    assert_eq!(shape(&[0, -1], &[2, 3, 4]).unwrap(), [2, 12]);
    assert_eq!(shape(&[], &[1]).unwrap(), [0usize; 0]);
    assert_eq!(shape(&[-1, 3], &[0, 3]).unwrap(), [0, 3]);
    for wrong in [&[5][..], &[-1, -1], &[-2, 3], &[1, 1, 1, 0], &[i64::MAX, i64::MAX], &[-1, 4]] {
        assert!(shape(wrong, &[2, 3]).is_err(), "{wrong:?}");
    }
    let zero = [("allowzero", Attribute::Int(1))];
    assert!(with("Reshape", &zero, &[count(&[2, 3]), ints(&[0, 3])]).is_err());
}

#[test]
fn axes_come_and_go() {
    let shape = |tensor: Tensor| tensor.shape().to_vec();
    assert_eq!(shape(simple("Squeeze", &[count(&[1, 2, 1])]).unwrap()), [2]);
    assert_eq!(shape(simple("Squeeze", &[count(&[1, 2, 1]), ints(&[-1])]).unwrap()), [1, 2]);
    assert!(simple("Squeeze", &[count(&[1, 2, 1]), ints(&[1])]).is_err());
    assert_eq!(shape(simple("Unsqueeze", &[count(&[2, 3]), ints(&[-1, 1])]).unwrap()), [2, 1, 3, 1]);
    assert!(simple("Unsqueeze", &[count(&[2, 3]), ints(&[1, 1])]).is_err());
    let old = [("axes", Attribute::Ints(vec![0]))];
    assert_eq!(shape(with("Unsqueeze", &old, &[count(&[2])]).unwrap()), [1, 2]);
    let at = |axis: i64| with("Flatten", &[("axis", Attribute::Int(axis))], &[count(&[2, 3, 4])]).map(shape);
    assert_eq!(at(0).unwrap(), [1, 24]);
    assert_eq!(at(3).unwrap(), [24, 1]);
    assert_eq!(at(-1).unwrap(), [6, 4]);
    assert!(at(4).is_err());
}

/// What a transposition is, one element after the other.
fn transposed(x: &[f32], shape: &[usize], order: &[usize]) -> Vec<f32> {
    let strides = crate::ops::shape::strides(shape);
    let to: Vec<usize> = order.iter().map(|at| shape[*at]).collect();
    let apart: Vec<usize> = order.iter().map(|at| strides[*at]).collect();
    let mut out = Vec::new();
    crate::ops::shape::walk(&to, [&apart], |[from]| out.push(x[from]));
    out
}

#[test]
fn transpositions_of_every_order_are_equal_to_the_plain_one() {
    let orders: Vec<[usize; 4]> = (0..256)
        .map(|code| [code / 64, code / 16 % 4, code / 4 % 4, code % 4])
        .filter(|order| (0..4).all(|at| order.contains(&at)))
        .collect();
    assert_eq!(orders.len(), 24);
    // The last one is large enough for several threads.
    for shape in [[2, 3, 4, 5], [1, 17, 1, 33], [2, 0, 3, 1], [5, 33, 19, 40]] {
        let x = count(&shape);
        for order in &orders {
            let perm = [("perm", Attribute::Ints(order.iter().map(|at| *at as i64).collect()))];
            let made = with("Transpose", &perm, std::slice::from_ref(&x)).unwrap();
            assert_eq!(elements::<f32>(&made), transposed(&elements(&x), &shape, order), "{shape:?} {order:?}");
        }
    }
    let wrong = [("perm", Attribute::Ints(vec![0, 0]))];
    assert!(with("Transpose", &wrong, &[count(&[2, 2])]).is_err());
    assert_eq!(elements::<f32>(&simple("Transpose", &[count(&[2, 2])]).unwrap()), [0.0, 2.0, 1.0, 3.0]);
}

#[test]
fn what_is_joined_can_be_split_again() {
    let axis = [("axis", Attribute::Int(-1))];
    let (a, b) = (count(&[2, 1]), count(&[2, 3]));
    let joined = with("Concat", &axis, &[a.clone(), b.clone()]).unwrap();
    assert_eq!(shape_and::<f32>(&joined), (vec![2, 4], vec![0.0, 0.0, 1.0, 2.0, 1.0, 3.0, 4.0, 5.0]));
    let mut split = definition("Split", &axis);
    split.outputs = 2;
    let parts = run(&split, &[Some(joined.clone()), Some(ints(&[1, 3]))]).unwrap();
    assert_eq!([shape_and::<f32>(&parts[0]), shape_and(&parts[1])], [shape_and(&a), shape_and(&b)]);
    assert!(run(&split, &[Some(joined), Some(ints(&[1, 2]))]).is_err());
    split.attributes.insert("num_outputs".into(), Attribute::Int(3));
    let sizes = run(&split, &[Some(count(&[7]))]).unwrap().iter().map(Tensor::len).collect::<Vec<_>>();
    assert_eq!(sizes, [3, 3, 1]);
    assert!(run(&split, &[Some(count(&[0]))]).unwrap().iter().all(Tensor::is_empty));
    assert!(with("Concat", &axis, &[count(&[2, 1]), count(&[3, 1])]).is_err());
    assert!(with("Concat", &axis, &[count(&[2, 1]), tensor(&[2, 1], &[1i64, 2])]).is_err());
    assert!(with("Concat", &axis, &[]).is_err());
}

#[test]
fn slices_are_cut_as_the_specification_says() {
    let slice = |start: i64, end: i64, step: i64| {
        simple("Slice", &[count(&[5]), ints(&[start]), ints(&[end]), ints(&[0]), ints(&[step])])
            .map(|t| elements::<f32>(&t))
    };
    assert_eq!(slice(1, 3, 1).unwrap(), [1.0, 2.0]);
    assert_eq!(slice(-2, i64::MAX, 1).unwrap(), [3.0, 4.0]);
    assert_eq!(slice(0, 5, 2).unwrap(), [0.0, 2.0, 4.0]);
    assert_eq!(slice(i64::MAX, i64::MIN, -2).unwrap(), [4.0, 2.0, 0.0]);
    assert_eq!(slice(3, 0, -1).unwrap(), [3.0, 2.0, 1.0]);
    assert_eq!(slice(4, 1, 1).unwrap(), [0f32; 0]);
    assert_eq!(slice(0, 5, i64::MAX).unwrap(), [0.0]);
    assert_eq!(slice(-1, i64::MIN, i64::MIN).unwrap(), [4.0]);
    assert!(slice(0, 5, 0).is_err());
    let empty = simple("Slice", &[count(&[0]), ints(&[0]), ints(&[-9]), ints(&[0]), ints(&[-1])]).unwrap();
    assert!(empty.is_empty());
    let old =
        [("starts", Attribute::Ints(vec![1])), ("ends", Attribute::Ints(vec![2])), ("axes", Attribute::Ints(vec![1]))];
    assert_eq!(shape_and::<f32>(&with("Slice", &old, &[count(&[2, 3])]).unwrap()), (vec![2, 1], vec![1.0, 4.0]));
    assert!(simple("Slice", &[count(&[5]), ints(&[0, 0]), ints(&[1])]).is_err());
    assert!(simple("Slice", &[count(&[5]), ints(&[0, 0]), ints(&[1, 1]), ints(&[0, 0])]).is_err());
}

#[test]
fn parts_are_gathered_by_index() {
    let made = simple("Gather", &[count(&[3, 2]), tensor(&[2, 1], &[-1i64, 0])]).unwrap();
    assert_eq!(shape_and::<f32>(&made), (vec![2, 1, 2], vec![4.0, 5.0, 0.0, 1.0]));
    let columns = with("Gather", &[("axis", Attribute::Int(1))], &[count(&[3, 2]), Tensor::scalar(1i32)]).unwrap();
    assert_eq!(shape_and::<f32>(&columns), (vec![3], vec![1.0, 3.0, 5.0]));
    assert!(simple("Gather", &[count(&[3, 2]), ints(&[3])]).is_err());
    assert!(simple("Gather", &[count(&[3, 2]), ints(&[i64::MIN])]).is_err());
    let one = [("axis", Attribute::Int(1))];
    let made = with("GatherElements", &one, &[count(&[2, 2]), tensor(&[2, 1], &[1i64, -2])]).unwrap();
    assert_eq!(shape_and::<f32>(&made), (vec![2, 1], vec![1.0, 2.0]));
    assert!(with("GatherElements", &one, &[count(&[2, 2]), tensor(&[3, 1], &[0i64; 3])]).is_err());
    let made = simple("GatherND", &[count(&[2, 3]), tensor(&[2, 2], &[0i64, 2, 1, -3])]).unwrap();
    assert_eq!(elements::<f32>(&made), [2.0, 3.0]);
    let batch = [("batch_dims", Attribute::Int(1))];
    let made = with("GatherND", &batch, &[count(&[2, 3]), tensor(&[2, 1], &[2i64, 0])]).unwrap();
    assert_eq!(shape_and::<f32>(&made), (vec![2], vec![2.0, 3.0]));
    assert!(with("GatherND", &batch, &[count(&[2, 3]), tensor(&[3, 1], &[0i64; 3])]).is_err());
    let endless = Tensor::of([usize::MAX, 0], Vec::<i64>::new()).unwrap();
    assert!(simple("GatherND", &[count(&[2, 3]), endless]).is_err());
}

#[test]
fn elements_are_scattered_and_put_together() {
    let at = tensor(&[2, 2], &[1i64, 1, 0, 2]);
    let updates = tensor(&[2, 2], &[10f32, 20.0, 30.0, 40.0]);
    let make = |reduction: &str| {
        let attributes = [("axis", Attribute::Int(1)), ("reduction", Attribute::Text(reduction.into()))];
        with("ScatterElements", &attributes, &[count(&[2, 3]), at.clone(), updates.clone()])
    };
    assert_eq!(elements::<f32>(&make("none").unwrap()), [0.0, 20.0, 2.0, 30.0, 4.0, 40.0]);
    assert_eq!(elements::<f32>(&make("add").unwrap()), [0.0, 31.0, 2.0, 33.0, 4.0, 45.0]);
    assert_eq!(elements::<f32>(&make("mul").unwrap()), [0.0, 200.0, 2.0, 90.0, 4.0, 200.0]);
    assert_eq!(elements::<f32>(&make("min").unwrap()), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert!(make("mean").is_err());
    let rows =
        simple("ScatterND", &[count(&[3, 2]), tensor(&[1, 1], &[-1i64]), tensor(&[1, 2], &[8f32, 9.0])]).unwrap();
    assert_eq!(elements::<f32>(&rows), [0.0, 1.0, 2.0, 3.0, 8.0, 9.0]);
    assert!(simple("ScatterND", &[count(&[3, 2]), tensor(&[1, 1], &[3i64]), tensor(&[1, 2], &[8f32, 9.0])]).is_err());
    assert!(simple("ScatterND", &[count(&[3, 2]), tensor(&[1, 1], &[0i64]), tensor(&[1, 2], &[8i64, 9])]).is_err());
}

#[test]
fn elements_are_repeated() {
    let made = simple("Expand", &[tensor(&[2, 1], &[1f32, 2.0]), ints(&[3, 1, 2])]).unwrap();
    assert_eq!(shape_and::<f32>(&made), (vec![3, 2, 2], [1.0, 1.0, 2.0, 2.0].repeat(3)));
    assert!(simple("Expand", &[count(&[2]), ints(&[1 << 40, 2])]).is_err());
    assert!(simple("Expand", &[count(&[2]), ints(&[1 << 40, 1 << 40, 0, 2])]).is_err());
    let made = simple("Tile", &[count(&[1, 2]), ints(&[2, 2])]).unwrap();
    assert_eq!(shape_and::<f32>(&made), (vec![2, 4], [0.0, 1.0].repeat(4)));
    assert!(simple("Tile", &[count(&[1, 2]), ints(&[2])]).is_err());
    assert!(simple("Tile", &[count(&[1, 2]), ints(&[i64::MAX, 3])]).is_err());
    assert!(simple("Tile", &[count(&[1, 2]), ints(&[-1, 3])]).is_err());
}

#[test]
fn pads_are_made_in_every_mode() {
    let pad = |mode: &str, before: i64, after: i64| {
        let mode = [("mode", Attribute::Text(mode.into()))];
        with("Pad", &mode, &[count(&[3]), ints(&[before, after])]).map(|t| elements::<f32>(&t))
    };
    assert_eq!(pad("constant", 1, 2).unwrap(), [0.0, 0.0, 1.0, 2.0, 0.0, 0.0]);
    assert_eq!(pad("edge", 1, 2).unwrap(), [0.0, 0.0, 1.0, 2.0, 2.0, 2.0]);
    assert_eq!(pad("reflect", 2, 3).unwrap(), [2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0, 1.0]);
    assert_eq!(pad("wrap", 1, 2).unwrap(), [2.0, 0.0, 1.0, 2.0, 0.0, 1.0]);
    assert_eq!(pad("constant", -1, -1).unwrap(), [1.0]);
    assert_eq!(pad("constant", -4, 5).unwrap(), [0.0; 4]);
    assert_eq!(pad("edge", -2, 1).unwrap(), [2.0, 2.0]);
    assert!(pad("constant", -4, 0).is_err());
    assert!(pad("constant", i64::MAX, i64::MAX).is_err());
    assert!(pad("mirror", 1, 1).is_err());
    let axes = [count(&[1, 2]), ints(&[1, 0]), Tensor::scalar(7f32), ints(&[-1])];
    assert_eq!(shape_and::<f32>(&simple("Pad", &axes).unwrap()), (vec![1, 3], vec![7.0, 0.0, 1.0]));
    let old = [("pads", Attribute::Ints(vec![0, 1])), ("value", Attribute::Float(5.0))];
    assert_eq!(elements::<f32>(&with("Pad", &old, &[count(&[1])]).unwrap()), [0.0, 5.0]);
    let empty = with("Pad", &[("mode", Attribute::Text("edge".into()))], &[count(&[0]), ints(&[1, 1])]);
    assert!(empty.is_err());
}

#[test]
fn channels_become_places_and_back() {
    let side = [("blocksize", Attribute::Int(2))];
    let x = count(&[1, 8, 1, 1]);
    let deep = with("DepthToSpace", &side, std::slice::from_ref(&x)).unwrap();
    assert_eq!(shape_and::<f32>(&deep), (vec![1, 2, 2, 2], vec![0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]));
    let columns = ("mode", Attribute::Text("CRD".into()));
    let wide = with("DepthToSpace", &[side[0].clone(), columns], std::slice::from_ref(&x)).unwrap();
    assert_eq!(elements::<f32>(&wide), elements::<f32>(&x));
    assert_eq!(shape_and::<f32>(&with("SpaceToDepth", &side, &[deep]).unwrap()), shape_and(&x));
    assert!(with("DepthToSpace", &side, &[count(&[1, 2, 1, 1])]).is_err());
    assert!(with("SpaceToDepth", &side, &[count(&[1, 2, 3, 2])]).is_err());
    assert!(with("SpaceToDepth", &[("blocksize", Attribute::Int(0))], &[count(&[1, 2, 3, 2])]).is_err());
}

#[test]
fn tensors_come_from_little() {
    let part = [("start", Attribute::Int(-2)), ("end", Attribute::Int(9))];
    assert_eq!(elements::<i64>(&with("Shape", &part, &[count(&[2, 3, 4])]).unwrap()), [3, 4]);
    assert_eq!(shape_and::<i64>(&simple("Size", &[count(&[2, 3])]).unwrap()), (vec![], vec![6]));
    let made = with("Constant", &[("value_ints", Attribute::Ints(vec![4, 5]))], &[]).unwrap();
    assert_eq!(elements::<i64>(&made), [4, 5]);
    assert!(with("Constant", &[("value_string", Attribute::Text("x".into()))], &[]).is_err());
    assert!(with("Constant", &[], &[]).is_err());
    let value = [("value", Attribute::Tensor(ints(&[9])))];
    assert_eq!(shape_and::<i64>(&with("ConstantOfShape", &value, &[ints(&[2])]).unwrap()), (vec![2], vec![9, 9]));
    assert!(simple("ConstantOfShape", &[ints(&[i64::MAX, 8])]).is_err());
    assert!(simple("ConstantOfShape", &[ints(&[-1])]).is_err());
    let eye = with("EyeLike", &[("k", Attribute::Int(1)), ("dtype", Attribute::Int(7))], &[count(&[2, 3])]).unwrap();
    assert_eq!(elements::<i64>(&eye), [0, 1, 0, 0, 0, 1]);
}

#[test]
fn ranges_end_before_their_end() {
    fn range<T: Element>(all: [T; 3]) -> Result<Vec<T>, Fault> {
        simple("Range", &all.map(Tensor::scalar)).map(|t| elements(&t))
    }
    assert_eq!(range([1i64, 6, 2]).unwrap(), [1, 3, 5]);
    assert_eq!(range([3i32, 0, -2]).unwrap(), [3, 1]);
    assert_eq!(range([0f32, 1.0, 0.25]).unwrap(), [0.0, 0.25, 0.5, 0.75]);
    assert_eq!(range([1i64, 1, 1]).unwrap(), [0i64; 0]);
    for wrong in [[0i64, 1, 0], [i64::MIN, i64::MAX, 1]] {
        assert!(range(wrong).is_err(), "{wrong:?}");
    }
    assert!(range([0f32, f32::NAN, 1.0]).is_err() || range([0f32, f32::NAN, 1.0]).unwrap().is_empty());
    assert!(range([0f32, f32::INFINITY, 1.0]).is_err());
}

#[test]
fn numbers_become_places() {
    let made = simple("OneHot", &[ints(&[0, -1, 5]), Tensor::scalar(2i64), tensor(&[2], &[0f32, 9.0])]).unwrap();
    assert_eq!(shape_and::<f32>(&made), (vec![3, 2], vec![9.0, 0.0, 0.0, 9.0, 0.0, 0.0]));
    let first = [("axis", Attribute::Int(0))];
    let made = with("OneHot", &first, &[ints(&[1, 0]), Tensor::scalar(2i64), tensor(&[2], &[0f32, 9.0])]).unwrap();
    assert_eq!(elements::<f32>(&made), [0.0, 9.0, 9.0, 0.0]);
    assert!(simple("OneHot", &[ints(&[0]), Tensor::scalar(-2i64), tensor(&[2], &[0f32, 9.0])]).is_err());
    assert!(simple("OneHot", &[ints(&[0]), Tensor::scalar(2i64), tensor(&[1], &[0f32])]).is_err());
}

#[test]
fn triangles_are_kept() {
    let keep = |upper: i64, k: i64| {
        let upper = [("upper", Attribute::Int(upper))];
        elements::<f32>(&with("Trilu", &upper, &[tensor(&[2, 2], &[1f32; 4]), Tensor::scalar(k)]).unwrap())
    };
    assert_eq!(keep(1, 0), [1.0, 1.0, 0.0, 1.0]);
    assert_eq!(keep(0, 0), [1.0, 0.0, 1.0, 1.0]);
    assert_eq!(keep(0, -1), [0.0, 0.0, 1.0, 0.0]);
    assert_eq!(keep(1, i64::MAX), [0.0; 4]);
    assert_eq!(keep(0, i64::MAX), [1.0; 4]);
    assert!(simple("Trilu", &[count(&[2])]).is_err());
}

#[test]
fn the_largest_come_first_and_of_equals_the_first() {
    let x = tensor(&[2, 3], &[1f32, 3.0, 3.0, f32::NAN, 0.0, 5.0]);
    let made = run(&definition("TopK", &[]), &[Some(x.clone()), Some(ints(&[2]))]).unwrap();
    assert_eq!(elements::<i64>(&made[1]), [1, 2, 0, 2]);
    let small = [("largest", Attribute::Int(0)), ("axis", Attribute::Int(0))];
    let made = run(&definition("TopK", &small), &[Some(x.clone()), Some(ints(&[1]))]).unwrap();
    assert_eq!(shape_and::<f32>(&made[0]), (vec![1, 3], vec![1.0, 0.0, 3.0]));
    assert!(simple("TopK", &[x, ints(&[4])]).is_err());
    let made = simple("NonZero", &[tensor(&[2, 2], &[0i64, 5, 6, 0])]).unwrap();
    assert_eq!(shape_and::<i64>(&made), (vec![2, 2], vec![0, 1, 1, 0]));
}

#[test]
fn each_is_there_once() {
    let x = tensor(&[5], &[2f32, 1.0, 2.0, 0.0, 1.0]);
    let made = run(&definition("Unique", &[]), &[Some(x.clone())]).unwrap();
    assert_eq!(elements::<f32>(&made[0]), [0.0, 1.0, 2.0]);
    assert_eq!(
        made[1..].iter().map(elements::<i64>).collect::<Vec<_>>(),
        [vec![3, 1, 0], vec![2, 1, 2, 0, 1], vec![1, 2, 2]]
    );
    let unsorted = [("sorted", Attribute::Int(0))];
    assert_eq!(elements::<f32>(&with("Unique", &unsorted, &[x]).unwrap()), [2.0, 1.0, 0.0]);
    let columns = [("axis", Attribute::Int(1))];
    let made = with("Unique", &columns, &[tensor(&[2, 3], &[1f32, 0.0, 1.0, 2.0, 5.0, 2.0])]).unwrap();
    assert_eq!(shape_and::<f32>(&made), (vec![2, 2], vec![0.0, 1.0, 5.0, 2.0]));
}

#[test]
fn conditions_choose() {
    let holds = |all: &[u8]| Tensor::new([all.len()], Data::Bool(Buffer::from(all.to_vec()))).unwrap();
    let rows = with("Compress", &[("axis", Attribute::Int(0))], &[count(&[3, 2]), holds(&[0, 1, 1])]).unwrap();
    assert_eq!(shape_and::<f32>(&rows), (vec![2, 2], vec![2.0, 3.0, 4.0, 5.0]));
    assert_eq!(elements::<f32>(&simple("Compress", &[count(&[3, 2]), holds(&[0, 1])]).unwrap()), [1.0]);
    assert!(simple("Compress", &[count(&[1]), holds(&[0, 1])]).is_err());
}

#[test]
fn boxes_that_overlap_a_better_one_go() {
    let boxes = tensor(&[1, 3, 4], &[0f32, 0.0, 1.0, 1.0, 0.0, 0.1, 1.0, 1.1, 0.0, 10.0, 1.0, 11.0]);
    let scores = tensor(&[1, 1, 3], &[0.9f32, 0.95, 0.5]);
    let most = |n: i64| [boxes.clone(), scores.clone(), ints(&[n]), tensor(&[1], &[0.5f32])];
    assert_eq!(elements::<i64>(&simple("NonMaxSuppression", &most(9)).unwrap()), [0, 0, 1, 0, 0, 2]);
    assert_eq!(elements::<i64>(&simple("NonMaxSuppression", &most(1)).unwrap()), [0, 0, 1]);
    assert_eq!(simple("NonMaxSuppression", &[boxes.clone(), scores]).unwrap().shape(), [0, 3]);
    assert!(simple("NonMaxSuppression", &[boxes, tensor(&[1, 1, 2], &[0f32; 2])]).is_err());
}

#[test]
fn sequences_are_turned_round_at_their_beginning() {
    let axes = [("batch_axis", Attribute::Int(0)), ("time_axis", Attribute::Int(1))];
    let made = with("ReverseSequence", &axes, &[count(&[2, 3]), ints(&[2, 3])]).unwrap();
    assert_eq!(elements::<f32>(&made), [1.0, 0.0, 2.0, 5.0, 4.0, 3.0]);
    let made = simple("ReverseSequence", &[count(&[3, 2]), ints(&[2, 1])]).unwrap();
    assert_eq!(elements::<f32>(&made), [2.0, 1.0, 0.0, 3.0, 4.0, 5.0]);
    assert!(with("ReverseSequence", &axes, &[count(&[2, 3]), ints(&[2, 4])]).is_err());
}

#[test]
fn blocks_add_up_to_an_image() {
    let blocks = tensor(&[1, 4, 2], &[1f32; 8]);
    let made = simple("Col2Im", &[blocks.clone(), ints(&[2, 3]), ints(&[2, 2])]).unwrap();
    assert_eq!(shape_and::<f32>(&made), (vec![1, 1, 2, 3], vec![1.0, 2.0, 1.0, 1.0, 2.0, 1.0]));
    assert!(simple("Col2Im", &[blocks.clone(), ints(&[2, 4]), ints(&[2, 2])]).is_err());
    assert!(simple("Col2Im", &[blocks, ints(&[2, 3]), ints(&[0, 2])]).is_err());
}

#[test]
fn new_steps_go_behind_what_is_there() {
    let (cache, new) = (tensor(&[2, 3, 1], &[0f32; 6]), tensor(&[2, 2, 1], &[1f32, 2.0, 3.0, 4.0]));
    let put = |mode: &str, at: &[i64]| {
        let mode = [("mode", Attribute::Text(mode.into()))];
        with("TensorScatter", &mode, &[cache.clone(), new.clone(), ints(at)]).map(|t| elements::<f32>(&t))
    };
    assert_eq!(put("linear", &[0, 1]).unwrap(), [1.0, 2.0, 0.0, 0.0, 3.0, 4.0]);
    assert_eq!(put("circular", &[2, 0]).unwrap(), [2.0, 0.0, 1.0, 3.0, 4.0, 0.0]);
    assert!(put("linear", &[0, 2]).is_err());
    assert!(put("circular", &[0]).is_err());
}
