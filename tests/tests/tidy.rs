//! Promises that a reader of the code relies on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hg_tests::floors::{CRATES, Crate, Floors};
use hg_tests::programs::{cargo, checkout};

#[path = "tidy/packaging.rs"]
mod packaging;
#[path = "tidy/reasons.rs"]
mod reasons;

/// Modules and whole folders without I/O, clocks and hidden randomness. A module whose
/// header says that it is pure must be here, and so must a folder whose `mod.rs` does.
const PURE: &[&str] = &[
    "client/src/cache/answer.rs",
    "proto/src/disk/index.rs",
    "client/src/commands/expected/compile.rs",
    "client/src/commands/expected/database.rs",
    "client/src/commands/expected/makefiles.rs",
    "client/src/commands/expected/ninja.rs",
    "client/src/commands/expected/progress.rs",
    "client/src/commands/top/keys.rs",
    "client/src/commands/top/view.rs",
    "client/src/grid/attempt.rs",
    "client/src/grid/grade.rs",
    "client/src/grid/ident.rs",
    "client/src/grid/trial_cases.rs",
    "client/src/grid/object.rs",
    "client/src/includes/dependency_list.rs",
    "client/src/includes/paths.rs",
    "client/src/key.rs",
    "client/src/local/escape_sequences.rs",
    "proto/src/size.rs",
    "client/src/source/",
    "coord/src/backend/address.rs",
    "coord/src/backend/breaker.rs",
    "coord/src/backend/sealed.rs",
    "coord/src/door/arrivals.rs",
    "coord/src/door/bucket.rs",
    "coord/src/door/http2_frames.rs",
    "coord/src/door/nuisances.rs",
    "coord/src/door/shares.rs",
    "coord/src/door/submit_rate.rs",
    "coord/src/monitor/",
    "coord/src/results/kept.rs",
    "coord/src/scheduling/",
    "coord/src/trust/auth.rs",
    "coord/src/trust/token_list.rs",
    "proto/src/compiler/shipment.rs",
    "proto/src/compiler/toolchain.rs",
    "proto/src/json.rs",
    "proto/src/lan/announcement.rs",
    "proto/src/lan/message.rs",
    "proto/src/options/",
    "proto/src/reasons.rs",
    "proto/src/secure/token.rs",
    "proto/src/table.rs",
    "proto/src/wire/",
    "worker-lite/src/inputs/validate.rs",
    "worker-lite/src/link/session.rs",
    "worker-lite/src/machine/admission.rs",
];

/// What a pure module has no use for.
const IMPURE: [&str; 14] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "Instant::now",
    "SystemTime::now",
    ".elapsed()",
    "thread::spawn",
    "thread::sleep",
    "println!",
    "eprintln!",
    "Rng::new()",
    "RandomState",
    "static mut",
];

#[test]
fn client_and_worker_link_no_tokio_runtime_no_tonic_and_no_service_of_a_cache() {
    for package in ["hgbuild", "hg-worker-lite"] {
        let lines = tree(package);
        assert!(
            lines.iter().any(|line| line.starts_with("smol ")),
            "{package}: {lines:?}"
        );
        let found = forbidden(&lines);
        assert!(found.is_empty(), "{package} links {found:?}");
    }
    // The coordinator has all of them: the check can see them. TLS is by one library.
    let coordinator = tree("hg-coord");
    assert!(forbidden(&coordinator).len() >= 5);
    let is_other = |line: &&String| {
        let others = [
            "openssl ",
            "openssl-sys ",
            "native-tls ",
            "aws-lc-rs ",
            "aws-lc-sys ",
        ];
        others.iter().any(|name| line.starts_with(name))
    };
    let others: Vec<&String> = coordinator.iter().filter(is_other).collect();
    assert!(others.is_empty(), "{others:?}");
}

/// `name version features` of everything that `package` links.
fn tree(package: &str) -> Vec<String> {
    let output = cargo()
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p} [{f}]", "--package", package])
        .output()
        .expect("cargo");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {said}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

fn forbidden(lines: &[String]) -> Vec<&String> {
    let bad = |line: &&String| {
        let features = line.rsplit_once('[').map_or("", |(_, rest)| rest);
        let mut features = features.split([',', ']']);
        ["tonic", "opendal", "reqwest", "redis "]
            .iter()
            .any(|name| line.starts_with(name))
            || (line.starts_with("tokio ") && features.any(|feature| feature.starts_with("rt")))
    };
    lines.iter().filter(bad).collect()
}

/// The files of [`PURE`].
fn pure_files() -> Vec<String> {
    let files = sources().into_iter().map(|path| relative(&path));
    let is_pure = |file: &String| {
        let listed = |name: &&str| stands_for(name, file);
        PURE.iter().any(listed) && !file.ends_with("/tests.rs")
    };
    let files: Vec<String> = files.filter(is_pure).collect();
    for name in PURE {
        let is_there = files.iter().any(|file| stands_for(name, file));
        assert!(is_there, "there is no {name}");
    }
    files
}

/// `path` from the checkout.
fn relative(path: &Path) -> String {
    let relative = path.strip_prefix(checkout()).unwrap_or(path);
    relative.to_string_lossy().into_owned()
}

#[test]
fn pure_modules_are_pure() {
    for module in pure_files() {
        let text = read(&checkout().join(&module));
        for word in IMPURE {
            let line = code(&text).position(|line| line.contains(word));
            assert!(line.is_none(), "{module}:{}: {word}", line.unwrap_or(0) + 1);
        }
    }
}

#[test]
fn what_says_it_is_pure_is_on_the_list() {
    let pure = pure_files();
    for path in sources() {
        let text = read(&path);
        let mut header = text.lines().take_while(|line| line.starts_with("//!"));
        let file = relative(&path);
        let says = header.any(|line| line.contains("Pure"));
        assert!(!says || pure.contains(&file), "{file} says that it is pure");
        // What is pure as a whole says so once.
        let folder = file.strip_suffix("mod.rs").unwrap_or("");
        assert!(says || !PURE.contains(&folder), "{file} does not say it");
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled in pieces, so that this file does not find itself.
    let words = [
        ["to", "do!("],
        ["unimple", "mented!("],
        ["#[ig", "nore"],
        ["dbg", "!("],
    ];
    for path in sources()
        .into_iter()
        .chain(rust_files(&checkout().join("tests")))
    {
        let text = read(&path);
        for word in words.map(|pieces| pieces.concat()) {
            assert!(!text.contains(&word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_holds() {
    for path in sources()
        .into_iter()
        .chain(rust_files(&checkout().join("tests")))
    {
        assert!(
            read(&path).starts_with("//! "),
            "{} has no header",
            path.display()
        );
    }
}

#[test]
fn every_file_is_a_module() {
    for name in CRATES {
        let src = checkout().join(name).join("src");
        let mut reached = BTreeSet::new();
        for root in ["lib.rs", "main.rs"] {
            reach(&src.join(root), &src, &mut reached);
        }
        for path in rust_files(&src) {
            assert!(
                reached.contains(&path),
                "{} is in no module",
                path.display()
            );
        }
    }
}

/// Adds `file` and the modules it declares, which lie in `folder`.
fn reach(file: &Path, folder: &Path, reached: &mut BTreeSet<PathBuf>) {
    if !file.exists() || !reached.insert(file.to_path_buf()) {
        return;
    }
    for line in read(file).lines() {
        let words = line
            .trim()
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ");
        let module = words
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(';'));
        if let Some(module) = module {
            reach(
                &folder.join(module).with_extension("rs"),
                &folder.join(module),
                reached,
            );
            reach(
                &folder.join(module).join("mod.rs"),
                &folder.join(module),
                reached,
            );
        }
    }
}

#[test]
fn imports_run_one_way() {
    let list = read(&checkout().join("tests/floors.txt"));
    for name in CRATES {
        let read = Crate::read(checkout(), name).expect("the crate's sources");
        let faults = read.faults(&Floors::of(&list, name));
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

/// A crate of these files is faultless but for what is expected.
fn faults_of(files: &[(&str, &str)], floors: &str) -> Vec<String> {
    let checkout = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = checkout.path().join("client/src").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let read = Crate::read(checkout.path(), "client").expect("Rust");
    read.faults(&Floors::of(floors, "client"))
}

#[test]
fn an_import_upward_is_seen_however_it_is_spelt() {
    let lib = ("lib.rs", "pub mod high;\npub mod low;\npub mod deep;");
    let floors = "client\n    lib\n    high\n    low\n    deep/inner\n    deep\n";
    let low = |text: &'static str| {
        let high = (
            "high.rs",
            "use crate::low::{self, f}; pub fn g() { low::f() }",
        );
        let deep = ("deep/mod.rs", "pub mod inner;");
        let inner = ("deep/inner.rs", "pub fn h() {}");
        faults_of(&[lib, high, ("low.rs", text), deep, inner], floors)
    };
    let upward = [
        "use crate::high; pub fn f() { high::g() }",
        "use crate::{deep, high::g as other};",
        "use super::high::*;",
        "pub fn f() { crate::high::g() }",
        "pub fn f() { assert!(format!(\"{:?}\", super::high::g()).is_empty()) }",
        "mod inline { use super::super::high; }",
        "pub(in crate::high) fn f() {}",
        "#[cfg(test)] use std::fs; use crate::high;",
        "#[cfg(test)] mod tests { use super::*; } fn f() { crate::high::g() }",
    ];
    for text in upward {
        let faults = low(text);
        let upward = |fault: &String| fault.contains("high does not stand below low");
        assert!(faults.iter().any(upward), "{text}: {faults:?}");
    }
    let fine = [
        "use crate::deep::inner::h;",
        "use crate::deep; pub fn f() { deep::inner::h() }",
        "#[cfg(test)] mod tests { use crate::high; }",
        "#[cfg(test)] use crate::{deep, high};\npub fn f() {}",
        "/// As [`crate::high`].\npub fn f() -> &'static str { \"crate::high\" } // crate::high",
        "use hg_proto::high; use ::std::fs; pub fn f<'a>(high: &'a str) -> &'a str { high }",
    ];
    for text in fine {
        assert_eq!(low(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_circle_is_seen_within_one_room() {
    let files = [
        ("lib.rs", "mod room;"),
        ("room/mod.rs", "mod a; mod b; mod c;"),
        ("room/a.rs", "use super::b::B;"),
        ("room/b.rs", "fn f() { crate::room::c::f() }"),
        ("room/c.rs", "use super::a;"),
    ];
    let faults = faults_of(&files, "client\n    lib\n    room\n");
    assert_eq!(faults, ["client: a circle of room/a, room/b, room/c"]);
}

#[test]
fn each_room_is_on_a_floor_and_is_there() {
    let files = [("lib.rs", "mod a; mod b;"), ("a.rs", ""), ("b.rs", "")];
    let faults = faults_of(&files, "client\n    lib\n    a\n    c\n");
    let expected = ["client: b is on no floor", "client: there is no c"];
    assert_eq!(faults, expected);
}

/// Lines of DESIGN.md: a page on a screen that one can scroll, and no book.
const DESIGN_LINES_MAX: usize = 200;

#[test]
fn the_design_is_one_page_of_files_that_are_there_and_of_all() {
    let text = read(&checkout().join("DESIGN.md"));
    assert!(text.lines().count() <= DESIGN_LINES_MAX);
    let files: Vec<String> = CRATES
        .iter()
        .flat_map(|name| rust_files(&checkout().join(name).join("src")))
        .map(|path| relative(&path))
        .collect();
    let mut named = BTreeSet::new();
    for name in text
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(files_of_row)
    {
        let found: Vec<&String> = files
            .iter()
            .filter(|file| stands_for(&name, file))
            .collect();
        assert!(!found.is_empty(), "DESIGN.md names {name}");
        named.extend(found);
    }
    // What only lists modules, or is built for tests, is no step.
    let is_step = |file: &&String| {
        let name = file.rsplit('/').next().unwrap_or_default();
        !matches!(name, "lib.rs" | "main.rs" | "mod.rs" | "tests.rs")
    };
    for file in files.iter().filter(is_step) {
        assert!(named.contains(file), "{file} is on no row of DESIGN.md");
    }
}

/// Files and folders of the second column: without a crate's name, they lie in the source
/// folder that was named before.
fn files_of_row(row: &str) -> Vec<String> {
    let cell = row.split('|').nth(2).unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || "_-*/.".contains(c);
    let words = cell.split(|c: char| !is_part(c));
    let mut src = String::new();
    let mut names = Vec::new();
    for word in words.filter(|word| word.ends_with(".rs") || word.ends_with('/')) {
        match word.split_once("/src/") {
            Some((name, _)) => {
                src = format!("{name}/src/");
                names.push(word.to_owned());
            }
            None => names.push(format!("{src}{word}")),
        }
    }
    names
}

/// Whether `name` is `file`, or a folder above it, or a pattern with one `*` for it.
fn stands_for(name: &str, file: &str) -> bool {
    match name.split_once('*') {
        Some((start, end)) => file
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end))
            .is_some_and(|middle| !middle.contains('/')),
        None if name.ends_with('/') => file.starts_with(name),
        None => file == name,
    }
}

/// The lines of a file that run in production: no comments, no tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .map(|line| {
            if line.trim_start().starts_with("//") {
                ""
            } else {
                line
            }
        })
}

fn sources() -> Vec<PathBuf> {
    CRATES
        .iter()
        .flat_map(|name| rust_files(&checkout().join(name)))
        .collect()
}

/// All `.rs` files below `folder`, sorted.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)
            .expect("a folder of the checkout")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}
