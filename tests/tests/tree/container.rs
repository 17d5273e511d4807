//! Compilers of container images: a worker takes them out of an image once, and compiles
//! with them in its own sandbox.

use std::path::PathBuf;
use std::process::Command;

use hg_tests::command::run;
use hg_tests::daemon::Daemon;
use hg_tests::engine::Engine;
use hg_tests::grid::{Grid, worker};
use hg_tests::programs::programs;
use hg_tests::running::until;
use hg_tests::skip;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::shipped::{Space, is_remote, listed};

/// An engine of those that are tried, each with an image of this machine's gcc; `None`: it
/// is not here.
fn engine_with(image: &str, engine: fn() -> Result<Engine, String>) -> Option<Engine> {
    let mut engine = match engine() {
        Ok(engine) => engine,
        Err(why) => {
            skip("compilers of images", &why);
            return None;
        }
    };
    if engine.image_of_gcc(image).is_none() {
        skip("compilers of images", "no gcc that could be in an image");
        return None;
    }
    Some(engine)
}

fn image_name(of: &str) -> String {
    format!("hg-test-{of}:{}", std::process::id())
}

/// A worker that has no compilers but those of `image`.
fn worker_of(engine: &Engine, grid: &Grid, image: Option<&str>) -> Command {
    let mut command = worker(programs(), grid.folder(), "contained", &grid.address(), 1);
    command.args(["--insecure", "--compilers", "none", "--toolchains", "own"]);
    if let Some(image) = image {
        command.args(["--container", image]);
    }
    engine.lead(&mut command);
    command
}

/// Starts such a worker, and gives where its state is.
fn start(engine: &Engine, grid: &Grid, image: Option<&str>) -> (PathBuf, Daemon) {
    let log = grid.folder().join("contained.log");
    let mut command = worker_of(engine, grid, image);
    let daemon = Daemon::start("contained", &mut command, log);
    (grid.folder().join("contained"), daemon)
}

#[test]
fn a_worker_compiles_with_what_an_image_of_docker_has() {
    compile_with(image_name("own"), Engine::of_docker);
}

#[test]
fn a_worker_compiles_with_what_an_image_of_podman_has() {
    compile_with(image_name("pod"), Engine::of_podman);
}

fn compile_with(image: String, engine: fn() -> Result<Engine, String>) {
    let Some(engine) = engine_with(&image, engine) else {
        return;
    };
    let grid = Grid::insecure(programs(), 0, 1);
    let space = Space::new();
    let (state, mut daemon) = start(&engine, &grid, Some(&image));
    grid.wait_for_workers(1);
    let seen = listed(&space, &grid, "contained");
    let toolchains = seen["toolchains"].as_array().expect("toolchains");
    assert!(!toolchains.is_empty(), "{}", daemon.stderr());
    for toolchain in toolchains {
        assert_eq!(toolchain["image"], *image, "{toolchain}");
        assert_eq!(toolchain["tree"], true, "{toolchain}");
    }
    // The one that the image names, outside of its PATH.
    let log = daemon.stderr();
    assert!(log.contains(": /opt/cross/bin/"), "{log}");
    for words in ["-O2 -g -c a.c", "-O0 -c a.c", "-Wall -c w.c"] {
        let event = space.compare(&grid, "gcc", words);
        assert!(is_remote(&event), "{event:?}");
    }
    let told = run(&mut space.hgbuild(&grid, &["doctor", "--json", "gcc"]));
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert!(told.to_string().contains("\"container\""), "{told}");
    assert_eq!(engine.container_of(&state), None);
    assert!(!state.join("images/root").exists());

    // What was found is there after a restart, without another look.
    assert!(daemon.end(Signal::SIGTERM).is_some_and(|end| end.success()));
    grid.wait_for_workers(0);
    let (_, daemon) = start(&engine, &grid, Some(&image));
    grid.wait_for_workers(1);
    let event = space.compare(&grid, "gcc", "-O1 -g -c a.c");
    assert!(is_remote(&event), "{event:?}");
    assert!(!daemon.stderr().contains("looked into"));
}

#[test]
fn nothing_of_an_image_is_left_by_a_worker_that_died() {
    leave_nothing(image_name("left"), Engine::of_docker);
    leave_nothing(image_name("left-pod"), Engine::of_podman);
}

fn leave_nothing(image: String, engine: fn() -> Result<Engine, String>) {
    let Some(engine) = engine_with(&image, engine) else {
        return;
    };
    let grid = Grid::insecure(programs(), 0, 1);
    let (state, mut daemon) = start(&engine, &grid, Some(&image));
    let note = state.join("images/container");
    until(&daemon, "a look into the image", || {
        std::fs::read_to_string(&note)
            .is_ok_and(|note| !note.is_empty())
            .then_some(())
    });
    daemon.end(Signal::SIGKILL);
    let noted = std::fs::read_to_string(&note).expect("the note");
    let container = noted.lines().last().expect("a container").to_owned();
    // It may have died before it had made that, or after.
    run(&mut engine.command(&["create", "--name", &container, &image, "true"]));
    assert_eq!(engine.container_of(&state), Some(container));
    let (_, daemon) = start(&engine, &grid, None);
    grid.wait_for_workers(1);
    assert_eq!(engine.container_of(&state), None);
    assert!(!state.join("images").exists());
    drop(daemon);
}

#[test]
fn what_is_wrong_with_an_image_or_an_engine_is_said() {
    let image = image_name("odd");
    let Some(mut engine) = engine_with(&image, Engine::of_docker) else {
        return;
    };
    let other = match std::env::consts::ARCH {
        "aarch64" => "amd64",
        _ => "arm64",
    };
    let far = image_name("far");
    let has_far = engine.copy_for(&image, &far, other).is_some();
    let root = tempfile::tempdir().expect("a folder");
    let grid = Grid::insecure(programs(), 0, 1);
    let says = |engine: &Engine, image: &str, change: &dyn Fn(&mut Command)| {
        let mut command = worker_of(engine, &grid, Some(image));
        change(&mut command);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(2), "{}", ended.words());
        String::from_utf8_lossy(&ended.stderr).into_owned()
    };
    let same = |_: &mut Command| {};
    let said = says(&engine, "hg-test-none:1", &same);
    assert!(said.contains("has no image hg-test-none:1"), "{said}");
    assert!(said.contains("docker pull hg-test-none:1"), "{said}");
    let said = says(&engine, "--privileged", &same);
    assert!(said.contains("not the name of an image"), "{said}");
    let said = says(&engine, &image, &|command| {
        command.args(["--sandbox", "off"]);
    });
    assert!(said.contains("only the full sandbox"), "{said}");
    let nowhere = format!("unix://{}/socket", root.path().display());
    let said = says(&engine, &image, &|command| {
        command.env("DOCKER_HOST", &nowhere);
    });
    assert!(said.contains("does not answer"), "{said}");
    let said = says(&engine, &image, &|command| {
        command.env("PATH", root.path());
    });
    assert!(
        said.contains("neither docker nor podman is in PATH"),
        "{said}"
    );
    if has_far {
        let said = says(&engine, &far, &same);
        assert!(said.contains(&format!("is for linux/{other}")), "{said}");
    } else {
        skip("an image of another machine", "this engine takes none");
    }
}
