//! Sizes that nobody plans for, of sources and of what a user may have: right,
//! wherever it is compiled.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use hg_tests::command::run_within;
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use hg_tests::project::Project;
use hg_tests::running::PATIENCE;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::geteuid;

/// A user who has no processes but the test's.
const LONELY: u32 = 54_321;

fn same_everywhere(what: &str, source: &str) {
    let grid = Grid::start(programs(), 2, 1);
    let project = Project::new();
    project.add("large.c", source);
    // The plain one first: two such compilers at once take much memory.
    let plain = run_within(&mut project.plain_make(&[]), PATIENCE);
    let wrapped = run_within(
        &mut project.hgbuild_make(&grid.address(), &["-j1"]),
        PATIENCE,
    );
    assert!(plain.ok(), "{what}: {}", plain.words());
    project.assert_same_as(what, &plain, wrapped);
    eprintln!("{what}: {}", project.told());
}

#[test]
fn a_source_of_100_mb() {
    let mut source = String::with_capacity(100 << 20);
    while source.len() < 100_000_000 {
        let at = source.len();
        // Comments, so that it is the reading that counts.
        let _ = writeln!(source, "/* {at:9} {} */", "some words to read ".repeat(50));
    }
    same_everywhere("100 MB", &(source + "int f(int x) { return x + 1; }\n"));
}

#[test]
fn a_line_of_50_mb() {
    let words = "words ".repeat(50_000_000 / 6);
    let source = format!("int f(int x) {{ /* {words} */ return x + 1; }}\n");
    same_everywhere("a line of 50 MB", &source);
}

#[test]
fn a_token_of_10_mb() {
    let source = format!(
        "const char *const words = \"{}\";\n",
        "words".repeat(2_000_000)
    );
    same_everywhere("a string of 10 MB", &source);
}

/// Threads count as processes: a user who may have no more of these gets no thread
/// of ours.
#[test]
fn no_thread_is_to_be_had() {
    if !geteuid().is_root() {
        eprintln!("skipped: it takes root to be a user who has no other processes");
        return;
    }
    let grid = Grid::insecure(programs(), 1, 1);
    let project = Project::of(1);
    project.in_plaintext();
    // Where the programs were built may be closed to that user.
    let client = project.home().join("hgbuild");
    fs::copy(&programs().client, &client).unwrap();
    let mut folders = vec![project.home().to_path_buf()];
    while let Some(folder) = folders.pop() {
        chown(&folder, Some(LONELY), Some(LONELY)).unwrap();
        let below = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(below.map(|entry: fs::DirEntry| -> PathBuf { entry.path() }));
    }
    let run = |command: &mut Command, most: u64| {
        command.uid(LONELY).gid(LONELY);
        // SAFETY: a system call that may be made between fork and exec.
        unsafe {
            command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NPROC, most, most)?));
        }
        run_within(command, PATIENCE)
    };
    let words = ["-c", "f00.c"];
    // The first asks the driver, which tries for half a minute to get a process.
    // After it two are enough: the driver's and the compiler's.
    for most in [64, 2, 3, 4] {
        let plain = run(&mut project.plain("gcc", &words), most);
        assert!(plain.ok(), "{}", plain.words());
        let given = project.hgbuild(&grid.address(), &["gcc", words[0], words[1]]);
        let mut command = Command::new(&client);
        command.args(given.get_args()).env_clear();
        command.current_dir(project.there());
        let variables = given
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        // It would take one process more.
        command.envs(variables.filter(|(name, _)| *name != "HG_EVENT_LOG"));
        let wrapped = run(&mut command, most);
        project.assert_same_as(&format!("{most} processes"), &plain, wrapped);
        project.clean_objects();
    }
}
