//! Follows a file that others append lines to, as they do.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A thread that hands each line on.
pub struct Follower {
    path: PathBuf,
    over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Follower {
    /// Makes the file if need be, and calls `each` with every line of it, those
    /// to come included.
    ///
    /// # Errors
    /// The file can't be made or watched.
    pub fn start(path: &Path, each: impl FnMut(&str) + Send + 'static) -> io::Result<Follower> {
        OpenOptions::new().create(true).append(true).open(path)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(path, AddWatchFlags::IN_MODIFY)?;
        let file = File::open(path)?;
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = thread::spawn(move || follow(&inotify, file, &seen, each));
        Ok(Follower {
            path: path.to_path_buf(),
            over,
            thread,
        })
    }

    /// Hands on what is there, and ends.
    ///
    /// # Errors
    /// The file could not be read to its end.
    pub fn finish(self) -> io::Result<()> {
        self.over.store(true, Ordering::SeqCst);
        // An empty line wakes the thread and is no line of anybody's.
        OpenOptions::new()
            .append(true)
            .open(&self.path)?
            .write_all(b"\n")?;
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn follow(
    inotify: &Inotify,
    mut file: File,
    over: &AtomicBool,
    mut each: impl FnMut(&str),
) -> io::Result<()> {
    let mut pending = Vec::new();
    loop {
        // Asked before reading: whatever was written before the end is read.
        let last = over.load(Ordering::SeqCst);
        file.read_to_end(&mut pending)?;
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if !line.trim().is_empty() {
                each(line.trim());
            }
        }
        if last {
            return Ok(());
        }
        inotify.read_events()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn lines_come_as_they_are_written_and_the_last_ones_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (sender, lines) = mpsc::channel();
        let follower =
            Follower::start(&path, move |line| sender.send(line.to_owned()).unwrap()).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(lines.recv().unwrap(), "one");
        file.write_all(b"o\nthree\n").unwrap();
        follower.finish().unwrap();
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["two", "three"]);
    }
}
