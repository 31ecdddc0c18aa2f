use super::*;
use crate::attributes::Attribute;
use crate::operator::Pool;

fn run(equation: &str, inputs: Vec<Tensor>) -> Result<Tensor, Fault> {
    let mut definition = Definition { op: "Einsum".to_owned(), ..Definition::default() };
    definition.attributes.insert("equation".to_owned(), Attribute::Text(equation.to_owned()));
    let pool = Pool::default();
    let mut inputs = Inputs::new(inputs.into_iter().map(Some).collect());
    Ok(build(&definition)?.unwrap().run(&mut inputs, &Context::new(1 << 30, &pool))?.remove(0))
}

/// 1, 2, 3, .. in that shape.
fn counted(shape: &[usize]) -> Tensor {
    Tensor::of(shape, (1..=shape.iter().product::<usize>()).map(|x| x as f32).collect()).unwrap()
}

fn check(equation: &str, inputs: Vec<Tensor>, shape: &[usize], all: &[f32]) {
    let out = run(equation, inputs).unwrap();
    assert_eq!((out.shape(), out.get::<f32>().unwrap()), (shape, all), "{equation}");
}

#[test]
fn equations_of_one_term() {
    check("ij->ji", vec![counted(&[2, 2])], &[2, 2], &[1.0, 3.0, 2.0, 4.0]);
    check("ij -> i", vec![counted(&[2, 2])], &[2], &[3.0, 7.0]);
    check("ii->i", vec![counted(&[2, 2])], &[2], &[1.0, 4.0]);
    check("ii", vec![counted(&[2, 2])], &[], &[5.0]);
    check("ba", vec![counted(&[2, 2])], &[2, 2], &[1.0, 3.0, 2.0, 4.0]);
    check("...ii->...i", vec![counted(&[2, 2, 2])], &[2, 2], &[1.0, 4.0, 5.0, 8.0]);
}

#[test]
fn equations_of_several_terms() {
    let square = || counted(&[2, 2]);
    check("ij,jk", vec![square(), square()], &[2, 2], &[7.0, 10.0, 15.0, 22.0]);
    check("ij,kj->ik", vec![square(), square()], &[2, 2], &[5.0, 11.0, 11.0, 25.0]);
    check("i,j->ij", vec![counted(&[2]), counted(&[2])], &[2, 2], &[1.0, 2.0, 2.0, 4.0]);
    check("ij,ij->", vec![square(), square()], &[], &[30.0]);
    check("ij,k->i", vec![square(), counted(&[2])], &[2], &[9.0, 21.0]);
    check("bij,bjk->bik", vec![counted(&[2, 1, 2]), counted(&[2, 2, 1])], &[2, 1, 1], &[5.0, 25.0]);
    check("...ij,...jk->...ik", vec![counted(&[2, 1, 2]), counted(&[2, 1])], &[2, 1, 1], &[5.0, 11.0]);
    check("i,ij,j->", vec![counted(&[2]), square(), counted(&[2])], &[], &[27.0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    for equation in ["", "i->j", "ij", "i->ii", "i,i", "......->", "i->i->i", "1"] {
        assert!(run(equation, vec![counted(&[2])]).is_err(), "{equation}");
    }
    assert!(run("i,i", vec![counted(&[2]), counted(&[3])]).is_err());
}
