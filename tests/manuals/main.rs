//! `manuals`: writes the manual pages, the completions, docs/reasons.md and the tables of
//! docs/settings.md anew, from the tables that the programs' `--help` is printed from.

use std::fs;
use std::process::ExitCode;

use hg_tests::manuals;
use hg_tests::programs::checkout;

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("manuals: {why}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<(), String> {
    let told = |path: &str, error: std::io::Error| format!("{path}: {error}");
    let page = checkout().join(manuals::SETTINGS_PAGE);
    let settings = fs::read_to_string(page).map_err(|error| told(manuals::SETTINGS_PAGE, error))?;
    for written in manuals::written(&settings)? {
        let path = checkout().join(&written.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| told(&written.path, error))?;
        }
        if fs::read_to_string(&path).is_ok_and(|text| text == written.text) {
            continue;
        }
        fs::write(&path, written.text).map_err(|error| told(&written.path, error))?;
        println!("{}", written.path);
    }
    Ok(())
}
