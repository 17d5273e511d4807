//! State folders of the daemons: this user's alone whatever the umask, and refused
//! where others could have written.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hg_tests::command::{Outcome, run, run_within, scrubbed};
use hg_tests::daemon::{Daemon, START_TIME_MAX};
use hg_tests::grid;
use hg_tests::programs::programs;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, chown};

/// `command` under a umask of its own.
fn under(command: &mut Command, mask: u32) -> &mut Command {
    let set = move || {
        umask(Mode::from_bits_truncate(mask));
        Ok(())
    };
    // SAFETY: a system call that may be made between fork and exec.
    unsafe { command.pre_exec(set) }
}

fn coordinator(folder: &Path, state: &Path) -> Command {
    let mut command = scrubbed(&programs().coordinator, folder, folder);
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "off",
        "--state",
    ]);
    command.arg(state);
    command
}

/// What has bits beyond `allowed` at or directly in `folder`.
fn too_open(folder: &Path, allowed: u32) -> Vec<String> {
    let inner = fs::read_dir(folder).expect("a folder").flatten();
    let all = std::iter::once(folder.to_path_buf()).chain(inner.map(|entry| entry.path()));
    let modes = all.map(|path| {
        let mode = fs::symlink_metadata(&path).expect("a file").mode();
        (path, mode)
    });
    modes
        .filter(|(_, mode)| mode & 0o170_000 != 0o120_000 && mode & 0o777 & !allowed != 0)
        .map(|(path, mode)| format!("{}: {:o}", path.display(), mode & 0o7777))
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").mode() & 0o7777
}

#[test]
fn what_a_daemon_makes_is_its_users_alone_whatever_the_umask() {
    for mask in [0, 0o777] {
        let folder = tempfile::tempdir().expect("a folder");
        let above = folder.path().join("above");
        let state = above.join("coordinator");
        let mut command = coordinator(folder.path(), &state);
        let log = folder.path().join("coordinator.log");
        let coordinator = Daemon::start("coordinator", under(&mut command, mask), log);
        let mut token = scrubbed(&programs().coordinator, folder.path(), folder.path());
        token
            .args(["token", "--role", "worker", "--state"])
            .arg(&state);
        let token = run(under(&mut token, mask));
        assert!(token.ok(), "{}", token.words());
        assert_eq!(too_open(&state, 0o700), [""; 0], "umask {mask:o}");
        for path in [&above, &state] {
            assert_eq!(mode(path), 0o700, "umask {mask:o}: {}", path.display());
        }
        for name in ["trust.json", "tokens.json", "endpoints.json"] {
            assert_eq!(mode(&state.join(name)), 0o600, "umask {mask:o}: {name}");
        }

        let worker_state = folder.path().join("away/worker");
        let address = coordinator.address("grid");
        let mut join = scrubbed(&programs().worker, folder.path(), folder.path());
        join.args(["join", "--coordinator", &address, "--state"])
            .arg(&worker_state)
            .env("HG_TOKEN", String::from_utf8_lossy(&token.stdout).trim());
        let joined = run(under(&mut join, mask));
        assert!(joined.ok(), "{}", joined.words());
        let away = folder.path().join("away");
        let mut command = grid::worker(programs(), &away, "worker", &address, 1);
        let log = folder.path().join("worker.log");
        let worker = Daemon::start("worker", under(&mut command, mask), log);
        for path in [&away, &worker_state] {
            assert_eq!(mode(path), 0o700, "umask {mask:o}: {}", path.display());
        }
        for name in ["token", "lock", "endpoints.json"] {
            assert_eq!(
                mode(&worker_state.join(name)),
                0o600,
                "umask {mask:o}: {name}"
            );
        }
        drop((worker, coordinator));
    }
}

/// A state folder, and what of it is opened to others.
struct Opened {
    _folder: tempfile::TempDir,
    state: PathBuf,
}

impl Opened {
    /// That of a coordinator that was there, with a file `worker` needs beside.
    fn new() -> Opened {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        hg_coord::trust::secrets::open(&state).expect("a coordinator's state");
        let token =
            hg_coord::trust::secrets::give(&state, hg_proto::secure::token::Role::Worker, "pi", 0);
        let token = token.expect("a token").to_text() + "\n";
        let path = state.join("token");
        fs::write(&path, token).expect("a token");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        Opened {
            _folder: folder,
            state,
        }
    }

    /// What each program that uses the folder says.
    fn all(&self) -> Vec<(&'static str, Outcome)> {
        let folder = self.state.parent().expect("a folder");
        let coord = |words: &[&str]| {
            let mut command = scrubbed(&programs().coordinator, folder, folder);
            run(command.args(words).arg("--state").arg(&self.state))
        };
        vec![
            (
                "serve",
                run_within(&mut coordinator(folder, &self.state), START_TIME_MAX),
            ),
            ("token", coord(&["token", "--role", "admin"])),
            ("tokens", coord(&["tokens"])),
            ("revoke", coord(&["revoke", "pi"])),
            ("rotate", coord(&["rotate"])),
        ]
    }

    /// One that goes by no secrets, but leaves words for others to find.
    fn insecure(&self) -> Outcome {
        let folder = self.state.parent().expect("a folder");
        let mut command = coordinator(folder, &self.state);
        run_within(command.arg("--insecure"), START_TIME_MAX)
    }

    fn worker(&self) -> Outcome {
        let folder = self.state.parent().expect("a folder");
        let mut command = scrubbed(&programs().worker, folder, folder);
        command.args(["serve", "--coordinator", "127.0.0.1:9", "--http", "off"]);
        run_within(command.arg("--state").arg(&self.state), START_TIME_MAX)
    }
}

fn assert_refused(what: &str, outcome: &Outcome, words: &str) {
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert_ne!(outcome.code, Some(0), "{what}: {}", outcome.words());
    assert!(said.contains(words), "{what}: {}", outcome.words());
}

#[test]
fn a_folder_in_which_others_could_write_is_refused() {
    for mode in [0o770, 0o707, 0o1777] {
        let opened = Opened::new();
        let set = |mode| fs::set_permissions(&opened.state, Permissions::from_mode(mode));
        set(mode).expect("a mode");
        let words = format!("chmod 700 {}", opened.state.display());
        for (what, outcome) in opened.all() {
            assert_refused(&format!("{what}, {mode:o}"), &outcome, &words);
        }
        assert_refused(&format!("insecure, {mode:o}"), &opened.insecure(), &words);
        assert_refused(&format!("worker, {mode:o}"), &opened.worker(), &words);
        // As the words say.
        set(0o700).expect("a mode");
        assert!(hg_coord::trust::secrets::open(&opened.state).is_ok());
    }
}

#[test]
fn files_that_others_could_write_or_read_are_refused() {
    for mode in [0o660, 0o604, 0o640] {
        let opened = Opened::new();
        let trust = opened.state.join("trust.json");
        fs::set_permissions(&trust, Permissions::from_mode(mode)).expect("a mode");
        let words = format!("chmod 600 {}", trust.display());
        for (what, outcome) in opened.all() {
            assert_refused(&format!("{what}, {mode:o}"), &outcome, &words);
        }
    }
    for mode in [0o620, 0o602, 0o604] {
        let opened = Opened::new();
        let token = opened.state.join("token");
        fs::set_permissions(&token, Permissions::from_mode(mode)).expect("a mode");
        assert_refused(&format!("token, {mode:o}"), &opened.worker(), "chmod 600");
    }
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let other = Some(Uid::from_raw(12_345));
    let opened = Opened::new();
    chown(&opened.state, other, None).expect("a folder of somebody else");
    for (what, outcome) in opened.all() {
        assert_refused(what, &outcome, "belongs to user 12345");
    }
    assert_refused("insecure", &opened.insecure(), "belongs to user 12345");
    assert_refused("worker", &opened.worker(), "belongs to user 12345");
    // Root with another user's HOME makes nothing there.
    let home = tempfile::tempdir().expect("a folder");
    chown(home.path(), other, None).expect("a home of somebody else");
    let mut coordinator = scrubbed(&programs().coordinator, home.path(), home.path());
    coordinator.args(["serve", "--listen", "127.0.0.1:0", "--http", "off"]);
    let mut worker = scrubbed(&programs().worker, home.path(), home.path());
    worker.args(["serve", "--coordinator", "127.0.0.1:9", "--http", "off"]);
    for (what, command) in [("coordinator", &mut coordinator), ("worker", &mut worker)] {
        let outcome = run_within(command, START_TIME_MAX);
        assert_refused(what, &outcome, "belongs to user 12345");
        assert_eq!(outcome.code, Some(2), "{what}");
        let left = fs::read_dir(home.path()).expect("a folder").count();
        assert_eq!(left, 0, "{what} wrote there");
    }
    for name in ["trust.json", "token"] {
        let opened = Opened::new();
        chown(&opened.state.join(name), other, None).expect("a file of somebody else");
        let outcomes = match name {
            "token" => vec![("worker", opened.worker())],
            _ => opened.all(),
        };
        for (what, outcome) in outcomes {
            assert_refused(
                &format!("{what}, {name}"),
                &outcome,
                "belongs to user 12345",
            );
        }
    }
}
