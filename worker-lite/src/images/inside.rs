//! A look into an image with its own compilers: which there are, and the files that each is
//! made of. Runs in a process of its own, which sees nothing but the image. Linux.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hg_proto::compiler::packing::Packed;
use hg_proto::compiler::probe::{self, Probe};
use hg_proto::compiler::toolchain::Language;
use prost::Message;

use crate::images::finding::Finding;
use crate::sandbox::enclosure;
use crate::tasks::toolchains::{assembler_folder, candidates};

/// Names of compilers after a triple.
const SUFFIXES: [&str; 4] = ["gcc", "g++", "clang", "clang++"];
/// Compilers that are looked at in one image.
const DRIVERS_MAX: usize = 32;
/// Exit code where the image can't be entered.
const FAILED: u8 = 1;

/// Looks into the image whose files are in `root`. Writes each [`Finding`] to stdout with its
/// length in front.
pub fn run(root: &OsStr) -> ExitCode {
    match enclosure::within(Path::new(root), look) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

fn look() -> ExitCode {
    for driver in drivers() {
        for finding in findings(&driver) {
            let bytes = finding.encode_length_delimited_to_vec();
            if io::stdout().write_all(&bytes).is_err() {
                return ExitCode::from(FAILED);
            }
        }
    }
    ExitCode::SUCCESS
}

/// Compilers that the image names, those beside them, and those in its PATH.
fn drivers() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut drivers = named(&path);
    drivers.extend(candidates(env::split_paths(&path)));
    drivers.retain(|driver| {
        let is_cxx = driver.as_os_str().as_bytes().ends_with(b"++");
        let folder = driver.parent().map(Path::to_path_buf);
        // From another folder a compiler finds its headers by other paths.
        let is_new = |real| seen.insert((real, folder, is_cxx));
        driver.canonicalize().is_ok_and(is_new)
    });
    drivers.truncate(DRIVERS_MAX);
    drivers
}

/// Compilers that CC, CXX and CROSS_TRIPLE name.
fn named(path: &OsStr) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = env::split_paths(path).collect();
    for variable in ["CC", "CXX"] {
        let Some(word) = env::var_os(variable) else {
            continue;
        };
        // Options may follow the program.
        let word = word.as_bytes().split(|byte| *byte == b' ').next();
        let program = Path::new(OsStr::from_bytes(word.unwrap_or_default()));
        let places = match program.is_absolute() {
            true => vec![program.to_path_buf()],
            false => folders.iter().map(|folder| folder.join(program)).collect(),
        };
        if let Some(place) = places.into_iter().find(|place| place.is_file()) {
            folders.extend(place.parent().map(Path::to_path_buf));
            found.push(place);
        }
    }
    if let Some(triple) = env::var_os("CROSS_TRIPLE").filter(|triple| !triple.is_empty()) {
        let name = |suffix| {
            let mut name = OsString::from(&triple);
            name.push("-");
            name.push(suffix);
            name
        };
        let names = SUFFIXES.map(name);
        let places = |name| folders.iter().map(move |folder| folder.join(name));
        found.extend(
            names
                .iter()
                .filter_map(|name| places(name).find(|place| place.is_file())),
        );
    }
    found.retain(|place| place.is_absolute());
    found
}

/// What is to be told of `driver`: a finding for each language, or why there is none.
fn findings(driver: &Path) -> Vec<Finding> {
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let refused = |why: String| Finding {
        driver: bytes(driver),
        refusal: why,
        ..Finding::default()
    };
    let probe = match probe::probe(driver, None) {
        Ok(probe) => probe,
        Err(error) => return vec![refused(error.to_string())],
    };
    let path_first = assembler_folder(driver).unwrap_or_default();
    let finding = |language| {
        let toolchain = probe.toolchain(language)?;
        let finding = match packed(&probe, language) {
            Ok(packed) => Finding {
                driver: bytes(driver),
                path_first: bytes(&path_first),
                toolchain: Some(toolchain),
                tree: probe.tree_toolchain(language),
                list: Some(packed.shipment),
                sources: packed.sources.values().map(|path| bytes(path)).collect(),
                ..Finding::default()
            },
            Err(why) => refused(why),
        };
        Some(finding)
    };
    let languages = [Language::C, Language::Cxx].into_iter();
    languages.filter_map(finding).collect()
}

fn packed(probe: &Probe, language: Language) -> Result<Packed, String> {
    Packed::of(probe, language).map_err(|why| format!("{}: {why}", probe.driver.display()))
}
