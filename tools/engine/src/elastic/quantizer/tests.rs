use niwaki_model::{Graph, Tape};

use super::*;

/// A table whose numbers all differ, for so many sets.
fn table(sets: usize) -> Vec<f32> {
    (0..sets * SET)
        .map(|at| if at % SET < 2 * WIDTHS { 0.05 + at as f32 * 1e-3 } else { 0.01 * (at % 5) as f32 })
        .collect()
}

fn choice(bits: u32, row: bool, affine: bool) -> Choice {
    Choice { bits: Bits::new(bits).unwrap(), row, affine }
}

/// What a quantizer makes of `x`, and the gradients of `x` and of its table for those of what it made.
fn through(how: Quantizer, choice: Choice, x: &Tensor, seed: &Tensor) -> [Vec<f32>; 3] {
    let sets = 1 + if how.turned { x.shape()[1] } else { x.shape()[0] };
    let mut graph = Graph::default();
    let values = graph.weight("x", x.clone());
    let all = [
        values,
        graph.weight("choice", choice.tensor()),
        graph.weight("table", Tensor::of([sets, 3, WIDTHS], table(sets)).unwrap()),
    ];
    let y = graph.node("quantizer", how, &all);
    graph.output(y);
    let tape = Tape::new(graph, vec![values, all[2]]).unwrap();
    let forward = tape.forward(Vec::new(), None).unwrap();
    let made = forward.outputs[0].get::<f32>().unwrap().to_vec();
    let back = tape.backward(forward, vec![Some(seed.clone())]).unwrap();
    let gradient = |at: usize| back.gradients[at].as_ref().unwrap().get::<f32>().unwrap().to_vec();
    [made, gradient(0), gradient(1)]
}

fn numbers(len: usize, by: usize) -> Vec<f32> {
    (0..len).map(|at| ((at * by + 3) % 29) as f32 / 14.0 - 1.0).collect()
}

#[test]
fn a_choice_says_which_grids_count() {
    let (rows, cols) = (3, 40);
    let x = Tensor::of([rows, cols], numbers(rows * cols, 7)).unwrap();
    let seed = Tensor::of([rows, cols], numbers(rows * cols, 11)).unwrap();
    let how = Quantizer { signed: true, turned: false };
    for choice in [choice(2, false, false), choice(4, true, false), choice(3, false, true), choice(8, true, true)] {
        let [made, own, of_table] = through(how, choice, &x, &seed);
        let grids = choice.grids(&table(1 + rows), how).unwrap();
        assert_eq!(grids.len(), if choice.row { rows } else { 1 });
        let mut damped = vec![0.0; of_table.len()];
        for (row, grid) in grids.iter().enumerate() {
            let part = if choice.row { row * cols..(row + 1) * cols } else { 0..rows * cols };
            let (x, g) = (&x.get::<f32>().unwrap()[part.clone()], &seed.get::<f32>().unwrap()[part.clone()]);
            let (mut needs, mut back) = (vec![0.0; x.len()], g.to_vec());
            fake_quantize(Level::best(), *grid, x, &mut needs);
            let slopes = fake_quantize_back(Level::best(), *grid, x, &mut back);
            assert_eq!((&made[part.clone()], &own[part]), (&needs[..], &back[..]));
            let high = f64::from(grid.codes().1);
            let count = (rows * cols) as f64;
            let damping =
                if choice.row { 2.0 / (high * count / cols as f64).sqrt() } else { 1.0 / (high * count).sqrt() };
            let (step, offset) = choice.places(row + usize::from(choice.row));
            damped[step] = (slopes.step * damping) as f32;
            offset.into_iter().for_each(|at| damped[at] = (slopes.offset * damping) as f32);
        }
        assert_eq!(of_table, damped, "no other number of the table has a gradient");
    }
}

#[test]
fn rows_of_a_matrix_that_lies_the_other_way_are_its_columns() {
    let (rows, cols) = (5, 4);
    let x = numbers(rows * cols, 5);
    let other: Vec<f32> = (0..rows * cols).map(|at| x[at % rows * cols + at / rows]).collect();
    assert_eq!(transposed(&other, rows), x);
    let of = |shape: [usize; 2], x: &[f32]| Tensor::of(shape, x.to_vec()).unwrap();
    let choice = choice(3, true, true);
    let how = |turned| Quantizer { signed: true, turned };
    let [made, own, _] = through(how(true), choice, &of([rows, cols], &x), &of([rows, cols], &x));
    let [needs, back, _] = through(how(false), choice, &of([cols, rows], &other), &of([cols, rows], &other));
    assert_eq!((transposed(&made, cols), transposed(&own, cols)), (needs, back));
}

#[test]
fn a_step_below_zero_counts_by_its_magnitude() {
    let choice = choice(4, false, false);
    let mut all = table(1);
    let (step, _) = choice.places(0);
    let how = Quantizer { signed: true, turned: false };
    let grid = choice.grids(&all, how).unwrap();
    all[step] = -all[step];
    assert_eq!(choice.grids(&all, how).unwrap(), grid);
}

#[test]
fn other_tables_and_choices_are_refused() {
    assert!(Choice::read(&[9, 0, 0]).is_err() && Choice::read(&[-1, 0, 0]).is_err() && Choice::read(&[4, 0]).is_err());
    let how = Quantizer { signed: false, turned: false };
    assert!(choice(8, false, true).grids(&[0.1; 20], how).is_err());
    assert!(choice(8, true, false).grids(&[0.1; SET], how).is_err());
}
