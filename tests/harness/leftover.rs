//! Processes that should not be there any more: those that run in a folder, name
//! it on their command line, or belong to a task in it, whose sandbox hides both.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hg_worker_lite::files::state::{TASK_VARIABLE, task_mark};
use nix::unistd::Pid;

/// `pid command` of each process of this machine that lives in or below
/// `folder`, has it in its arguments or is of a task's in it, zombies and ourselves
/// left out.
pub fn processes(folder: &Path) -> Vec<String> {
    let needle = folder.as_os_str().as_bytes();
    // A worker's task folder may be a link; processes know where it leads.
    let real = fs::canonicalize(folder);
    let real = real.as_deref().unwrap_or(folder);
    let own = std::process::id();
    let mut marks = Vec::new();
    add_marks(folder, DEPTH, &mut marks);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // Zombies and kernel threads have no arguments.
        if pid == own || arguments.is_empty() {
            continue;
        }
        let inside = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(real));
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let holds = |text: &[u8], words: &[u8]| text.windows(words.len()).any(|at| at == words);
        let marked = || marks.iter().any(|mark| holds(&environment, mark));
        if inside || holds(&arguments, needle) || marked() {
            let words = String::from_utf8_lossy(&arguments).replace('\0', " ");
            found.push(format!("{pid} {words}"));
        }
    }
    found
}

/// The compilers proper that run in or below `folder`, as [`processes`] has it.
pub fn compilers(folder: &Path) -> Vec<Pid> {
    let processes = processes(folder);
    let cc1 = processes.iter().filter(|line| {
        let program = line.split(' ').nth(1).unwrap_or_default();
        // `cc1 --version` tells which compiler it is, and takes no slot.
        program.ends_with("/cc1") && !line.ends_with("--version")
    });
    cc1.filter_map(|line| pid_of(line)).collect()
}

/// The process id at the beginning of a line of [`processes`].
pub fn pid_of(line: &str) -> Option<Pid> {
    Some(Pid::from_raw(line.split(' ').next()?.parse().ok()?))
}

/// How far below a folder the task folders of workers are looked for.
const DEPTH: usize = 3;

/// What a worker marks the processes of its tasks with, for all that have theirs at or
/// below `folder`.
fn add_marks(folder: &Path, depth: usize, marks: &mut Vec<Vec<u8>>) {
    if folder.file_name().is_some_and(|name| name == "tasks") {
        let mark = format!("{TASK_VARIABLE}={}", task_mark(folder));
        marks.push(mark.into_bytes());
    } else if depth > 0 {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            add_marks(&entry.path(), depth - 1, marks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_seen_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("cat")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What it echoes says that it has come up.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"up\n").unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let found = processes(folder.path());
        assert!(found.iter().any(|line| line.ends_with("cat ")), "{found:?}");
        drop(stdin);
        child.wait().unwrap();
        assert_eq!(processes(folder.path()), Vec::<String>::new());
    }
}
