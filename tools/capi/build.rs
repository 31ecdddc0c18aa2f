//! Names the shared library by its ABI, so that programs load the one that they were linked with.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("FAMILY") == "unix" && target("VENDOR") != "apple" {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libniwaki.so.0");
    }
}
