//! Probes the compilers of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hg_proto::compiler::probe::{ProbeError, probe};
use hg_proto::compiler::toolchain::Language;

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

#[test]
fn gcc_is_found_and_remembered() {
    let Some(gcc) = find("gcc") else {
        skip("no gcc");
        return;
    };
    let memo = std::env::temp_dir().join(format!("hg-probe-memo-{}", std::process::id()));
    let first = probe(&gcc, Some(&memo)).unwrap();
    assert!(first.c.is_some());
    assert_ne!(first.c, first.cxx);
    let kept = fs::read_dir(&memo).unwrap().flatten();
    let mut kept: Vec<_> = kept.filter(|file| file.file_name() != ".turn").collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(probe(&gcc, Some(&memo)).unwrap(), first);
    // A damaged memo is not believed.
    let file = kept.pop().unwrap().path();
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(probe(&gcc, Some(&memo)).unwrap(), first);
    fs::remove_dir_all(&memo).unwrap();
}

/// clang takes it for its options, from the day on which it is there.
#[test]
fn a_configuration_beside_the_real_clang_is_seen() {
    let Some(clang) = find("clang-19").or_else(|| find("clang")) else {
        skip("no clang");
        return;
    };
    let clang = clang.canonicalize().unwrap();
    let place = std::env::temp_dir().join(format!("hg-probe-cfg-{}", std::process::id()));
    let (bin, memo) = (place.join("bin"), place.join("memo"));
    fs::create_dir_all(&bin).unwrap();
    // Not by this process: what it writes, children that others of its threads start have
    // open too, and no program can be run while somebody may write it.
    let copied = Command::new("cp")
        .args([&clang, &bin.join("clang")])
        .status();
    assert!(copied.unwrap().success());
    let library = clang.ancestors().nth(2).unwrap().join("lib");
    std::os::unix::fs::symlink(library, place.join("lib")).unwrap();
    let named = place.join("clang-x");
    std::os::unix::fs::symlink(bin.join("clang"), &named).unwrap();
    // Files that are too young are not remembered.
    let kept = || fs::read_dir(&memo).is_ok_and(|files| files.count() > 1);
    let began = std::time::Instant::now();
    while !kept() {
        probe(&named, Some(&memo)).unwrap();
        assert!(began.elapsed().as_secs() < 300, "nothing is remembered");
    }
    for name in ["clang.cfg", "aarch64-unknown-linux-gnu.cfg"] {
        let configuration = bin.join(name);
        fs::write(&configuration, "-DX\n").unwrap();
        let probed = probe(&named, Some(&memo));
        assert!(
            matches!(probed, Err(ProbeError::Configured(_))),
            "{name}: {probed:?}"
        );
        fs::remove_file(configuration).unwrap();
    }
    fs::remove_dir_all(&place).unwrap();
}

#[test]
fn drivers_of_one_family_differ() {
    let (Some(gcc), Some(gxx)) = (find("gcc"), find("g++")) else {
        skip("gcc or g++ is not installed");
        return;
    };
    let (gcc, gxx) = (probe(&gcc, None).unwrap(), probe(&gxx, None).unwrap());
    assert_ne!(gcc.cxx, gxx.cxx);
    assert_eq!(gcc.version, gxx.version);
    assert!(gxx.toolchain(Language::Cxx).is_some());
}

#[test]
fn other_programs_are_no_compilers() {
    assert!(probe(Path::new("/bin/true"), None).is_err());
    assert!(probe(Path::new("/nonexistent/gcc"), None).is_err());
}

/// Past the test runner, which keeps to itself what a passing test says.
fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
