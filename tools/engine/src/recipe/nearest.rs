//! What may have been meant by a word, a glob or a scheme that means nothing.

use niwaki_codes::{BlockType, Scheme};

use crate::error::{Error, ErrorKind};

/// Letters of a text that are looked at.
const LETTERS: usize = 256;

/// The candidate nearest to `text` by edit distance, where one is near enough to have been meant.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text: Vec<char> = text.chars().take(LETTERS).collect();
    let scored = candidates.into_iter().map(|c| (distance(&text, c, false), c));
    let (edits, best) = scored.min_by_key(|(edits, _)| *edits)?;
    (edits <= 1 + best.len().min(text.len()) / 3).then_some(best)
}

/// The name that a glob comes nearest to, where one is near enough to have been meant.
pub(crate) fn nearest_to_glob<'a>(glob: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let glob: Vec<char> = glob.chars().take(LETTERS).collect();
    let scored = names.into_iter().map(|name| (distance(&glob, name, true), name));
    let (edits, best) = scored.min_by_key(|(edits, _)| *edits)?;
    let letters = glob.iter().filter(|letter| !matches!(letter, '*' | '?')).count();
    (edits <= 1 + letters / 3).then_some(best)
}

/// The error of a glob that matches none of these names; `rule` says whose it is.
pub(crate) fn unmatched<'a>(rule: String, glob: &str, names: impl IntoIterator<Item = &'a str>) -> Error {
    let hint = glob_hint(glob, names).unwrap_or_else(|| "`niwaki inspect` lists the names".to_owned());
    Error::from(ErrorKind::NoMatch { rule }).hinting(hint)
}

/// The advice to somebody whose glob matches none of these names.
pub(crate) fn glob_hint<'a>(glob: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest_to_glob(glob, names).map(|name| format!("the nearest name is `{name}`; `niwaki inspect` lists all"))
}

/// The error of a word that is none of those that there are: `no criterion `wonder``, with what may have been meant.
pub(crate) fn no_such<'a>(kind: &str, text: &str, names: impl IntoIterator<Item = &'a str> + Clone) -> Error {
    let error = Error::from(ErrorKind::Usage { what: format!("no {kind} `{text}`") });
    match nearest(text, names.clone()) {
        Some(near) => error.hinting(format!("did you mean `{near}`?")),
        None => error.hinting(format!("there are {}", names.into_iter().collect::<Vec<_>>().join(", "))),
    }
}

/// Edits (insert, delete, replace) that turn `a` into `b`. In a glob, `*` is any letters and `?` is any one.
fn distance(a: &[char], b: &str, glob: bool) -> usize {
    let b: Vec<char> = b.chars().take(LETTERS).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for x in a {
        let (mut left, mut diagonal) = (usize::MAX - 1, usize::MAX - 1);
        let any = glob && *x == '*';
        for (j, up) in row.iter_mut().enumerate() {
            let above = *up;
            let y = j.checked_sub(1).and_then(|before| b.get(before));
            *up = match y {
                _ if any => above.min(left),
                None => above + 1,
                Some(y) => {
                    let same = x == y || glob && *x == '?';
                    (diagonal + usize::from(!same)).min(left + 1).min(above + 1)
                }
            };
            (left, diagonal) = (*up, above);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The scheme that `text` names.
///
/// # Errors
///
/// [`ErrorKind::Scheme`], with the nearest spelling as hint.
pub fn scheme(text: &str) -> Result<Scheme, Error> {
    text.parse().map_err(|e: niwaki_codes::Error| {
        let error = Error::from(ErrorKind::Scheme { text: text.to_owned(), why: e.to_string() });
        match repaired(&text.to_lowercase()) {
            Some(near) => error.hinting(format!("did you mean `{near}`?")),
            None => error,
        }
    })
}

/// The spelling that a scheme's text comes nearest to: word by word, in the order that they have.
fn repaired(text: &str) -> Option<String> {
    const HEADS: [&str; 11] =
        ["int2", "int3", "int4", "int5", "int6", "int7", "int8", "elastic", "fp8_e4m3", "nvfp4", "nf4"];
    const GROUPS: [&str; 2] = ["tensor", "row"];
    const SIGNS: [&str; 2] = ["sym", "affine"];
    let mut words = text.split(['/', ' ', ':']).filter(|word| !word.is_empty());
    let heads = HEADS.into_iter().chain(BlockType::ALL.map(BlockType::name));
    let head = words.next()?;
    let head = match head.strip_prefix("int").and_then(|bits| bits.parse::<u32>().ok()) {
        // Of widths the nearest is that of the nearest number.
        Some(bits) => Some(format!("int{}", bits.clamp(2, 8))),
        None => nearest(head, heads).map(str::to_owned),
    };
    let mut said = [head, None, None];
    let mut widths = None;
    for word in words {
        let word = word.strip_prefix("group").map_or_else(|| word.to_owned(), |size| format!("g{size}"));
        let size = word.strip_prefix(['g', 'b']).is_some_and(|size| size.parse().is_ok_and(|size: u32| size > 0));
        match word.as_str() {
            _ if size => said[1] = Some(word),
            "g0" | "b0" => {}
            "asym" | "asymmetric" | "zero" => said[2] = Some("affine".to_owned()),
            "symmetric" => said[2] = Some("sym".to_owned()),
            "channel" | "column" => said[1] = Some("row".to_owned()),
            list if list.starts_with(|c: char| c.is_ascii_digit()) => widths = Some(word),
            other => match nearest(other, GROUPS.into_iter().chain(SIGNS)) {
                Some(near) if SIGNS.contains(&near) => said[2] = Some(near.to_owned()),
                Some(near) => said[1] = Some(near.to_owned()),
                None => return None,
            },
        }
    }
    let [head, group, sign] = said;
    let head = head?;
    let or = |word: &Option<String>, other: &str| word.clone().unwrap_or_else(|| other.to_owned());
    let full = format!("{head}/{}/{}", or(&group, "g64"), or(&sign, "sym"));
    let listed = widths.map(|widths| format!("{head}/{}/{widths}", or(&group, "g64")));
    let candidates = listed.into_iter().chain([full, format!("{head}/{}", or(&group, "g64")), head.clone()]);
    let mut candidates = candidates.chain([format!("{head}/row")]);
    candidates.find(|near| near.parse::<Scheme>().is_ok_and(|scheme| scheme.to_string() == *near))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_that_of_fewest_edits_beside_wildcards() {
        let names = ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight"];
        let near = |glob| nearest_to_glob(glob, names);
        assert_eq!(near("model.layers.*.mpl.up_proj.weight"), Some(names[1]));
        assert_eq!(near("*.q_porj.*"), Some(names[0]));
        assert_eq!(near("lm_haed.weight"), Some(names[2]));
        assert_eq!(near("layers.?.mlp.up_proj.weight"), Some(names[1]));
        assert_eq!(near("conv1"), None);
        assert_eq!(nearest_to_glob("conv1.weight", []), None);
    }

    #[test]
    fn words_are_as_far_apart_as_the_edits_between_them() {
        let far = |a: &str, b| distance(&a.chars().collect::<Vec<_>>(), b, false);
        for (a, b, edits) in [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("*", "abc", 3)] {
            assert_eq!(far(a, b), edits, "{a} {b}");
        }
        assert_eq!(distance(&['a', '*', 'c'], "a.b.c.c", true), 0);
        assert_eq!(distance(&['*'], "", true), 0);
    }

    #[test]
    fn schemes_are_repaired_word_by_word() {
        for (typed, meant) in [
            ("int4/g32/smy", "int4/g32/sym"),
            ("int4/g32/asym", "int4/g32/affine"),
            ("int4/sym/g128", "int4/g128/sym"),
            ("INT8/ROW/SYM", "int8/row/sym"),
            ("int4", "int4/g64/sym"),
            ("int4/g32", "int4/g32/sym"),
            ("int8/channel/sym", "int8/row/sym"),
            ("elastic", "elastic/g64"),
            ("elastc/g48/2,4", "elastic/g48/2,4"),
            ("nvfp", "nvfp4"),
            ("int9/row/sym", "int8/row/sym"),
            ("int1/g0/affine", "int2/g64/affine"),
            ("q4k", "q4_k"),
            ("nf4/group64", "nf4/g64"),
            ("fp8_e4m/row", "fp8_e4m3/row"),
        ] {
            assert_eq!(scheme(typed).unwrap_err().hint(), Some(format!("did you mean `{meant}`?").as_str()), "{typed}");
        }
        for typed in ["", "/", "gibberish", "int4/g32/quite-something"] {
            assert_eq!(scheme(typed).unwrap_err().hint(), None, "{typed}");
        }
    }
}
