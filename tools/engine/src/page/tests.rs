use super::*;
use serde_json::json;

/// Names that would be more than names if they were not escaped.
const HOSTILE: &str = "<script>alert(1)</script>\"'&amp;\u{0}\u{202E}";

fn of(answers: &[Value]) -> String {
    let sections: Vec<_> = answers.iter().map(|answer| answers::section(HOSTILE.to_owned(), answer).unwrap()).collect();
    html::document(&across::sections(&sections), &sections)
}

fn hostile() -> Vec<Value> {
    let compress = json!({
        "version": 1, "input_bytes": 4000, "output_bytes": 600, "bits_per_weight": 4.5,
        "tensors": [
            {"name": HOSTILE, "shape": [10, 100], "fate": "elastic", "scheme": HOSTILE, "bytes_before": 4000,
             "bytes_after": 600, "sqnr_db": 21.5, "widths": {"2": 6.0, "8": 42.0, HOSTILE: 1.0}},
            {"name": 7, "shape": "no", "fate": null, "sqnr_db": "high", "bytes_after": -1.5},
            null, [], {},
        ],
    });
    let eval = json!({"examples": 10, "accuracy": 0.9, "loss": 1e308, "perplexity": null});
    let search = json!({"recipe": HOSTILE, "tensors": [{"name": HOSTILE, "scheme": HOSTILE, "bytes": 1, "loss": 0.5}],
                        "bits_per_weight": 3.0, "bytes": 5, "loss": 0.1, "gap": 0.0});
    let forms = json!({"forms": [
        {"form": "w4a8/row/sym", "accuracy": 0.8, "loss": 0.7, "weight_ratio": 8.0},
        {"form": HOSTILE, "accuracy": 0.1}, {"form": "w/", "accuracy": 0.1}, {"form": "w99999999999999999999a8/x"},
    ]});
    let candidates = json!({"rmse": 0.1, "tau": null, "pairs": 3, "candidates": [
        {"by": HOSTILE, "bits": [2, HOSTILE], "average": [3.5, 4.0], "accuracy": 0.7, "predicted": 0.6, "loss": 1.0},
        {"by": "random", "average": [], "accuracy": "x"},
    ]});
    let compare =
        json!({"sqnr_db": null, "tensors": [{"name": HOSTILE, "sqnr_db": -3.0, "max_abs": 0.1, "cosine": 1.0}]});
    let train = json!({"epochs": [{"epoch": 1, "loss": 2.0}, {"epoch": HOSTILE, "loss": 1.0}], "steps": 2});
    let mask = json!({"kept": 1, "weights": 10, "tensors": [{"name": HOSTILE, "shape": [10], "kept": 1}]});
    let calibrate =
        json!({"examples": 4, "layers": 2, "grams": 1, "without_gram": [HOSTILE], "unreached": [], "bytes": 9});
    let extract = json!({"copy_bytes": 4, "layers": [{"name": HOSTILE, "relative_difference": 0.1, "energy": 0.5, "kept": true}]});
    vec![compress, eval, search, forms, candidates, compare, train, mask, calibrate, extract]
}

#[test]
fn names_are_text_wherever_they_stand() {
    let page = of(&hostile());
    assert!(!page.contains("<script") && !page.contains('\u{0}') && !page.contains('\u{202E}'));
    // Every tag that is opened is one of the page's own.
    let known = [
        "!DOCTYPE",
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "h1",
        "h2",
        "nav",
        "ul",
        "li",
        "a",
        "section",
        "small",
        "code",
        "dl",
        "div",
        "dt",
        "dd",
        "figure",
        "figcaption",
        "svg",
        "g",
        "line",
        "text",
        "path",
        "polyline",
        "rect",
        "details",
        "summary",
        "pre",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    ];
    for tag in page.split('<').skip(1) {
        let name = tag.trim_start_matches('/').split([' ', '>', '/', '\n']).next().unwrap();
        assert!(known.contains(&name), "{name}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;amp;\u{FFFD}\u{FFFD}"));
}

#[test]
fn every_element_that_is_opened_is_closed() {
    let page = of(&hostile());
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1) {
        let inside = tag.split('>').next().unwrap();
        let name = inside.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !inside.ends_with('/') && !["!DOCTYPE", "meta"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn nothing_comes_from_elsewhere_and_the_same_answers_make_the_same_page() {
    let page = of(&hostile());
    for outside in ["http:", "https:", "//", "src=", "url(", "@import", "<link", "javascript:"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page, of(&hostile()));
}

#[test]
fn answers_that_say_nothing_are_refused() {
    let refused = |answer: Value| answers::section(String::new(), &answer).unwrap_err();
    assert_eq!(refused(json!({"error": {"message": "no"}})), "is the answer of a run that failed: no");
    for other in [json!({}), json!([]), json!(null), json!({"version": 1, "ok": true, "faults": []})] {
        assert_eq!(refused(other), "is no answer of a verb to `--json` of which a page is made");
    }
}
