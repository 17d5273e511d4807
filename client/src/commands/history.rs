//! What the compiles of the last builds did: their lines of the event log, kept in the run
//! folder. Bounded: what is older than two files of so many bytes is gone.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use crate::compile::events::Event;
use crate::config::Config;
use crate::os;
use crate::private;

/// Bytes of the file that lines are added to; beyond that it becomes the old one.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Bytes at the end of an event log that are looked at.
const EVENT_LOG_BYTES_MAX: u64 = 64 << 20;
const NEW: &str = "builds.jsonl";
const OLD: &str = "builds.old.jsonl";

/// Adds the lines of `log`, a build's, to those that are kept in the folder `run`.
///
/// # Errors
/// As the file system says; what was kept before is still there.
pub fn keep(run: &Path, log: &Path) -> io::Result<()> {
    let lines = last_lines(log, FILE_BYTES_MAX)?;
    if lines.is_empty() {
        return Ok(());
    }
    let path = run.join(NEW);
    let mut file = private::options().append(true).create(true).open(&path)?;
    // In one write: builds that end at once don't mix their lines.
    file.write_all(&lines)?;
    match file.metadata()?.len() > FILE_BYTES_MAX {
        true => fs::rename(&path, run.join(OLD)),
        false => Ok(()),
    }
}

/// The last compile of the source `file` that is known, and its path. One that is not there
/// is looked for by the end of its path.
pub fn last_compile(config: &Config, file: &Path) -> Option<(Event<'static>, PathBuf)> {
    let wanted = std::path::absolute(file).map_or_else(|_| file.to_path_buf(), |it| plain(&it));
    let ending = plain(file);
    let mut name = serde_json::to_string(&file.file_name()?.to_string_lossy()).ok()?;
    // Without its quotes: a longer path may hold it.
    name.pop();
    let mut best: Option<(bool, Event<'static>, PathBuf)> = None;
    for (log, bytes_max) in logs(config) {
        let Ok(lines) = last_lines(&log, bytes_max) else {
            continue;
        };
        for line in lines.split(|byte| *byte == b'\n') {
            if memchr::memmem::find(line, &name.as_bytes()[1..]).is_none() {
                continue;
            }
            let Ok(event) = serde_json::from_slice::<Event<'static>>(line) else {
                continue;
            };
            if event.source.is_empty() {
                continue;
            }
            let path = plain(&Path::new(&event.cwd).join(&event.source));
            let is_it = path == wanted;
            let is_like = is_it || path.ends_with(&ending);
            let is_better = best
                .as_ref()
                .is_none_or(|(was_it, known, _)| (is_it, &event.time) >= (*was_it, &known.time));
            if is_like && is_better {
                best = Some((is_it, event, path));
            }
        }
    }
    best.map(|(_, event, path)| (event, path))
}

/// All logs that may know of compiles, and how much of the end of each is looked at: those
/// of builds that have ended, of builds that go on, and the user's own.
fn logs(config: &Config) -> Vec<(PathBuf, u64)> {
    let mut logs = Vec::new();
    if let Some(run) = config.run_folder() {
        logs.extend([OLD, NEW].map(|name| (run.join(name), 2 * FILE_BYTES_MAX)));
        let running = fs::read_dir(&run).into_iter().flatten().flatten();
        let running = running.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().map(os::bytes).unwrap_or_default();
            name.starts_with(b"build-") && name.ends_with(b".jsonl")
        });
        logs.extend(running.map(|path| (path, FILE_BYTES_MAX)));
    }
    let own = config.event_log.iter();
    logs.extend(own.map(|path| (path.clone(), EVENT_LOG_BYTES_MAX)));
    logs
}

/// The whole lines among the last `bytes_max` of `path`.
fn last_lines(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(skipped.saturating_sub(1)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if skipped > 0 {
        let end = memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |at| at + 1);
        bytes.drain(..end);
    }
    Ok(bytes)
}

/// `path` without `.` and, as far as names tell, without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Flags;

    fn line(cwd: &str, source: &str, second: u32, reason: &str) -> String {
        format!(
            "{{\"v\":1,\"time\":\"2026-01-02T03:04:{second:02}.000Z\",\"cwd\":\"{cwd}\",\
             \"source\":\"{source}\",\"output\":\"a.o\",\"compiler\":\"gcc\",\
             \"where\":\"local\",\"reason\":\"{reason}\",\"worker\":null,\"exit\":0,\
             \"wall_ms\":1,\"queue_ms\":0,\"remote_ms\":0,\"bytes_up\":0,\"bytes_down\":0}}\n"
        )
    }

    /// A folder for each test, and settings that name it.
    fn home(name: &str) -> Config {
        let home = std::env::temp_dir().join(format!("hg-history-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(home.join("run")).expect("a folder");
        Config {
            home: Some(home),
            event_log: None,
            ..Config::load(&Flags::default())
        }
    }

    fn found(config: &Config, file: &str) -> Option<String> {
        let found = last_compile(config, Path::new(file));
        found.map(|(event, _)| event.reason.into_owned())
    }

    #[test]
    fn the_last_compile_of_a_source_is_found_by_its_path() {
        let config = home("path");
        let run = config.run_folder().expect("a folder");
        let log = run.join("log");
        let lines = [
            line("/p/one", "src/a.c", 1, "queue"),
            line("/p/one", "./src/x/../a.c", 3, "time-macro: __DATE__"),
            line("/p/two", "src/a.c", 4, "debug-info"),
            "not a line\n".to_owned(),
            line("/p/one", "src/b.c", 2, "queue"),
        ];
        fs::write(&log, lines.concat()).expect("a log");
        keep(&run, &log).expect("kept");
        assert_eq!(
            found(&config, "/p/one/src/a.c").as_deref(),
            Some("time-macro: __DATE__")
        );
        assert_eq!(found(&config, "a.c").as_deref(), Some("debug-info"));
        assert_eq!(
            found(&config, "one/src/a.c").as_deref(),
            Some("time-macro: __DATE__")
        );
        assert_eq!(found(&config, "c.c"), None);
        // What goes on is known too, and is younger.
        let now = line("/p/one", "src/a.c", 9, "local-slot");
        fs::write(run.join("build-7.jsonl"), now).expect("a log");
        assert_eq!(found(&config, "one/src/a.c").as_deref(), Some("local-slot"));
        let _ = fs::remove_dir_all(config.home.expect("a folder"));
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let config = home("bound");
        let run = config.run_folder().expect("a folder");
        let log = run.join("log");
        let one = line("/p", "a.c", 1, "queue");
        fs::write(&log, one.repeat(20_000)).expect("a log");
        for _ in 0..9 {
            keep(&run, &log).expect("kept");
        }
        let size = |name| fs::metadata(run.join(name)).map_or(0, |meta| meta.len());
        assert!(size(NEW) <= FILE_BYTES_MAX && size(OLD) <= 2 * FILE_BYTES_MAX);
        assert_eq!(found(&config, "/p/a.c").as_deref(), Some("queue"));
        // A log that is longer than all that is kept: its end, by whole lines.
        let kept = last_lines(&run.join(OLD), 1_000).expect("lines");
        assert_eq!(kept.len() % one.len(), 0);
        assert!(!kept.is_empty());
        let _ = fs::remove_dir_all(config.home.expect("a folder"));
    }
}
