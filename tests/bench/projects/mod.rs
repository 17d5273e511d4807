//! `bench projects [NAME ...] [--list] [--warm] [--goals]`: how much of real projects leaves the machine, why the rest does not, whether the objects
//! are the plain build's, and what it costs. Plainly with two jobs, then through a fresh
//! grid of two slots on this machine, where nothing that can travel stays: twice with
//! the cache off and, with `--warm`, once out of the cache. `--list` says what there is;
//! the large ones are built only by name. With `--goals` a project that is not as it
//! should be, time aside, is an error.

mod archive;
mod goals;
mod interrupt;
mod measure;
mod objects;
mod project;
mod row;
mod step;
mod tally;

use std::path::Path;
use std::process::ExitCode;

use hg_tests::{in_path, programs};

use archive::Archive;
use measure::Builds;
use project::{Language, PROJECTS, Project};

/// Exit code after Ctrl-C, as a shell reports it.
const EXIT_INTERRUPTED: u8 = 130;

/// What was typed.
struct Options {
    projects: Vec<Project>,
    list: bool,
    warm: bool,
    goals: bool,
}

/// Builds what `words` name.
pub fn run(words: Vec<String>) -> ExitCode {
    let options = match read(words.into_iter()) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\nusage: bench projects [NAME ...] [--list] [--warm] [--goals]");
            return ExitCode::from(2);
        }
    };
    if options.list {
        list();
        return ExitCode::SUCCESS;
    }
    if let Err(error) = interrupt::catch() {
        eprintln!("signals: {error}");
    }
    let programs = match programs::build(true) {
        Ok(programs) => programs,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    // The programs are in a profile's folder.
    let target = programs.client.ancestors().nth(2).unwrap_or(Path::new("."));
    let archive = Archive::new(target.join("projects"));
    row::print_head();
    let mut missed = false;
    for project in &options.projects {
        match build(project, &archive, &programs, options.warm) {
            Ok(builds) if options.goals => missed |= goals::missed(project, &builds),
            Ok(_) => {}
            Err(why) => hg_tests::skip(project.name, &why),
        }
        if interrupt::seen() {
            return ExitCode::from(EXIT_INTERRUPTED);
        }
    }
    match missed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn build(
    project: &Project,
    archive: &Archive,
    programs: &programs::Programs,
    warm: bool,
) -> Result<Builds, String> {
    let compiler = compiler(project);
    if in_path(compiler).is_none() {
        return Err(format!("no {compiler} here"));
    }
    let tarball = archive.tarball(project.package)?;
    let builds = measure::measure(project, &tarball, programs, warm)?;
    row::print(project, &builds);
    Ok(builds)
}

fn compiler(project: &Project) -> &'static str {
    let (c, cxx) = project.compiler.names();
    match project.language {
        Language::C => c,
        Language::Cxx => cxx,
    }
}

fn list() {
    for project in PROJECTS {
        let large = if project.large { "only by name" } else { "" };
        let compiler = compiler(&project);
        println!(
            "{:<13} {:<11} {compiler:<8} {large}",
            project.name, project.package
        );
    }
}

fn read(words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        projects: Vec::new(),
        list: false,
        warm: false,
        goals: false,
    };
    for word in words {
        match word.as_str() {
            "--list" => options.list = true,
            "--warm" => options.warm = true,
            "--goals" => options.goals = true,
            name => {
                let named = PROJECTS.iter().find(|project| project.name == name);
                let project = named.ok_or_else(|| format!("{name}: no such project"))?;
                options.projects.push(*project);
            }
        }
    }
    if options.projects.is_empty() {
        options.projects = PROJECTS.iter().filter(|one| !one.large).copied().collect();
    }
    Ok(options)
}
