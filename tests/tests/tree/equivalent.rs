//! Compilers of another build of the same release: a worker that has one is tried with
//! small sources, and gets compiles if its objects are those of the client's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hg_tests::command::{run, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::event::{self, Event};
use hg_tests::grid::{Grid, coordinator, worker};
use hg_tests::programs::programs;
use hg_tests::{in_path, skip};

use crate::shipped::{Space, worker_with};

/// A copy of this machine's gcc for C, as another build of it, with `specs` of its own (empty:
/// none). `None`: there is none that can be copied, and that was said.
fn another_build(space: &Space, specs: &str) -> Option<PathBuf> {
    let folder = space.place.path().canonicalize().expect("a path");
    let Some((gcc, library)) = copy_of_gcc(&folder) else {
        skip("another build of gcc", "gcc is laid out in an unknown way");
        return None;
    };
    if !specs.is_empty() {
        fs::write(library.join("specs"), specs).expect("specs");
    }
    Some(gcc)
}

/// A driver that has one byte more than this machine's, and the folder of its compiler
/// proper.
fn copy_of_gcc(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let asked = |words: &[&str]| {
        let told = run(scrubbed("gcc", folder, folder).args(words));
        PathBuf::from(String::from_utf8_lossy(&told.stdout).trim_end())
    };
    let driver = fs::canonicalize(in_path("gcc")?).ok()?;
    let proper = asked(&["-print-prog-name=cc1"]);
    let library = proper.parent()?;
    // Where a driver in `bin` looks for it.
    let below = library.strip_prefix("/usr").ok()?;
    let [programs, copied] = [folder.join("usr/bin"), folder.join("usr").join(below)];
    for made in [&programs, &copied] {
        fs::create_dir_all(made).expect("a folder");
    }
    // By another program: what this one has open for writing, no thread may run.
    let gcc = programs.join("gcc");
    let made = run(scrubbed("sh", folder, folder)
        .args([
            "-c",
            "cp \"$1\" \"$2\" && cp \"$3\" \"$4\" && printf x >>\"$4\"",
            "sh",
        ])
        .args([&proper, &copied.join("cc1"), &driver, &gcc]));
    assert!(made.ok(), "{}", made.words());
    let assembler = in_path("as").expect("an assembler");
    std::os::unix::fs::symlink(assembler, programs.join("as")).expect("a link");
    let told = run(scrubbed(&gcc, folder, folder).args(["-print-prog-name=cc1"]));
    let its = PathBuf::from(String::from_utf8_lossy(&told.stdout).trim_end());
    (fs::canonicalize(its).ok()? == copied.join("cc1")).then_some((gcc, copied))
}

/// A grid whose only worker has the compilers of `programs`, and no others.
fn grid_with(compilers: &Path) -> (Grid, Daemon) {
    let grid = Grid::insecure(programs(), 0, 1);
    let words = ["--insecure", "--toolchains", "own"];
    let path = compilers.to_str().expect("a path");
    let (_, daemon) = worker_with(path, &grid, "another", &words);
    grid.wait_for_workers(1);
    (grid, daemon)
}

fn is_lacking(event: &Event) -> bool {
    event.place == "local" && event.reason.starts_with("no-worker")
}

#[test]
fn another_build_that_makes_the_same_objects_compiles_for_this_one() {
    let space = Space::new();
    let Some(gcc) = another_build(&space, "") else {
        return;
    };
    let (grid, _daemon) = grid_with(gcc.parent().expect("a folder"));
    let before = space.compare(&grid, "gcc", "-O2 -c a.c");
    assert!(is_lacking(&before), "{before:?}");
    let doctor = |space: &Space| {
        let told = run(&mut space.hgbuild(&grid, &["doctor", "gcc"]));
        String::from_utf8_lossy(&told.stdout).into_owned()
    };
    assert!(doctor(&space).contains("untried"), "{}", doctor(&space));
    let tried = space.ship(&grid, &["gcc"]);
    let told = String::from_utf8_lossy(&tried.stdout).into_owned();
    assert!(told.contains("text form: objects are the same"), "{told}");
    assert!(doctor(&space).contains("equivalent"), "{}", doctor(&space));
    for words in [
        "-O2 -c a.c",
        "-O0 -fPIC -c a.c",
        "-O3 -funroll-loops -DX -c w.c",
    ] {
        let event = space.compare(&grid, "gcc", words);
        assert_eq!(
            (&*event.place, event.form.as_str()),
            ("remote", "preprocessed"),
            "{event:?}"
        );
    }
    // Nobody has compared these.
    for words in [
        "-O2 -fno-tree-vectorize -c a.c",
        "-O2 -S a.c",
        "-O2 -g -c a.c",
    ] {
        let event = space.compare(&grid, "gcc", words);
        assert_eq!(event.place, "local", "{event:?}");
    }
}

#[test]
fn another_build_that_makes_other_objects_is_found_out() {
    let space = Space::new();
    // A default of its own, which its version does not tell.
    let specs = "*cc1:\n+ -fno-omit-frame-pointer\n\n";
    let Some(gcc) = another_build(&space, specs) else {
        return;
    };
    let (grid, _daemon) = grid_with(gcc.parent().expect("a folder"));
    let tried = space.ship(&grid, &["gcc"]);
    let told = String::from_utf8_lossy(&tried.stdout).into_owned();
    assert!(told.contains("text form: never: another object"), "{told}");
    let event = space.compare(&grid, "gcc", "-O2 -c a.c");
    assert!(is_lacking(&event), "{event:?}");
    // Once found out, it is not tried again.
    let again = space.ship(&grid, &["gcc"]);
    let told = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(!told.contains("text form"), "{told}");
}

#[test]
fn an_audit_that_finds_another_object_ends_it_and_blames_nobody() {
    let space = Space::new();
    // A difference that no trial shows.
    let specs = "*cc1:\n+ %{w:-fno-omit-frame-pointer}\n\n";
    let Some(gcc) = another_build(&space, specs) else {
        return;
    };
    let place = tempfile::Builder::new().prefix("hg-equal-").tempdir();
    let place = place.expect("a temporary folder");
    let words = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let words = [&words[..], &["--insecure", "--audit", "1"]].concat();
    let daemon = coordinator(programs(), place.path(), &words);
    let grid = Grid::around(programs(), place, daemon);
    let path = gcc.parent().and_then(Path::to_str).expect("a path");
    let words = ["--insecure", "--toolchains", "own"];
    let (_, _daemon) = worker_with(path, &grid, "another", &words);
    grid.wait_for_workers(1);
    let tried = space.ship(&grid, &["gcc"]);
    let told = String::from_utf8_lossy(&tried.stdout).into_owned();
    assert!(
        told.contains("text form: objects are the same"),
        "{}",
        tried.words()
    );
    let compile = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        let plain = run(scrubbed("gcc", &space.folder, space.place.path()).args(&words));
        assert!(plain.ok());
        let object = space.folder.join("a.o");
        let wanted = fs::read(&object).expect("the plain object");
        fs::remove_file(&object).expect("the plain object");
        let ours = run(&mut space.hgbuild(&grid, &[&["gcc"], &words[..]].concat()));
        assert!(ours.ok(), "{}", ours.words());
        assert!(
            fs::read(&object).expect("our object") == wanted,
            "{words:?}"
        );
        let last = event::read(&space.log()).into_iter().next_back();
        last.expect("an event")
    };
    let good = compile("-O2 -c a.c");
    assert_eq!(good.place, "remote", "{good:?}");
    let bad = compile("-O2 -w -c a.c");
    assert!(bad.reason.contains("another object"), "{bad:?}");
    let after = compile("-O2 -DAGAIN -c a.c");
    assert!(is_lacking(&after), "{after:?}");
    let workers = run(&mut space.hgbuild(&grid, &["workers", "--json"]));
    let told = String::from_utf8_lossy(&workers.stdout).into_owned();
    assert!(!told.contains("\"out\": true"), "{told}");
    let doctor = run(&mut space.hgbuild(&grid, &["doctor", "gcc"]));
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(!told.contains("equivalent"), "{told}");
}

/// The worker that `command` starts, with `other` in place of `real` for it alone.
fn with_another(command: &Command, other: &Path, real: &Path) -> Command {
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let mut within = Command::new("unshare");
    within
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .args([other, real])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear();
    for (name, value) in command.get_envs() {
        within.env(name, value.unwrap_or_default());
    }
    if let Some(folder) = command.get_current_dir() {
        within.current_dir(folder);
    }
    within
}

#[test]
fn a_clang_of_another_build_takes_headers_and_debug_information() {
    let what = "a clang of another build";
    let Some(clang) = in_path("clang").and_then(|path| fs::canonicalize(path).ok()) else {
        return skip(what, "no clang");
    };
    if !nix::unistd::geteuid().is_root() || in_path("unshare").is_none() {
        return skip(what, "only root can put it in the other one's place");
    }
    let space = Space::new();
    let other = space.place.path().join("clang");
    let made = run(scrubbed("sh", space.place.path(), space.place.path())
        .args(["-c", "cp \"$1\" \"$2\" && printf x >>\"$2\"", "sh"])
        .args([&clang, &other]));
    assert!(made.ok(), "{}", made.words());
    let grid = Grid::insecure(programs(), 0, 1);
    let mut plain = worker(programs(), grid.folder(), "another", &grid.address(), 1);
    plain.args(["--insecure", "--toolchains", "own"]);
    let mut command = with_another(&plain, &other, &clang);
    let _daemon = Daemon::start("another", &mut command, grid.folder().join("another.log"));
    grid.wait_for_workers(1);
    let before = space.compare(&grid, "clang", "-O2 -g -c a.c");
    assert!(is_lacking(&before), "{before:?}");
    let tried = space.ship(&grid, &["clang"]);
    let told = String::from_utf8_lossy(&tried.stdout).into_owned();
    if told.contains("sandbox") {
        return skip(what, "no full sandbox here");
    }
    assert!(told.contains("tree form: objects are the same"), "{told}");
    for words in [
        "-O2 -g -c a.c",
        "-O0 -Wall -c w.c",
        "-O3 -g -MD -MF d -c a.c",
    ] {
        let event = space.compare(&grid, "clang", words);
        assert_eq!(
            (&*event.place, event.form.as_str()),
            ("remote", "tree"),
            "{event:?}"
        );
    }
}
