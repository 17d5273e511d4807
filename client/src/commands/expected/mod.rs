//! The objects that a build is going to make, where the files of its build system say so:
//! those that its targets depend on, and that are missing or older than their source. A
//! header that has changed makes more of them due; who counts has to bear that.

mod compile;
mod database;
mod makefiles;
mod ninja;
pub mod progress;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use nix::libc;

use crate::commands::checks::CmakeTree;

use self::compile::Compile;

/// Bytes of all files that are read for one build.
const READ_BYTES_MAX: u64 = 64 << 20;
/// Objects of a build beyond which it is not looked at.
const OBJECTS_MAX: usize = 100_000;
/// What lists the objects of one of CMake's targets, in its folder.
const DEPEND_INFO: &str = "DependInfo.cmake";

/// The absolute paths of the objects that the command `words`, which starts at `start` in the
/// current directory, has to make; `None`: that can't be known.
pub fn objects(words: &[OsString], start: SystemTime) -> Option<HashSet<PathBuf>> {
    let words: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    let command = Command::of(&words?)?;
    let folder = Path::new(&command.folder).canonicalize().ok()?;
    let listed = command.listed(&folder)?;
    let is_due = |compile: &Compile| {
        let Ok(made) = modified(&folder.join(&compile.object)) else {
            return true;
        };
        // It may have been made since: there is a line of it in the log then.
        made >= start || modified(&folder.join(&compile.source)).is_ok_and(|written| written > made)
    };
    let due = listed.iter().filter(|compile| is_due(compile));
    let due: HashSet<PathBuf> = due.map(|one| plain(&folder.join(&one.object))).collect();
    (!due.is_empty() && due.len() <= OBJECTS_MAX).then_some(due)
}

/// `path` without `.` and `..`, as text.
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Make,
    Ninja,
    Cmake,
}

/// What a command line builds.
#[derive(Debug, PartialEq, Eq)]
struct Command {
    tool: Tool,
    folder: String,
    /// None: what is built where none is named.
    targets: Vec<String>,
}

impl Command {
    /// `None`: it is none of those that are known, or has a word that is not.
    fn of(words: &[&str]) -> Option<Command> {
        let (program, words) = words.split_first()?;
        let tool = match Path::new(program).file_name()?.to_str()? {
            "make" | "gmake" => Tool::Make,
            "ninja" | "ninja-build" | "samu" => Tool::Ninja,
            "cmake" => Tool::Cmake,
            _ => return None,
        };
        let mut command = Command {
            tool,
            folder: ".".to_owned(),
            targets: Vec::new(),
        };
        let mut words = words.iter().copied().peekable();
        if tool == Tool::Cmake {
            words.next_if_eq(&"--build")?;
            command.folder = words.next()?.to_owned();
        }
        let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
        while let Some(word) = words.next() {
            match (tool, word) {
                (Tool::Make | Tool::Ninja, "-C") => command.folder = words.next()?.to_owned(),
                (Tool::Ninja, "-k" | "-l" | "-d" | "-w") | (Tool::Cmake, "--config") => {
                    words.next()?;
                }
                (_, "-j" | "-l" | "--parallel") => {
                    words.next_if(is_number);
                }
                (Tool::Cmake, "-t" | "--target") => {
                    let named = std::iter::from_fn(|| words.next_if(|word| !word.starts_with('-')));
                    command.targets.extend(named.map(str::to_owned));
                }
                (Tool::Cmake, "--") => {
                    // To the tool beneath.
                    let harmless = |word: &str| is_number(&word) || is_harmless(word);
                    return words.all(harmless).then_some(command);
                }
                (Tool::Make, word) if is_variable(word) => {}
                (Tool::Make | Tool::Ninja, word) if !word.starts_with('-') => {
                    command.targets.push(word.to_owned());
                }
                (Tool::Make | Tool::Ninja, word) if word.starts_with("-C") => {
                    command.folder = word["-C".len()..].to_owned();
                }
                (_, word) if is_harmless(word) => {}
                _ => return None,
            }
        }
        Some(command)
    }

    fn listed(&self, folder: &Path) -> Option<Vec<Compile>> {
        let mut reader = Reader {
            left: READ_BYTES_MAX,
        };
        let ninja = folder.join("build.ninja");
        let makefile = folder.join("CMakeFiles/Makefile2");
        let (has_ninja, has_makefile) = (ninja.exists(), makefile.exists());
        let is_whole = match &self.targets[..] {
            [] => true,
            [one] => one == "all",
            _ => false,
        };
        match self.tool {
            Tool::Ninja | Tool::Cmake
                if has_ninja && !(self.tool == Tool::Cmake && has_makefile) =>
            {
                is_led(folder)?;
                ninja::compiles(&reader.text(&ninja)?, &self.targets)
            }
            Tool::Make | Tool::Cmake if has_makefile && !has_ninja && is_whole => {
                is_led(folder)?;
                let mut compiles = Vec::new();
                for target in makefiles::target_folders(&reader.text(&makefile)?) {
                    // A target that compiles nothing may have none.
                    let list = folder.join(target).join(DEPEND_INFO);
                    if list.exists() {
                        compiles.extend(makefiles::compiles(&reader.text(&list)?));
                    }
                }
                Some(compiles)
            }
            Tool::Make if !has_makefile && is_whole => {
                let text = reader.text(&folder.join("compile_commands.json"))?;
                let mut compiles = database::compiles(&text)?;
                compiles.retain(|one| folder.join(&one.source).exists());
                Some(compiles)
            }
            _ => None,
        }
    }
}

/// All of what a CMake tree compiles comes through us.
fn is_led(folder: &Path) -> Option<()> {
    CmakeTree::of(folder).is_none().then_some(())
}

/// Changes nothing about what is built.
fn is_harmless(word: &str) -> bool {
    let known = [
        "-k",
        "-s",
        "-v",
        "-w",
        "-O",
        "-r",
        "-R",
        "--keep-going",
        "--silent",
        "--quiet",
        "--verbose",
        "--no-print-directory",
        "--print-directory",
        "--output-sync",
    ];
    let with_value = ["-j", "-l", "--jobs=", "--parallel=", "-O", "--output-sync="];
    known.contains(&word) || with_value.iter().any(|start| word.starts_with(start))
}

/// `NAME=VALUE`.
fn is_variable(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && !name.starts_with('-')
}

/// Reads so many bytes of files and no more.
struct Reader {
    left: u64,
}

impl Reader {
    fn text(&mut self, path: &Path) -> Option<String> {
        // Whatever lies there must not make us wait.
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        let file: File = open.ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = String::new();
        let read = file.take(self.left + 1).read_to_string(&mut text).ok()?;
        self.left = self.left.checked_sub(read as u64)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;
    use std::time::Duration;

    use super::*;

    fn command(line: &str) -> Option<Command> {
        Command::of(&line.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn what_a_command_line_builds() {
        let parts = |line| {
            let command = command(line)?;
            Some((command.folder, command.targets.join(" ")))
        };
        for (line, folder, targets) in [
            ("make", ".", ""),
            ("make -j4 -C out V=1 -k", "out", ""),
            ("/usr/bin/make -j 4 -Cout all", "out", "all"),
            ("ninja -C out -j 4 -k 0 app lib", "out", "app lib"),
            ("cmake --build out -j --config Debug", "out", ""),
            (
                "cmake --build out -t app lib --parallel 4",
                "out",
                "app lib",
            ),
            ("cmake --build out -- -k 0 -v", "out", ""),
        ] {
            let expected = Some((folder.to_owned(), targets.to_owned()));
            assert_eq!(parts(line), expected, "{line}");
        }
        for line in [
            "make -f other.mk",
            "make -n",
            "make -B",
            "ninja -t clean",
            "ninja -n",
            "ninja -C",
            "cmake -S . -B out",
            "cmake --build out --clean-first",
            "cmake --build out -- clean",
            "cmake --build",
            "sh -c make",
        ] {
            assert_eq!(command(line), None, "{line}");
        }
    }

    #[test]
    fn objects_that_are_missing_or_old_are_due() {
        let folder = env::temp_dir().join(format!("hg-expected-{}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let folder = folder.canonicalize().expect("a path");
        let entry = |name: &str| {
            format!(
                r#"{{"directory":"{}","file":"{name}.c","output":"./{name}.o"}}"#,
                folder.display()
            )
        };
        let entries = ["new", "old", "made", "gone", "late"].map(entry).join(",");
        fs::write(folder.join("compile_commands.json"), format!("[{entries}]")).expect("room");
        let start = SystemTime::now();
        let write = |name: &str, seconds_ago: u64| {
            let file = File::create(folder.join(name)).expect("a file");
            file.set_modified(start - Duration::from_secs(seconds_ago))
                .expect("a time");
        };
        for (name, source_age, object_age) in [
            ("new", 9, None),
            ("old", 7, Some(8)),
            ("made", 7, Some(6)),
            ("late", 9, Some(0)),
        ] {
            write(&format!("{name}.c"), source_age);
            if let Some(age) = object_age {
                write(&format!("{name}.o"), age);
            }
        }
        let words = ["make".into(), "-C".into(), folder.clone().into_os_string()];
        let expected = ["new", "old", "late"].map(|name| folder.join(name).with_extension("o"));
        assert_eq!(objects(&words, start), Some(HashSet::from(expected)));
        // A pipe, a target, too much: nothing is known, and nobody waits.
        let named = [&words[..], &["new.o".into()]].concat();
        assert_eq!(objects(&named, start), None);
        let list = folder.join("compile_commands.json");
        fs::remove_file(&list).expect("it is there");
        nix::unistd::mkfifo(&list, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert_eq!(objects(&words, start), None);
        fs::remove_file(&list).expect("it is there");
        let file = File::create(&list).expect("a file");
        file.set_len(READ_BYTES_MAX + 1).expect("a hole");
        assert_eq!(objects(&words, start), None);
        fs::remove_dir_all(&folder).expect("it is there");
    }
}
