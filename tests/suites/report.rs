//! The page of figures: what is on it, and how it looks in a browser where there is one.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::process::Command;

use niwaki_conformance::checkpoints::{f32s, weights, write};
use niwaki_conformance::cli::niwaki;
use niwaki_conformance::folder::{Folder, bundled, fashion, part_of_sample, sample};
use serde_json::json;

/// Files of every kind that a page is made of, in a folder.
fn files(folder: &Folder) -> Vec<String> {
    let at = |name: &str| folder.at(name);
    let mut all = Vec::new();
    for scheme in ["int2/row/affine", "int4/row/affine"] {
        let bits = &scheme[..4];
        let (file, eval) = (at(&format!("{bits}.safetensors")), at(&format!("eval-{bits}.json")));
        let report = niwaki(["compress", &fashion(), "--scheme", scheme, "-o", &file, "--json"]).ok().out;
        std::fs::write(at(&format!("{bits}.json")), report).unwrap();
        let args = ["eval", &bundled("model.onnx"), "--weights", &file, "--data", &sample(), "--limit", "50", "--json"];
        std::fs::write(&eval, niwaki(args).ok().out).unwrap();
        all.extend([file, eval]);
    }
    let made = |name: &str, args: &[&str]| {
        niwaki(args.iter().copied().chain(["-o", &at(name)])).ok();
        at(name)
    };
    all.push(made("elastic.safetensors", &["compress", &fashion(), "--scheme", "elastic/g64"]));
    let recipe = at("recipe.toml");
    let rules = "[[quantize]]\ntensors = \"conv*.weight\"\nscheme = \"int8/row/sym\"\n\
                 [[mask]]\ntensors = \"fc*.weight\"\npattern = { keep = 0.25 }\n";
    std::fs::write(&recipe, format!("version = 1\n{rules}")).unwrap();
    all.push(made("sparse.safetensors", &["compress", &fashion(), "-r", &recipe]));
    all.push(recipe);
    let score = ["mask", "score", &bundled("model.onnx"), "--by", "magnitude", "--sparsity", "0.9"];
    all.push(made("mask.safetensors", &score));
    let moved = |name: &str, by: f32| {
        let all: Vec<f32> = weights(1, 6400).iter().map(|w| w + by * w * w).collect();
        let tensors = [
            ("a.weight", "F32", &[40, 80][..], f32s(&all[..3200])),
            ("b.weight", "F32", &[40, 80], f32s(&all[3200..])),
        ];
        write(at(name), &tensors);
        at(name)
    };
    let (init, standard, robust) = (moved("init.st", 0.0), moved("standard.st", 1.0), moved("robust.st", 4.0));
    let extract = ["signature", "extract", "--init", &init, "--standard", &standard, "--robust", &robust];
    all.push(made("robust.safetensors", &extract));
    let few = part_of_sample(folder, "few.safetensors", 0..64);
    let args = ["elastic", "train", &bundled("model.onnx"), "--data", &few, "--epochs", "1", "-q"];
    let epochs = made("net.safetensors", &args);
    all.push(epochs);
    let forms = json!({"version": 1, "forms": [
        {"form": "w8a8/row/sym", "accuracy": 0.91, "loss": 0.3, "weight_ratio": 4.0},
        {"form": "w2a2/row/sym", "accuracy": 0.83, "loss": 0.6, "weight_ratio": 16.0},
    ]});
    std::fs::write(at("forms.json"), forms.to_string()).unwrap();
    all.extend([at("forms.json"), at("int4.json"), fashion()]);
    all
}

fn report(folder: &Folder, files: &[String], name: &str) -> String {
    let out = folder.at(name);
    let said = niwaki(["report"].into_iter().chain(files.iter().map(String::as_str)).chain(["-o", &out])).ok().out;
    assert!(said.starts_with(&format!("wrote {out}, ")), "{said}");
    out
}

#[test]
fn a_page_says_what_every_file_says() {
    let folder = Folder::new("report");
    let files = files(&folder);
    let page = std::fs::read_to_string(report(&folder, &files, "page.html")).unwrap();
    for (what, why) in [
        ("Accuracy by bits", "two files with evals, and forms"),
        ("not beaten by another", "the line of those that no other beats"),
        ("w2a2/row/sym", "a form"),
        ("Noise by width", "the elastic file"),
        ("Density of each mask", "the mask file, and the sparse file"),
        ("relative difference", "the signature"),
        ("kurtosis", "the elastic network"),
        ("Rules; the last that matches holds", "the recipe"),
        ("int8/row/sym", "a scheme of it"),
        ("Size of each tensor", "the checkpoint"),
    ] {
        assert!(page.contains(what), "`{what}`: {why}");
    }
    // The same files, the same bytes; and nothing of where they lie.
    assert_eq!(page, std::fs::read_to_string(report(&folder, &files, "again.html")).unwrap());
    assert!(!page.contains(&*folder.path().to_string_lossy()));
    let json = niwaki(["report", &files[0], "--json", "-o", &folder.at("json.html")]).ok().json();
    assert_eq!(json["output_bytes"].as_u64(), Some(std::fs::metadata(folder.at("json.html")).unwrap().len()));
}

#[test]
fn names_in_files_are_text_on_the_page() {
    let folder = Folder::new("report");
    let file = folder.at("<b>&.safetensors");
    write(&file, &[("</code><script>alert(1)</script>", "F32", &[4, 64], f32s(&weights(1, 256)))]);
    let small = folder.at("\"'<i>.safetensors");
    niwaki(["compress", &file, "--scheme", "int4/g32/sym", "-o", &small]).ok();
    let page = std::fs::read_to_string(report(&folder, &[file, small], "page.html")).unwrap();
    assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("<i>"));
    assert!(page.contains("&lt;/code&gt;&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.contains("<code>&lt;b&gt;&amp;.safetensors</code>"));
}

#[test]
fn what_no_page_is_made_of_is_refused_and_nothing_is_written() {
    let folder = Folder::new("report");
    let out = folder.at("page.html");
    let refused = |name: &str, text: &str, why: &str| {
        let path = folder.at(name);
        std::fs::write(&path, text).unwrap();
        assert_eq!(niwaki(["report", &fashion(), &path, "-o", &out]).error(), format!("`{path}`: {why}"));
        assert!(!std::fs::exists(&out).unwrap());
    };
    let nothing = "is no answer of a verb to `--json` of which a page is made";
    refused("verify.json", "{\"version\":1,\"ok\":true,\"faults\":[]}", nothing);
    refused("list.json", "[1, 2]", nothing);
    let failed = "{\"version\":1,\"error\":{\"message\":\"no verb given\"}}";
    refused("error.json", failed, "is the answer of a run that failed: no verb given");
    refused("cut.json", "{\"version\":1,", "is no JSON: EOF while parsing a value at line 1 column 13");
    refused("bytes.json", "", "is no JSON: EOF while parsing a value at line 1 column 0");
    refused("bad.toml", "version = 2\n", "recipe line 1: version 2; this niwaki reads 1");
    std::fs::write(&out, "mine").unwrap();
    assert_eq!(niwaki(["report", &fashion(), "-o", &out]).error(), format!("`{out}`: exists already"));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
    niwaki(["report", &fashion(), "-o", &out, "--force"]).ok();
    assert!(niwaki(["report", "-o", &out]).error().starts_with("missing `FILES"));
}

/// A browser, where one is installed.
fn browser() -> Option<&'static str> {
    let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|done| done.status.success());
    ["chromium", "chromium-browser", "google-chrome", "chrome"].into_iter().find(runs)
}

/// Runs the browser without a window, in a fresh profile.
fn browse(browser: &str, folder: &Folder, width: u32, dark: bool, last: &[String]) -> Vec<u8> {
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]);
    command.args(["--force-device-scale-factor=1", "--no-first-run"]);
    command.arg(format!("--user-data-dir={}", folder.at("profile"))).arg(format!("--window-size={width},1600"));
    // 0 is dark, 1 is light.
    command.arg(format!("--blink-settings=preferredColorScheme={}", u32::from(!dark)));
    let done = command.args(last).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// The pixels of a screenshot as RGB.
fn pixels(path: &str) -> (u32, Vec<[u8; 3]>) {
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let each = info.color_type.samples();
    (info.width, bytes[..info.buffer_size()].chunks_exact(each).map(|p| [p[0], p[1], p[2]]).collect())
}

fn brightness(pixel: [u8; 3]) -> u32 {
    pixel.iter().map(|part| u32::from(*part)).sum()
}

#[test]
fn it_looks_right_light_and_dark_narrow_and_wide() {
    let Some(browser) = browser() else {
        println!("skipped: no chromium");
        return;
    };
    let folder = Folder::new("report");
    let page = report(&folder, &files(&folder), "page.html");
    // The page itself has no script, and forbids any: a copy of it gets one that says how wide it is.
    let text = std::fs::read_to_string(&page).unwrap();
    let policy = text.lines().find(|line| line.contains("Content-Security-Policy")).unwrap();
    let script = "parent.postMessage([innerWidth, document.documentElement.scrollWidth].join(' '), '*')";
    let script = format!("<script>{script}</script></body>");
    std::fs::write(folder.at("measured.html"), text.replace(policy, "").replace("</body>", &script)).unwrap();
    for width in [360, 1400] {
        for dark in [false, true] {
            let shot = folder.at(&format!("{width}-{dark}.png"));
            browse(browser, &folder, width, dark, &[format!("--screenshot={shot}"), format!("file://{page}")]);
            let (wide, all) = pixels(&shot);
            assert_eq!(wide, width);
            let colours: BTreeSet<[u8; 3]> = all.iter().copied().collect();
            assert!(colours.len() > 20, "{} colours at {width}", colours.len());
            let ground = brightness(all[0]);
            assert!(if dark { ground < 150 } else { ground > 700 }, "{ground} at {width}, dark: {dark}");
            // Text stands out: something is far from the ground.
            let far = |pixel: &[u8; 3]| brightness(*pixel).abs_diff(ground) > 450;
            assert!(all.iter().filter(|pixel| far(pixel)).count() > 500, "at {width}, dark: {dark}");
        }
        assert_eq!(measured_in_a_frame(browser, &folder, width), format!("{width} {width}"), "its width is another");
    }
}

/// Width of a frame, and of the page that is in it. Windows have a least width, frames have not.
fn measured_in_a_frame(browser: &str, folder: &Folder, width: u32) -> String {
    let frame = format!(
        "<title></title><script>onmessage = said => document.title = said.data</script>\
         <iframe src=\"measured.html\" style=\"width: {width}px; height: 1600px; border: 0\"></iframe>"
    );
    let around = folder.at(&format!("{width}.html"));
    std::fs::write(&around, frame).unwrap();
    let last = ["--virtual-time-budget=5000".to_owned(), "--dump-dom".to_owned(), format!("file://{around}")];
    let dom = String::from_utf8(browse(browser, folder, 1600, false, &last)).unwrap();
    dom.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).unwrap().to_owned()
}
