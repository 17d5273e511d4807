//! `hgbuild top`: on a terminal, as a person sees it, and elsewhere.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use hg_tests::command::{run, run_on_terminal, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::grid::{Grid, worker};
use hg_tests::programs::programs;
use hg_tests::terminal::Terminal;
use hg_tests::{in_path, skip};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::shared::{FILES, build, write_sources};
use crate::terminal::hgbuild;

/// What ends the screen: cursor, and what was there before.
const LEFT: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// An interactive shell, for job control.
fn shell(grid: &Grid, folder: &Path) -> Command {
    let mut command = scrubbed("bash", folder, folder);
    command
        .args(["--norc", "--noprofile", "-i"])
        .env("PS1", "> ")
        .env("HGBUILD", &programs().client);
    grid.lead(&mut command);
    command
}

/// Waits until the rows are as `is_it` wants them, and gives them.
fn until(terminal: &mut Terminal, what: &str, is_it: impl Fn(&[String]) -> bool) -> Vec<String> {
    terminal.until(what, |rows| is_it(rows).then(|| rows.to_vec()))
}

/// Waits for a row that begins so.
fn until_row(terminal: &mut Terminal, row: &str) {
    until(terminal, row, |rows| {
        rows.iter().any(|it| it.starts_with(row))
    });
}

/// Waits until a row has `words` in it.
fn until_says(terminal: &mut Terminal, words: &str) -> Vec<String> {
    until(terminal, words, |rows| {
        rows.iter().any(|it| it.contains(words))
    })
}

#[test]
fn a_screen_follows_the_grid_and_the_terminal_is_given_back() {
    if in_path("bash").is_none() {
        return skip("hgbuild top and job control", "there is no bash");
    }
    let grid = Grid::start(programs(), 2, 2);
    let folder = tempfile::tempdir().expect("a folder");
    write_sources(folder.path());
    let mut shell = shell(&grid, folder.path());
    let mut terminal = Terminal::run(&mut shell, 30, 110);
    terminal.press("$HGBUILD top\r");
    until(&mut terminal, "two workers", |screen| {
        let first = |name: &str| screen.iter().any(|line| line.starts_with(name));
        first(">worker-1") && first(" worker-2") && screen[29].starts_with(" q quit")
    });
    terminal.press("j");
    until_row(&mut terminal, ">worker-2");
    terminal.press("\x1b[A");
    until_row(&mut terminal, ">worker-1");
    terminal.press("s");
    until_says(&mut terminal, "ARCH*");
    terminal.press("?");
    until_says(&mut terminal, "any key closes it");
    terminal.press(" ");
    until_row(&mut terminal, ">worker-1");
    build(&grid, folder.path());
    until_says(
        &mut terminal,
        &format!("ended, exit 0, {FILES} remote, 1 local"),
    );

    // Its size changes; a worker comes whose name is odd; one goes.
    terminal.resize(12, 70);
    until(&mut terminal, "a smaller screen", |screen| {
        screen.len() == 12 && screen[11].starts_with(" q quit")
    });
    terminal.resize(30, 110);
    let name = "odd\u{202e}\u{6f22}";
    let mut command = worker(programs(), grid.folder(), name, &grid.address(), 1);
    let mut odd = Daemon::start("odd", &mut command, grid.folder().join("odd.log"));
    until_row(&mut terminal, " odd?");
    odd.end(Signal::SIGKILL);
    until_says(&mut terminal, "workers 2 ");

    // Stopped and let go on.
    terminal.press("\x1a");
    until_says(&mut terminal, "Stopped");
    assert!(find(&terminal.said(), LEFT), "the screen was not left");
    terminal.press("fg\r");
    until_row(&mut terminal, ">worker-1");
    // The coordinator does not answer for a while, is killed, and comes back.
    grid.coordinator.signal(Signal::SIGSTOP);
    until_says(&mut terminal, "connection lost");
    grid.coordinator.signal(Signal::SIGCONT);
    until(&mut terminal, "the grid again", |screen| {
        !screen.iter().any(|line| line.contains("connection lost"))
    });

    // Ended, by a key and by a signal: the terminal is as it was.
    for (keys, code) in [("q", "0"), ("\x03", "130")] {
        terminal.said();
        terminal.press(keys);
        until(&mut terminal, "the shell", |screen| {
            screen.iter().any(|line| line == ">")
        });
        assert!(find(&terminal.said(), LEFT), "the screen was not left");
        terminal.press("echo code $?; stty -a\r");
        let screen = until_says(&mut terminal, " icanon");
        let said = screen.join("\n");
        assert!(said.contains(&format!("code {code}")), "{said}");
        assert!(
            said.contains(" echo ") && said.contains(" icanon"),
            "{said}"
        );
        terminal.press("clear; $HGBUILD top\r");
        until_row(&mut terminal, ">worker-1");
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn colours_and_screens_are_for_those_who_want_them() {
    let grid = Grid::start(programs(), 1, 2);
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let top = |words: &[&str]| {
        let mut command = hgbuild(folder, &[&["top"], words].concat());
        grid.lead(&mut command);
        command
    };
    let mut dumb = top(&[]);
    dumb.env("TERM", "dumb");
    let mut piped = top(&[]);
    piped.env("TERM", "xterm");
    for outcome in [run_on_terminal(&mut dumb, 80), run(&mut piped)] {
        assert!(outcome.ok(), "{}", outcome.words());
        let said = [outcome.stdout, outcome.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.contains('\x1b'), "{said:?}");
        assert!(
            said.contains("\nworker-1 ") && said.contains("LAST ERROR"),
            "{said}"
        );
    }
    let outcome = run(&mut top(&["--json"]));
    let object: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(object["workers"][0]["id"], "worker-1");
    assert_eq!(object["status"]["workers"], 1);
    assert!(object["builds"].is_array() && object["running"].is_array());

    // Again and again, until nobody reads.
    let mut command = top(&["--interval", "0.1"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("hgbuild");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for _ in 0..3 {
        let title = lines.find(|line| line.as_ref().is_ok_and(|it| it.contains(" hgbuild top ")));
        assert!(title.is_some(), "it ended");
    }
    drop(lines);
    assert!(child.wait().expect("a child").success());

    let mut plain = top(&[]);
    plain.env("NO_COLOR", "1");
    let mut terminal = Terminal::run(&mut plain, 24, 80);
    until_row(&mut terminal, ">worker-1");
    terminal.press("q");
    // The last bytes come before the end.
    until(&mut terminal, "the end", |rows| {
        rows.iter().all(String::is_empty)
    });
    let said = terminal.said();
    let (status, _) = terminal.finish();
    assert!(status.success(), "{status}");
    for colour in [&b"\x1b[7m"[..], b"\x1b[1m"] {
        assert!(!find(&said, colour));
    }
}

#[test]
fn a_grid_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = hgbuild(folder.path(), &["top", "--interval", "1"]);
    command
        .env("HG_COORDINATOR", "127.0.0.1:1")
        .env("HG_INSECURE", "1");
    let outcome = run(&mut command);
    assert_eq!(outcome.code, Some(1), "{}", outcome.words());
    assert!(
        outcome.words().contains("127.0.0.1:1"),
        "{}",
        outcome.words()
    );
    let wrong = run(&mut hgbuild(folder.path(), &["top", "--interval", "0"]));
    assert_eq!(wrong.code, Some(2), "{}", wrong.words());
}
