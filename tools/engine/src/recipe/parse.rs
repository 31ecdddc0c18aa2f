//! From TOML with its spans to typed rules: the spans give line numbers, and the order of
//! rules of different kinds, which plain deserialization loses.

use std::path::PathBuf;

use niwaki_codes::{Bits, BlockType, Elastic, GroupSize, Scheme, Widths};
use niwaki_prune::layers::Removable;
use niwaki_prune::{NofM, Pattern, Ratio};
use niwaki_quant::Fit;
use niwaki_quant::fold::{Criterion, Steps};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Action, FoldRule, LayersRule, MaskSource, PatchRule, REMOVABLE, Recipe, Rule, nearest, scheme};
use crate::error::{Error, ErrorKind};

/// The keys of each kind of rule, beyond those that all share.
const KINDS: [(&str, &[&str]); 4] = [
    ("keep", &[]),
    ("quantize", &["scheme", "fit", "fallback"]),
    ("elastic", &["widths", "group", "fit"]),
    ("mask", &["pattern"]),
];
/// The keys of a patch.
const PATCH: [&str; 3] = ["signature", "alpha", "transfer"];
const SHARED: [&str; 3] = ["tensors", "min_dims", "optional"];
const TOP: [&str; 4] = ["version", "seed", "damping", "only"];
/// The keys of what says which blocks go.
const LAYERS: [&str; 3] = ["remove", "halves", "rule"];

/// The keys of a fold.
const FOLD: [&str; 5] = ["tensors", "optional", "criterion", "alpha", "power_of_two"];
/// The exponent of `smoothquant`, where none is given.
const SMOOTH: f64 = 0.5;

/// Values by the name of the type that they must have.
type Value<'a> = Spanned<DeValue<'a>>;

pub(super) fn recipe(text: &str) -> Result<Recipe, Error> {
    let table = DeTable::parse(text).map_err(|e| {
        let line = e.span().map_or(0, |s| line(text, s.start));
        Error::from(ErrorKind::Recipe { line, what: e.message().replace('\n', ", ") })
    })?;
    Reader { text }.recipe(table.get_ref())
}

fn line(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count()
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, at: usize, what: impl Into<String>) -> Error {
        ErrorKind::Recipe { line: line(self.text, at), what: what.into() }.into()
    }

    fn recipe(&self, top: &DeTable<'_>) -> Result<Recipe, Error> {
        let mut found = Vec::new();
        let mut recipe = Recipe::default();
        let mut version = None;
        for (key, value) in top {
            let name = key.get_ref().as_ref();
            match name {
                "version" => version = Some(self.number(value, "version")?),
                "seed" => recipe.seed = self.number(value, "seed")?,
                "damping" => recipe.damping = Some(self.real(value, "damping")?),
                "only" => recipe.only = self.texts(value, "only")?,
                _ if KINDS.iter().any(|(kind, _)| *kind == name) => self.rules(name, value, &mut found)?,
                "patch" => recipe.patches = self.patches(value)?,
                "layers" => recipe.layers = self.layers(value)?,
                "fold" => recipe.folds = self.folds(value)?,
                _ => {
                    let known = TOP.into_iter().chain(KINDS.map(|k| k.0)).chain(["patch", "layers", "fold"]);
                    return Err(self.unknown(key.span().start, name, "", known));
                }
            }
        }
        match version {
            Some(1) => {}
            Some(v) => return Err(self.wrong(0, format!("version {v}; this niwaki reads 1"))),
            None => return Err(self.wrong(0, "`version = 1` is missing")),
        }
        found.sort_by_key(|(at, _)| *at);
        recipe.rules = found.into_iter().map(|(_, rule)| rule).collect();
        Ok(recipe)
    }

    fn unknown<'c>(&self, at: usize, key: &str, place: &str, known: impl Iterator<Item = &'c str>) -> Error {
        let error = self.wrong(at, format!("unknown key `{key}`{place}"));
        match nearest(key, known) {
            Some(near) => error.hinting(format!("did you mean `{near}`?")),
            None => error,
        }
    }

    /// The tables of `[[kind]]`, each with its place.
    fn tables<'t, 'i>(&self, kind: &str, value: &'t Value<'i>) -> Result<Vec<(usize, &'t DeTable<'i>)>, Error> {
        let entries = value.get_ref().as_array();
        let entries =
            entries.ok_or_else(|| self.wrong(value.span().start, format!("write `[[{kind}]]`, not `[{kind}]`")))?;
        let table = |entry: &'t Value<'i>| {
            let at = entry.span().start;
            let table = entry.get_ref().as_table();
            Ok((at, table.ok_or_else(|| self.wrong(at, format!("write `[[{kind}]]` with keys under it")))?))
        };
        entries.iter().map(table).collect()
    }

    fn rules(&self, kind: &str, value: &Value<'_>, found: &mut Vec<(usize, Rule)>) -> Result<(), Error> {
        for (at, table) in self.tables(kind, value)? {
            found.push((at, self.rule(kind, table, at)?));
        }
        Ok(())
    }

    fn layers(&self, value: &Value<'_>) -> Result<Option<LayersRule>, Error> {
        let tables = self.tables("layers", value)?;
        let [(at, table)] = tables.as_slice() else {
            let second = tables.get(1).map_or(value.span().start, |(at, _)| *at);
            return Err(self.wrong(second, format!("{} of `[[layers]]`; one names all blocks that go", tables.len())));
        };
        if let Some(key) = table.keys().find(|key| !LAYERS.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            return Err(self.unknown(key.span().start, name, " in `[[layers]]`", LAYERS.into_iter()));
        }
        let remove = self.need(table, "remove", "layers", *at)?;
        let numbers = remove.get_ref().as_array();
        let numbers = numbers.ok_or_else(|| self.expected(remove, "remove", "an array of numbers of blocks"))?;
        Ok(Some(LayersRule {
            remove: numbers.iter().map(|block| self.number(block, "remove")).collect::<Result<_, _>>()?,
            halves: table.get("halves").map_or(Ok(false), |v| self.flag(v, "halves"))?,
            rule: table.get("rule").map(|v| self.removable(v)).transpose()?,
        }))
    }

    fn removable(&self, value: &Value<'_>) -> Result<Removable, Error> {
        let text = self.text(value, "rule")?;
        let found = REMOVABLE.iter().find(|(name, _)| *name == text);
        found.map(|(_, rule)| *rule).ok_or_else(|| {
            let names = REMOVABLE.map(|(name, _)| name).join(", ");
            self.wrong(value.span().start, format!("rule `{text}`; known: {names}"))
        })
    }

    fn patches(&self, value: &Value<'_>) -> Result<Vec<PatchRule>, Error> {
        let patch = |(at, table): (usize, &DeTable<'_>)| {
            if let Some(key) = table.keys().find(|key| !PATCH.contains(&key.get_ref().as_ref())) {
                let name = key.get_ref().as_ref();
                return Err(self.unknown(key.span().start, name, " in `[[patch]]`", PATCH.into_iter()));
            }
            Ok(PatchRule {
                signature: self.text(self.need(table, "signature", "patch", at)?, "signature")?.into(),
                alpha: table.get("alpha").map_or(Ok(1.0), |v| self.real(v, "alpha"))?,
                transfer: table.get("transfer").map_or(Ok(false), |v| self.flag(v, "transfer"))?,
            })
        };
        self.tables("patch", value)?.into_iter().map(patch).collect()
    }

    fn folds(&self, value: &Value<'_>) -> Result<Vec<FoldRule>, Error> {
        let fold = |(at, table): (usize, &DeTable<'_>)| {
            if let Some(key) = table.keys().find(|key| !FOLD.contains(&key.get_ref().as_ref())) {
                let name = key.get_ref().as_ref();
                return Err(self.unknown(key.span().start, name, " in `[[fold]]`", FOLD.into_iter()));
            }
            let criterion = self.criterion(self.need(table, "criterion", "fold", at)?)?;
            let given = table.get("alpha").map(|v| self.exponent(v)).transpose()?;
            let alpha = match criterion {
                Criterion::Awq => given,
                Criterion::SmoothQuant => given.or(Some(SMOOTH)),
            };
            let powers = table.get("power_of_two").map_or(Ok(true), |v| self.flag(v, "power_of_two"))?;
            Ok(FoldRule {
                tensors: self.text(self.need(table, "tensors", "fold", at)?, "tensors")?.to_owned(),
                optional: table.get("optional").map_or(Ok(false), |v| self.flag(v, "optional"))?,
                criterion,
                alpha,
                steps: if powers { Steps::PowersOfTwo } else { Steps::Any },
            })
        };
        self.tables("fold", value)?.into_iter().map(fold).collect()
    }

    fn criterion(&self, value: &Value<'_>) -> Result<Criterion, Error> {
        let text = self.text(value, "criterion")?;
        text.parse().map_err(|_| {
            let known = Criterion::ALL.map(Criterion::name);
            let error = self.wrong(value.span().start, format!("criterion `{text}`; known: {}", known.join(", ")));
            match nearest(text, known) {
                Some(near) => error.hinting(format!("did you mean `{near}`?")),
                None => error,
            }
        })
    }

    /// A number from 0 to 1.
    fn exponent(&self, value: &Value<'_>) -> Result<f64, Error> {
        let number = self.real(value, "alpha")?;
        let within = (0.0..=1.0).contains(&number);
        within.then_some(number).ok_or_else(|| {
            self.wrong(value.span().start, format!("`alpha` is {number}; expected a number from 0 to 1"))
        })
    }

    fn real(&self, value: &Value<'_>, key: &str) -> Result<f64, Error> {
        let number = match value.get_ref() {
            DeValue::Float(f) => f.as_str().parse().ok(),
            DeValue::Integer(i) => i.as_str().parse().ok(),
            _ => None,
        };
        let number: f64 = number.ok_or_else(|| self.expected(value, key, "a number"))?;
        let finite = number.is_finite();
        finite
            .then_some(number)
            .ok_or_else(|| self.wrong(value.span().start, format!("`{key}` is {number}; expected a finite number")))
    }

    fn rule(&self, kind: &str, table: &DeTable<'_>, at: usize) -> Result<Rule, Error> {
        let own = KINDS.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, keys)| keys);
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !own.contains(&name) && !SHARED.contains(&name) {
                let known = own.iter().copied().chain(SHARED);
                return Err(self.unknown(key.span().start, name, &format!(" in `[[{kind}]]`"), known));
            }
        }
        let fit = |default| table.get("fit").map_or(Ok(default), |v| self.fit(v));
        let action = match kind {
            "keep" => Action::Keep,
            "quantize" => {
                let scheme = self.scheme(self.need(table, "scheme", kind, at)?)?;
                let fallback = table.get("fallback").map(|v| self.fallback(v, scheme)).transpose()?;
                Action::Encode { scheme, fit: fit(Fit::MinMax)?, fallback }
            }
            "elastic" => Action::Encode { scheme: self.elastic(table)?, fit: fit(Fit::MinMax)?, fallback: None },
            _ => Action::Mask(self.pattern(self.need(table, "pattern", kind, at)?)?),
        };
        Ok(Rule {
            tensors: self.text(self.need(table, "tensors", kind, at)?, "tensors")?.to_owned(),
            min_dims: table.get("min_dims").map_or(Ok(0), |v| self.number(v, "min_dims"))?,
            optional: table.get("optional").map_or(Ok(false), |v| self.flag(v, "optional"))?,
            action,
        })
    }

    fn need<'t, 'i>(&self, table: &'t DeTable<'i>, key: &str, kind: &str, at: usize) -> Result<&'t Value<'i>, Error> {
        table.get(key).ok_or_else(|| self.wrong(at, format!("`[[{kind}]]` needs `{key}`")))
    }

    fn expected(&self, value: &Value<'_>, key: &str, wanted: &str) -> Error {
        self.wrong(value.span().start, format!("`{key}` is a {}; expected {wanted}", value.get_ref().type_str()))
    }

    fn text<'t>(&self, value: &'t Value<'_>, key: &str) -> Result<&'t str, Error> {
        value.get_ref().as_str().ok_or_else(|| self.expected(value, key, "a string"))
    }

    fn texts(&self, value: &Value<'_>, key: &str) -> Result<Vec<String>, Error> {
        let all = value.get_ref().as_array().ok_or_else(|| self.expected(value, key, "an array of strings"))?;
        all.iter().map(|v| self.text(v, key).map(str::to_owned)).collect()
    }

    fn flag(&self, value: &Value<'_>, key: &str) -> Result<bool, Error> {
        value.get_ref().as_bool().ok_or_else(|| self.expected(value, key, "true or false"))
    }

    fn number<N: TryFrom<u64>>(&self, value: &Value<'_>, key: &str) -> Result<N, Error> {
        let digits = value.get_ref().as_integer().ok_or_else(|| self.expected(value, key, "a whole number"))?;
        let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok().and_then(|n| N::try_from(n).ok());
        number.ok_or_else(|| self.wrong(value.span().start, format!("`{key}` is {}, out of range", digits.as_str())))
    }

    fn ratio(&self, value: &Value<'_>) -> Result<Ratio, Error> {
        let number = self.real(value, "keep")?;
        Ratio::new(number).map_err(|e| self.wrong(value.span().start, e.to_string()))
    }

    fn scheme(&self, value: &Value<'_>) -> Result<Scheme, Error> {
        scheme(self.text(value, "scheme")?).map_err(|e| {
            let at = self.wrong(value.span().start, e.to_string());
            match e.hint() {
                Some(hint) => at.hinting(hint),
                None => at,
            }
        })
    }

    /// Blocks that stand in for others.
    fn fallback(&self, value: &Value<'_>, scheme: Scheme) -> Result<BlockType, Error> {
        let text = self.text(value, "fallback")?;
        match (BlockType::from_name(text), scheme) {
            (Some(kind), Scheme::Block(_)) => Ok(kind),
            (Some(_), other) => {
                Err(self.wrong(value.span().start, format!("`fallback` is for blocks; {other} holds every row")))
            }
            (None, _) => Err(self.wrong(value.span().start, format!("`fallback = \"{text}\"` names no blocks"))),
        }
    }

    fn fit(&self, value: &Value<'_>) -> Result<Fit, Error> {
        let text = self.text(value, "fit")?;
        text.parse().map_err(|_| {
            self.wrong(value.span().start, format!("fit `{text}`; known: min_max, clip, lsq, gptq, gptq_order"))
        })
    }

    fn elastic(&self, table: &DeTable<'_>) -> Result<Scheme, Error> {
        let group: usize = table.get("group").map_or(Ok(64), |v| self.number(v, "group"))?;
        let at = |key: &str| table.get(key).map_or(0, |v| v.span().start);
        let group = GroupSize::new(group).map_err(|e| self.wrong(at("group"), e.to_string()))?;
        let Some(value) = table.get("widths") else {
            return Ok(Scheme::Elastic(Elastic { group, widths: Widths::ALL }));
        };
        let list = value.get_ref().as_array().ok_or_else(|| self.expected(value, "widths", "an array of 2 to 8"))?;
        let mut widths = Vec::new();
        for v in list.iter() {
            let bits = Bits::new(self.number(v, "widths")?);
            widths.push(bits.map_err(|e| self.wrong(v.span().start, e.to_string()))?);
        }
        let widths = Widths::new(widths).map_err(|e| self.wrong(at("widths"), e.to_string()))?;
        Ok(Scheme::Elastic(Elastic { group, widths }))
    }

    fn pattern(&self, value: &Value<'_>) -> Result<MaskSource, Error> {
        let forms = "{ keep = RATIO }, { n = N, m = M } or { file = PATH }";
        let table = value.get_ref().as_table().ok_or_else(|| self.expected(value, "pattern", forms))?;
        let mut keys: Vec<&str> = table.keys().map(|k| k.get_ref().as_ref()).collect();
        keys.sort_unstable();
        let get = |key: &str| table.get(key).ok_or_else(|| self.expected(value, "pattern", forms));
        match keys[..] {
            ["keep"] => Ok(MaskSource::Magnitude(Pattern::Keep(self.ratio(get("keep")?)?))),
            ["m", "n"] => {
                let (n, m) = (self.number(get("n")?, "n")?, self.number(get("m")?, "m")?);
                let pattern = NofM::new(n, m).map(Pattern::NofM);
                pattern.map(MaskSource::Magnitude).map_err(|e| self.wrong(value.span().start, e.to_string()))
            }
            ["file"] => Ok(MaskSource::File(PathBuf::from(self.text(get("file")?, "file")?))),
            _ => Err(self.wrong(value.span().start, format!("`pattern` is none of {forms}"))),
        }
    }
}
