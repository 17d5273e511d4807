//! Promises that a reader of the code relies on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hg_tests::programs::{cargo, checkout};

const CRATES: [&str; 4] = ["proto", "client", "coord", "worker-lite"];

/// Modules without I/O, clocks and hidden randomness. A module whose header says
/// that it is pure must be here.
const PURE: &[&str] = &[
    "client/src/source/questions.rs",
    "proto/src/wire/taken_path.rs",
    "client/src/local/looks.rs",
    "client/src/cache/answer.rs",
    "client/src/key.rs",
    "client/src/includes/paths.rs",
    "client/src/includes/dependency_list.rs",
    "client/src/source/scan.rs",
    "client/src/size.rs",
    "client/src/grid/attempt.rs",
    "client/src/grid/object.rs",
    "client/src/source/hazards/assembler.rs",
    "client/src/source/hazards/builtin_questions.rs",
    "client/src/source/code.rs",
    "client/src/source/hazards/falling.rs",
    "client/src/source/hazards/markers.rs",
    "client/src/source/hazards/odd.rs",
    "client/src/source/hazards/operands.rs",
    "client/src/source/hazards/packing.rs",
    "client/src/source/pieces.rs",
    "client/src/source/hazards/mod.rs",
    "client/src/source/hazards/pragmas.rs",
    "client/src/source/hazards/signs.rs",
    "client/src/source/lex.rs",
    "client/src/source/hazards/whole_words.rs",
    "client/src/source/indentation.rs",
    "client/src/cache/disk/index.rs",
    "coord/src/trust/auth.rs",
    "coord/src/scheduling/breaker.rs",
    "coord/src/door/bucket.rs",
    "coord/src/scheduling/coordinator.rs",
    "coord/src/door/http2_frames.rs",
    "coord/src/scheduling/holder_breakers.rs",
    "coord/src/scheduling/coordinator/attempts.rs",
    "coord/src/scheduling/coordinator/placement.rs",
    "coord/src/scheduling/coordinator/stragglers.rs",
    "coord/src/scheduling/id.rs",
    "coord/src/scheduling/jobs.rs",
    "coord/src/door/nuisances.rs",
    "coord/src/door/arrivals.rs",
    "coord/src/scheduling/pool.rs",
    "coord/src/scheduling/predictor.rs",
    "coord/src/scheduling/queue.rs",
    "coord/src/door/submit_rate.rs",
    "coord/src/scheduling/registry.rs",
    "coord/src/scheduling/scheduler.rs",
    "coord/src/scheduling/slab.rs",
    "coord/src/scheduling/timers.rs",
    "coord/src/trust/token_list.rs",
    "coord/src/scheduling/validate.rs",
    "coord/src/scheduling/worker.rs",
    "proto/src/options/row.rs",
    "proto/src/options/rows_gcc.rs",
    "proto/src/options/rows_machine.rs",
    "proto/src/options/table.rs",
    "proto/src/options/args.rs",
    "proto/src/wire/digest.rs",
    "proto/src/wire/frame.rs",
    "proto/src/wire/http_head.rs",
    "proto/src/wire/limits.rs",
    "proto/src/wire/plain_path.rs",
    "proto/src/table.rs",
    "proto/src/secure/token.rs",
    "proto/src/compiler/toolchain.rs",
    "worker-lite/src/machine/admission.rs",
    "worker-lite/src/link/session.rs",
    "worker-lite/src/inputs/validate.rs",
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
fn client_and_worker_link_no_tokio_runtime_and_no_tonic() {
    for package in ["hgbuild", "hg-worker-lite"] {
        let lines = tree(package);
        assert!(
            lines.iter().any(|line| line.starts_with("smol ")),
            "{package}: {lines:?}"
        );
        let found = forbidden(&lines);
        assert!(found.is_empty(), "{package} links {found:?}");
    }
    // The coordinator has both: the check can see them.
    assert!(forbidden(&tree("hg-coord")).len() >= 2);
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
        line.starts_with("tonic")
            || (line.starts_with("tokio ") && features.any(|feature| feature.starts_with("rt")))
    };
    lines.iter().filter(bad).collect()
}

#[test]
fn pure_modules_are_pure() {
    for module in PURE {
        let text = read(&checkout().join(module));
        for word in IMPURE {
            let line = code(&text).position(|line| line.contains(word));
            assert!(line.is_none(), "{module}:{}: {word}", line.unwrap_or(0) + 1);
        }
    }
}

#[test]
fn what_says_it_is_pure_is_on_the_list() {
    for path in sources() {
        let text = read(&path);
        let header: Vec<&str> = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect();
        let relative = path.strip_prefix(checkout()).unwrap_or(&path);
        let listed = PURE.iter().any(|module| Path::new(module) == relative);
        let says = header.iter().any(|line| line.contains("Pure"));
        assert!(
            listed || !says,
            "{} says that it is pure",
            relative.display()
        );
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
