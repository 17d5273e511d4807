//! What is shipped beside the programs is as they are, and each file of it is read by
//! what it is for. How packages install and run is tested by `tests/packaging`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hg_tests::manuals;
use hg_tests::programs::checkout;
use hg_tests::{in_path, skip};
use hgbuild::settings::BETWEEN_OURSELVES;

use super::{read, sources};

#[test]
fn pages_and_completions_are_as_the_tables_of_options() {
    let settings = read(&checkout().join(manuals::SETTINGS_PAGE));
    for written in manuals::written(&settings).expect("places for the tables") {
        let found = fs::read_to_string(checkout().join(&written.path)).unwrap_or_default();
        assert!(
            found == written.text,
            "{}: not what its table says; cargo run -p hg-tests --bin manuals",
            written.path
        );
    }
}

#[test]
fn each_variable_that_the_client_reads_is_a_setting() {
    let known: BTreeSet<&str> = hgbuild::settings::SETTINGS
        .iter()
        .map(|setting| setting.variable)
        .chain(BETWEEN_OURSELVES)
        .collect();
    let client = checkout().join("client/src");
    let mut read_by_client = BTreeSet::new();
    for path in sources().iter().filter(|path| path.starts_with(&client)) {
        let text = read(path);
        let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
        read_by_client.extend(code.flat_map(variables).map(str::to_owned));
    }
    for variable in &read_by_client {
        assert!(known.contains(&variable[..]), "{variable} is no setting");
    }
    assert!(read_by_client.len() >= known.len() - BETWEEN_OURSELVES.len());
}

/// `"HG_NAME"`s of a line.
fn variables(line: &str) -> impl Iterator<Item = &str> {
    let is_name = |word: &&str| {
        word.strip_prefix("HG_").is_some_and(|rest| {
            !rest.is_empty() && rest.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        })
    };
    line.split('"').skip(1).step_by(2).filter(is_name)
}

#[test]
fn bash_completes_our_words_and_leaves_those_of_a_compiler() {
    let script = checkout().join("packaging/completions/hgbuild.bash");
    let complete = |words: &[&str]| {
        let line = "source \"$0\"; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _hgbuild; \
                    printf '%s\\n' \"${COMPREPLY[@]}\"";
        let output = Command::new("bash")
            .args(["--norc", "-c", line])
            .arg(&script)
            .args(words)
            .output()
            .expect("bash");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        complete(&["hgbuild", "cache", "p"]),
        ["prune"],
        "a command below a command"
    );
    let prune = [
        "hgbuild",
        "-v",
        "--coordinator",
        "a:1",
        "cache",
        "prune",
        "--m",
    ];
    assert_eq!(complete(&prune), ["--max-size"]);
    assert!(complete(&["hgbuild", "gcc", "cache", "p"]).is_empty());
    assert!(complete(&["hgbuild", "--coordinator", "ca"]).is_empty());
    assert_eq!(complete(&["hgbuild", "completions", "f"]), ["fish"]);
}

/// Files below `folder`, sorted.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![checkout().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => open.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn packages_name_the_repository_of_the_workspace() {
    let manifest = read(&checkout().join("Cargo.toml"));
    let repository = manifest
        .lines()
        .find_map(|line| line.strip_prefix("repository = \"")?.strip_suffix('"'))
        .expect("a repository in Cargo.toml");
    let host = repository.rsplitn(3, '/').last().expect("a host");
    let mut count = 0;
    for path in files("packaging") {
        for address in read(&path).split(host).skip(1) {
            let named = address.strip_prefix(&repository[host.len()..]);
            let is_whole =
                |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-');
            assert!(
                named.is_some_and(is_whole),
                "{}: an address at {host} that is not in {repository}",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count > 8, "{count} addresses");
}

fn is_well_formed(command: &mut Command, path: &Path) {
    let output = command.arg(path).output().expect("a tool of PATH");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", path.display());
}

#[test]
fn scripts_are_read_by_their_shells() {
    let mut count = 0;
    for path in files("packaging").into_iter().chain(files("cross")) {
        let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
        let first = text.lines().next().unwrap_or_default();
        let shell = match first {
            "#!/usr/bin/env bash" => "bash",
            "#!/bin/sh" => "sh",
            _ if path.extension().is_some_and(|end| end == "bash") => "bash",
            _ => continue,
        };
        is_well_formed(Command::new(shell).arg("-n"), &path);
        count += 1;
    }
    assert!(count > 8, "{count} scripts");
}

#[test]
fn formulae_are_ruby() {
    if in_path("ruby").is_none() {
        return skip("Homebrew's formulae", "there is no ruby");
    }
    for path in files("packaging/homebrew") {
        if path.extension().is_some_and(|end| end == "rb") {
            is_well_formed(Command::new("ruby").arg("-c"), &path);
        }
    }
}

#[test]
fn systemd_reads_the_units() {
    if in_path("systemd-analyze").is_none() {
        return skip("systemd's units", "there is no systemd-analyze");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut units = Vec::new();
    for path in files("packaging/systemd") {
        // The programs are not where a package puts them.
        let text = read(&path).replace("ExecStart=/usr/bin/hg-", "ExecStart=/bin/sh hg-");
        let unit = folder.path().join(path.file_name().expect("a name"));
        fs::write(&unit, text).expect("a file");
        units.push(unit);
    }
    let mut command = Command::new("systemd-analyze");
    let command = command.args(["verify", "--man=no"]).args(&units);
    let output = command.output().expect("systemd-analyze");
    let said = String::from_utf8_lossy(&output.stderr);
    // What it says of the machine's own units is not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("hg-")).collect();
    assert!(ours.is_empty(), "{}", ours.join("\n"));
    assert_eq!(units.len(), 3);
}
