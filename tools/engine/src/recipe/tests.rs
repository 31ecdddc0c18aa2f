//! Recipes as text: what is read, in which order, and what is refused.

use super::*;

fn message(text: &str) -> (String, Option<String>) {
    let e = Recipe::parse(text).unwrap_err();
    (e.to_string(), e.hint().map(str::to_owned))
}

#[test]
fn rules_of_different_kinds_keep_the_order_of_the_text() {
    let text = "version = 1\n[[quantize]]\ntensors = \"a\"\nscheme = \"int4/g64/sym\"\n[[keep]]\ntensors = \"b\"\n\
                [[quantize]]\ntensors = \"c\"\nscheme = \"int8/row/sym\"\nfit = \"clip\"\n";
    let names: Vec<_> = Recipe::parse(text).unwrap().rules.iter().map(|r| r.tensors.clone()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn the_canonical_text_reads_back_as_the_same_recipe() {
    let text = "version = 1\nseed = 7\nonly = [\"l.*\"]\n[[elastic]]\ntensors = \"l.{a,b}\"\nwidths = [2, 4]\ngroup = 32\n\
                [[mask]]\ntensors = \"*\"\npattern = { keep = 0.1 }\n[[mask]]\ntensors = \"x\\\"y\"\npattern = { n = 2, m = 4 }\n\
                [[mask]]\ntensors = \"z\"\npattern = { file = \"m.safetensors\" }\noptional = true\n[[layers]]\nremove = [7, 4]\nrule = \"any\"\nhalves = true\n\
                [[fold]]\ntensors = \"*\"\ncriterion = \"awq\"\n[[fold]]\ntensors = \"*.down\"\ncriterion = \"smoothquant\"\n\
                power_of_two = false\noptional = true\n[[keep]]\ntensors = \"n\"\nmin_dims = 1\n";
    let recipe = Recipe::parse(text).unwrap();
    let canonical = recipe.to_string();
    assert_eq!(Recipe::parse(&canonical).unwrap(), recipe);
    assert_eq!(Recipe::parse(&canonical).unwrap().to_string(), canonical);
}

#[test]
fn unknown_keys_are_named_with_their_line_and_the_nearest_known_one() {
    assert_eq!(
        message("version = 1\n[[quantize]]\ntensor = \"a\"\nscheme = \"int4/g64/sym\"\n"),
        ("recipe line 3: unknown key `tensor` in `[[quantize]]`".into(), Some("did you mean `tensors`?".into()))
    );
    assert_eq!(
        message("version = 1\n[[quantise]]\ntensors = \"a\"\n"),
        ("recipe line 2: unknown key `quantise`".into(), Some("did you mean `quantize`?".into()))
    );
}

#[test]
fn wrong_values_say_what_was_found_and_expected() {
    let cases = [
        ("version = 2\n", "recipe line 1: version 2; this niwaki reads 1"),
        ("", "recipe line 1: `version = 1` is missing"),
        ("version = 1\n[keep]\ntensors = \"a\"\n", "recipe line 2: write `[[keep]]`, not `[keep]`"),
        ("version = 1\n[[keep]]\ntensors = 3\n", "recipe line 3: `tensors` is a integer; expected a string"),
        ("version = 1\n[[keep]]\n", "recipe line 2: `[[keep]]` needs `tensors`"),
        ("version = 1\n[[elastic]]\ntensors = \"a\"\nwidths = [1]\n", "recipe line 4: bit-width 1; served: 2 to 8"),
        (
            "version = 1\n[[quantize]]\ntensors = \"a\"\nscheme = \"int4/row/sym\"\nfit = \"best\"\n",
            "recipe line 5: fit `best`; known: min_max, clip, lsq, gptq, gptq_order",
        ),
        ("version = 1\n[[layers]]\nremove = [-1]\n", "recipe line 3: `remove` is -1, out of range"),
        ("version = 1\n[[layers]]\nremov = [1]\n", "recipe line 3: unknown key `remov` in `[[layers]]`"),
        (
            "version = 1\n[[layers]]\nremove = [1]\n[[layers]]\nremove = [2]\n",
            "recipe line 4: 2 of `[[layers]]`; one names all blocks that go",
        ),
        (
            "version = 1\n[[layers]]\nremove = [1]\nrule = \"all\"\n",
            "recipe line 4: rule `all`; known: code, paper, any",
        ),
        ("version = 1\n[[layers]]\nrule = \"any\"\n", "recipe line 2: `[[layers]]` needs `remove`"),
        (
            "version = 1\n[[fold]]\ntensors = \"*\"\ncriterion = \"awk\"\n",
            "recipe line 4: criterion `awk`; known: awq, smoothquant",
        ),
        (
            "version = 1\n[[fold]]\ntensors = \"*\"\ncriterion = \"awq\"\nalpha = 1.5\n",
            "recipe line 5: `alpha` is 1.5; expected a number from 0 to 1",
        ),
        (
            "version = 1\n[[fold]]\ntensors = \"*\"\ncriterion = \"awq\"\nalpha = -0.1\n",
            "recipe line 5: `alpha` is -0.1; expected a number from 0 to 1",
        ),
        (
            "version = 1\n[[fold]]\ntensors = \"*\"\ncriterion = \"awq\"\nalpha = nan\n",
            "recipe line 5: `alpha` is NaN; expected a finite number",
        ),
        ("version = 1\n[[fold]]\ntensors = \"*\"\n", "recipe line 2: `[[fold]]` needs `criterion`"),
        ("version = 1\n[[fold]]\ncriterion = \"awq\"\n", "recipe line 2: `[[fold]]` needs `tensors`"),
        (
            "version = 1\n[[fold]]\ntensors = \"*\"\ncriterion = \"awq\"\nmin_dims = 2\n",
            "recipe line 5: unknown key `min_dims` in `[[fold]]`",
        ),
        ("version = 1\n[[patch]]\nalpha = 1\n", "recipe line 2: `[[patch]]` needs `signature`"),
    ];
    for (text, expected) in cases {
        assert_eq!(message(text).0, expected);
    }
}

#[test]
fn every_preset_is_a_recipe_whose_first_rule_takes_the_scheme() {
    let scheme = scheme("int4/g32/affine").unwrap();
    for preset in Preset::ALL {
        let recipe = preset.recipe(scheme, Fit::Clip).unwrap();
        assert_eq!(recipe.rules[0].action, Action::Encode { scheme, fit: Fit::Clip, fallback: None });
        assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
    }
}

#[test]
fn a_mistyped_scheme_gets_the_nearest_spelling() {
    let cases = [("int4/64/sym", "int4/g64/sym"), ("q4_K", "q4_k"), ("Q8_0", "q8_0"), ("iq4nl", "iq4_nl")];
    for (text, meant) in cases {
        let e = scheme(text).unwrap_err();
        assert_eq!(e.hint(), Some(&*format!("did you mean `{meant}`?")));
    }
}

#[test]
fn a_fold_has_the_exponent_of_its_paper_unless_it_is_searched() {
    let text = |more: &str| format!("version = 1\n[[fold]]\ntensors = \"*\"\n{more}\n");
    let fold = |more: &str| Recipe::parse(&text(more)).unwrap().folds.remove(0);
    let smooth = fold("criterion = \"smoothquant\"");
    assert_eq!((smooth.criterion, smooth.alpha, smooth.steps), (Criterion::SmoothQuant, Some(0.5), Steps::PowersOfTwo));
    let awq = fold("criterion = \"awq\"\npower_of_two = false");
    assert_eq!((awq.criterion, awq.alpha, awq.steps), (Criterion::Awq, None, Steps::Any));
    assert_eq!(fold("criterion = \"awq\"\nalpha = 1").alpha, Some(1.0));
}
