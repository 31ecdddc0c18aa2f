//! Detached signatures: the vectors of RFC 8032, OpenSSL on either side, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use niwaki_conformance::folder::{Folder, repository};
use niwaki_engine::signature::signing::{KeyHalf, SigningFault, check, detached_path, sign};
use niwaki_engine::{Blame, Error, ErrorKind};

/// Section 7.1 of RFC 8032: private key, public key, message, signature.
const VECTORS: [[&str; 4]; 4] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
    [
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ],
];

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let quad = |three: &[u8]| {
        let word = three.iter().fold(0, |word, byte| word << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        let digit = |i: usize| if i <= three.len() { DIGITS[word >> (18 - 6 * i) & 63] as char } else { '=' };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(quad).collect()
}

/// A key in PEM: 32 bytes behind the head that RFC 8410 gives every Ed25519 key of its half.
fn pem(label: &str, head: &str, key: &[u8]) -> String {
    let der = [&from_hex(head), key].concat();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64(&der))
}

fn private_pem(key: &[u8]) -> String {
    pem("PRIVATE KEY", "302e020100300506032b657004220420", key)
}

fn public_pem(key: &[u8]) -> String {
    pem("PUBLIC KEY", "302a300506032b6570032100", key)
}

fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures/signing").join(name)
}

/// The fixture's message in a folder of its own, signed by the fixture's key.
fn signed() -> (Folder, PathBuf) {
    let folder = Folder::new("signing");
    let file = folder.path().join("message.txt");
    fs::copy(fixture("message.txt"), &file).unwrap();
    sign(&file, &fixture("private.pem"), false).unwrap();
    (folder, file)
}

fn check_file(file: &Path, key: &Path) -> Result<(), Error> {
    check(file, &fs::read(file).unwrap(), key)
}

fn fault(result: Result<(), Error>) -> SigningFault {
    let error = result.unwrap_err();
    let ErrorKind::Signing(fault) = error.kind() else { panic!("{error}") };
    fault.clone()
}

#[test]
fn base64_of_the_tests_is_that_of_openssl() {
    assert_eq!([base64(b""), base64(b"f"), base64(b"fo"), base64(b"foobar")], ["", "Zg==", "Zm8=", "Zm9vYmFy"]);
    assert_eq!(public_pem(&from_hex(VECTORS[0][1])).len(), fs::read(fixture("public.pem")).unwrap().len());
}

#[test]
fn vectors_of_rfc_8032_through_files() {
    let folder = Folder::new("rfc8032");
    let [file, private, public] = ["file", "private.pem", "public.pem"].map(|name| folder.path().join(name));
    for [secret, key, message, signature] in VECTORS {
        fs::write(&file, from_hex(message)).unwrap();
        fs::write(&private, private_pem(&from_hex(secret))).unwrap();
        fs::write(&public, public_pem(&from_hex(key))).unwrap();
        let out = sign(&file, &private, true).unwrap();
        assert_eq!(out, folder.path().join("file.ed25519"));
        assert_eq!(fs::read(&out).unwrap(), from_hex(signature), "{message}");
        check_file(&file, &public).unwrap();
    }
    assert_eq!(folder.names(), ["file", "file.ed25519", "private.pem", "public.pem"], "nothing half-written");
}

#[test]
fn what_openssl_signed_once_is_signed_alike() {
    let (_folder, file) = signed();
    let [ours, theirs] = [detached_path(&file), fixture("message.txt.ed25519")].map(|path| fs::read(path).unwrap());
    assert_eq!(ours, theirs);
    check_file(&fixture("message.txt"), &fixture("public.pem")).unwrap();
}

#[test]
fn openssl_and_we_check_what_the_other_signs() {
    let openssl = |folder: &Folder, args: &str| {
        let at = |arg: &str| arg.strip_prefix('@').map_or_else(|| arg.to_owned(), |name| folder.at(name));
        Command::new("openssl").args(args.split(' ').map(at)).output()
    };
    let folder = Folder::new("openssl");
    if !openssl(&folder, "genpkey -algorithm ed25519 -out @key.pem").is_ok_and(|done| done.status.success()) {
        println!("skipped: openssl with Ed25519 is not installed");
        return;
    }
    assert!(openssl(&folder, "pkey -in @key.pem -pubout -out @public.pem").unwrap().status.success());
    let [file, key, public] = ["file", "key.pem", "public.pem"].map(|name| folder.path().join(name));
    // Lengths around the blocks of SHA-512.
    for length in [1, 111, 112, 128, 1 << 20] {
        let bytes: Vec<u8> = (0..length).map(|i: usize| ((i * 31) >> 3) as u8).collect();
        fs::write(&file, &bytes).unwrap();
        let signs = openssl(&folder, "pkeyutl -sign -rawin -inkey @key.pem -in @file -out @file.ed25519").unwrap();
        if !signs.status.success() {
            println!("skipped: this openssl does not sign files with Ed25519");
            return;
        }
        let theirs = fs::read(folder.at("file.ed25519")).unwrap();
        check(&file, &bytes, &public).unwrap();
        sign(&file, &key, true).unwrap();
        assert_eq!(fs::read(folder.at("file.ed25519")).unwrap(), theirs, "{length}");
        let verify = "pkeyutl -verify -rawin -pubin -inkey @public.pem -in @file -sigfile @file.ed25519";
        assert!(openssl(&folder, verify).unwrap().status.success(), "{length}");
        fs::write(&file, &bytes[1..]).unwrap();
        assert!(!openssl(&folder, verify).unwrap().status.success(), "{length}: OpenSSL accepts anything");
        assert!(check_file(&file, &public).is_err(), "{length}");
    }
}

#[test]
fn one_bit_anywhere_is_noticed() {
    let (_folder, file) = signed();
    let (public, detached) = (fixture("public.pem"), detached_path(&file));
    let (bytes, signature) = (fs::read(&file).unwrap(), fs::read(&detached).unwrap());
    check(&file, &bytes, &public).unwrap();
    let mismatch = SigningFault::Mismatch { signature: detached.clone(), key: public.clone() };
    for bit in 0..bytes.len() * 8 {
        let mut other = bytes.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(fault(check(&file, &other, &public)), mismatch, "bit {bit} of the file");
    }
    for bit in 0..512 {
        let mut other = signature.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        fs::write(&detached, other).unwrap();
        assert_eq!(fault(check(&file, &bytes, &public)), mismatch, "bit {bit} of the signature");
    }
    fs::write(&detached, signature).unwrap();
    for other in [&bytes[1..], &bytes[..bytes.len() - 1], &[], &[&bytes[..], b"\0"].concat()] {
        assert_eq!(fault(check(&file, other, &public)), mismatch);
    }
    let error = check(&file, &[], &public).unwrap_err();
    assert_eq!((error.blame(), error.path()), (Blame::Input, Some(&*file)));
    check(&file, &bytes, &public).unwrap();
}

#[test]
fn another_key_does_not_fit() {
    let (folder, file) = signed();
    let other = folder.path().join("other.pem");
    fs::write(&other, public_pem(&from_hex(VECTORS[0][1]))).unwrap();
    let mismatch = SigningFault::Mismatch { signature: detached_path(&file), key: other.clone() };
    assert_eq!(fault(check_file(&file, &other)), mismatch);
    // S + L has the same residue: RFC 8032 refuses it, so that a signature has one form.
    let order = from_hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut signature = fs::read(detached_path(&file)).unwrap();
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    fs::write(detached_path(&file), signature).unwrap();
    assert!(matches!(fault(check_file(&file, &fixture("public.pem"))), SigningFault::Mismatch { .. }));
}

#[test]
fn detached_signatures_that_are_none() {
    let (folder, file) = signed();
    let (public, detached) = (fixture("public.pem"), detached_path(&file));
    for found in [0, 1, 63, 65, 128] {
        fs::write(&detached, vec![7; found]).unwrap();
        let error = check_file(&file, &public).unwrap_err();
        assert_eq!((error.path(), error.blame()), (Some(&*detached), Blame::Input));
        assert!(
            error.to_string().ends_with(&format!("has {found} bytes; a detached Ed25519 signature has 64")),
            "{error}"
        );
        assert_eq!(fault(Err(error)), SigningFault::Length { found });
    }
    fs::remove_file(&detached).unwrap();
    let error = check_file(&file, &public).unwrap_err();
    assert!(error.to_string().contains(&folder.at("message.txt.ed25519")), "{error}");
    assert_eq!((error.path(), error.blame()), (Some(&*file), Blame::Input));
    assert_eq!(fault(Err(error)), SigningFault::Missing { expected: detached.clone() });
    fs::create_dir(&detached).unwrap();
    assert!(check_file(&file, &public).unwrap_err().to_string().contains("neither a file"));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let (folder, file) = signed();
    let (private, detached) = (fixture("private.pem"), detached_path(&file));
    fs::write(&detached, "mine").unwrap();
    let error = sign(&file, &private, false).unwrap_err();
    assert!(error.to_string().contains("message.txt.ed25519"), "{error}");
    assert_eq!(fs::read(&detached).unwrap(), b"mine");
    sign(&file, &private, true).unwrap();
    check_file(&file, &fixture("public.pem")).unwrap();
    assert_eq!(folder.names(), ["message.txt", "message.txt.ed25519"]);
    // Not even when asked: the key itself.
    fs::copy(&private, &detached).unwrap();
    assert!(sign(&file, &detached, true).unwrap_err().to_string().contains("is the key"));
    assert_eq!(fs::read(&detached).unwrap(), fs::read(&private).unwrap());
    for absent in [folder.path().join("absent"), folder.path().to_owned()] {
        assert!(sign(&absent, &private, true).is_err());
        assert!(!detached_path(&absent).exists());
    }
}

/// Seeds of the fuzz target that are refused, and what they are said to be.
const REFUSED: [(&str, &str); 17] = [
    ("bad-rsa", "the public key of RSA"),
    ("bad-ec", "the public key of an elliptic curve (EC)"),
    ("bad-x25519", "the public key of X25519"),
    ("bad-ed448", "the public key of Ed448"),
    ("bad-private", "the private key of Ed25519"),
    ("bad-private-label", "a damaged public key"),
    ("bad-small-order", "an Ed25519 public key of small order"),
    ("bad-no-point", "a damaged Ed25519 public key"),
    ("bad-31-bytes", "a damaged Ed25519 public key"),
    ("bad-parameters", "a damaged Ed25519 public key"),
    ("bad-trailing", "a damaged public key"),
    ("bad-empty", "no PEM"),
    ("bad-ssh", "a public key in OpenSSH's own format"),
    ("bad-der", "no text"),
    ("bad-utf8", "no text"),
    ("bad-no-end", "a PEM block `PUBLIC KEY` without its end"),
    ("bad-label", "a PEM block without a label"),
];

#[test]
fn files_that_hold_no_such_key_are_called_what_they_are() {
    let (folder, file) = signed();
    let seeds = repository().join("tests/fuzz/corpus/public_key_pem");
    for (seed, is) in REFUSED {
        let error = check_file(&file, &seeds.join(seed)).unwrap_err();
        assert_eq!((error.path(), error.blame()), (Some(&*seeds.join(seed)), Blame::Caller));
        assert!(error.hint().is_some_and(|hint| hint.contains("openssl")));
        let SigningFault::Key { needs: KeyHalf::Public, found } = fault(Err(error)) else { panic!("{seed}") };
        assert!(found.starts_with(is), "{seed}: {found}, not {is}");
    }
    let key = folder.path().join("key.pem");
    let x25519 = pem("PRIVATE KEY", "302e020100300506032b656e04220420", &[7; 32]);
    let certificate = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned();
    let public = fs::read_to_string(fixture("public.pem")).unwrap();
    for (text, is) in [
        (public, "the public key of Ed25519"),
        (x25519, "the private key of X25519"),
        (private_pem(&[7; 31]), "a damaged private key"),
        (certificate.replace("CERTIFICATE", "ENCRYPTED PRIVATE KEY"), "a private key under a password"),
        (certificate.replace("CERTIFICATE", "RSA PRIVATE KEY"), "a PEM block `RSA PRIVATE KEY`"),
        (certificate, "a PEM block `CERTIFICATE`"),
        (" ".repeat(1 << 17), "a file of more than 65536 bytes"),
    ] {
        fs::write(&key, text).unwrap();
        let error = sign(&file, &key, true).unwrap_err();
        let expected = format!("{}`: is {is}", key.display());
        assert!(error.to_string().contains(&expected), "{error}, not {expected}");
        assert!(error.to_string().ends_with("; expected an Ed25519 private key in PEM"), "{error}");
    }
    check_file(&file, &fixture("public.pem")).expect("a signature that failed attempts leave alone");
    let error = sign(&file, &folder.path().join("absent.pem"), true).unwrap_err();
    assert_eq!((error.blame(), error.to_string().contains("absent.pem")), (Blame::Io, true));
}
