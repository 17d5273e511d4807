//! The connection that a build's process holds for its compiles: whatever becomes of that
//! process, no compile fails and none stays here.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use hg_tests::command::Outcome;
use hg_tests::event::Event;
use hg_tests::grid::Grid;
use hg_tests::leftover::compilers;
use hg_tests::programs::programs;
use hg_tests::project::{Project, endless};
use hg_tests::running::Running;
use hg_tests::slow_link::SlowLink;
use nix::sys::signal::Signal;

/// `hgbuild -- sh -c SCRIPT` over `link`; the script knows the build's process as HG_BUILD.
fn build(grid: &Grid, link: &SlowLink, project: &Project, script: &str) -> Running {
    let words = ["--no-fallback", "--", "sh", "-c", script];
    let mut command = project.hgbuild(&link.address, &words);
    command.env("HG_TOKEN", grid.token(&["--role", "client"]));
    Running::start(&mut command)
}

fn quick_link(grid: &Grid) -> SlowLink {
    SlowLink::lay(&grid.address(), Duration::ZERO)
}

/// What was said, and that `count` compiles all went out.
fn assert_all_remote(outcome: &Outcome, project: &Project, said: &str, count: usize) {
    let words = outcome.words();
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), said, "{words}");
    let events = project.events();
    let is_remote = |event: &Event| event.place == "remote";
    assert!(events.iter().all(is_remote), "{events:?} {words}");
    assert_eq!(events.len(), count, "{events:?} {words}");
}

const EACH: &str = "for n in 0 1 2 3 4 5; do gcc -c f0$n.c || exit; done; echo built";

#[test]
fn a_build_has_one_connection_for_all_of_its_compiles() {
    let grid = Grid::start(programs(), 1, 2);
    let project = Project::of(6);
    let link = quick_link(&grid);
    let outcome = build(&grid, &link, &project, EACH).finish();
    assert!(outcome.ok(), "{}", outcome.words());
    assert_all_remote(&outcome, &project, "built\n", 6);
    // The build's own, that of its report, and at most one of a compile that came before
    // the first was there.
    let connections = link.connections();
    assert!(connections <= 3, "{connections} connections");
    let left = std::fs::read_dir(project.home().join(".hybridgrid/run")).expect("a folder");
    let mut names = left.flatten().map(|entry| entry.file_name());
    let socket = names.find(|name| name.to_string_lossy().starts_with("build-"));
    assert_eq!(socket, None, "left behind");
}

#[test]
fn compiles_of_a_build_whose_process_was_killed_or_stopped_dial_by_themselves() {
    let grid = Grid::start(programs(), 1, 2);
    for signal in ["KILL", "STOP"] {
        let project = Project::of(6);
        let link = quick_link(&grid);
        let script =
            format!("gcc -c f00.c && kill -{signal} $HG_BUILD; {EACH}; kill -CONT $HG_BUILD");
        let outcome = build(&grid, &link, &project, &script).finish();
        assert_all_remote(&outcome, &project, "built\n", 7);
        let connections = link.connections();
        assert!(connections >= 6, "{signal}: {connections} connections");
    }
}

#[test]
fn a_compile_on_its_way_when_the_builds_process_is_killed_goes_out_again() {
    let grid = Grid::start(programs(), 1, 2);
    let project = Project::of(1);
    project.add("slow.c", &endless(0));
    let link = quick_link(&grid);
    // A compile that never ends, and one that does: the first is seen on the worker, and again
    // after the build's process has gone.
    let script = "gcc -c f00.c && gcc -c slow.c; echo over";
    let mut running = build(&grid, &link, &project, script);
    let tasks = grid.folder().join("worker-1/tasks");
    let slow = || compilers(&tasks);
    let first = running.until("a compile that goes on", || match slow()[..] {
        [only] if project.events().len() == 1 => Some(only),
        _ => None,
    });
    running.signal(Signal::SIGKILL);
    running.until("the same compile anew", || match slow()[..] {
        [only] if only != first => Some(()),
        _ => None,
    });
    // The rest of the build, which lives on.
    running.signal_group(Signal::SIGTERM);
    running.finish();
}

#[test]
fn a_socket_that_is_no_relay_costs_nothing_but_a_look() {
    let grid = Grid::start(programs(), 1, 2);
    let project = Project::of(6);
    let link = quick_link(&grid);
    // One that never answers, one that nobody listens at, and what is no socket.
    let silent = project.home().join("silent");
    let _listener = UnixListener::bind(&silent).expect("a socket");
    let gone = project.home().join("gone");
    drop(UnixListener::bind(&gone).expect("a socket"));
    let file = project.there().join("f00.c");
    let scripts = [silent, gone, file]
        .map(|path| format!("HG_RELAY={} gcc -c f00.c || exit; ", path.display()));
    let script = scripts.concat() + "echo built";
    let outcome = build(&grid, &link, &project, &script).finish();
    assert_all_remote(&outcome, &project, "built\n", 3);
}
