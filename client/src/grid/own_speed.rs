//! How fast this machine's own cores are, measured once, while a worker works, and
//! remembered: the coordinator says when a worker is slower by far.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hg_proto::compiler::speed;

use crate::os;
use crate::private;

/// Thousandths of a reference core; 0: not known yet.
pub fn own_milli(run: Option<&Path>) -> u32 {
    run.and_then(|run| known(&file(run))).unwrap_or(0)
}

/// Does `work`, which waits for others, and measures beside it, if that is not known yet
/// and no other process does so. Nothing is measured where there is no folder to remember
/// it in: it takes longer than it is worth each time.
pub fn measured_beside<T>(run: Option<&Path>, work: impl FnOnce() -> T) -> T {
    let place = run.map(|run| (run, file(run)));
    let Some((run, path)) = place.filter(|(_, path)| known(path).is_none()) else {
        return work();
    };
    let Some(_turn) = os::claim(&run.join(os::TURNS), std::slice::from_ref(&path)) else {
        return work();
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let measure = || {
            let milli = speed::measure_milli(|| !is_over.load(Ordering::Relaxed));
            // Not to be written: measured again.
            let _ = private::replace(&path, format!("{milli}\n").as_bytes());
        };
        // No thread is left: the next one measures.
        let _ = thread::Builder::new().spawn_scoped(scope, measure);
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        done
    })
}

/// A home folder may be shared between machines.
fn file(run: &Path) -> PathBuf {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy().replace('/', "_");
    run.join(format!("speed-{host}"))
}

fn known(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_measured_once() {
        let run = std::env::temp_dir().join(format!("hg-pace-{}", std::process::id()));
        fs::create_dir_all(&run).unwrap();
        let folder = run.as_path();
        let run = Some(folder);
        assert_eq!(own_milli(run), 0);
        assert_eq!(measured_beside(run, || 5), 5);
        let milli = own_milli(run);
        assert!(milli > 0);
        measured_beside(run, || ());
        assert_eq!(own_milli(run), milli);
        let files = fs::read_dir(folder).unwrap().flatten();
        let mut files: Vec<_> = files.filter(|file| file.file_name() != os::TURNS).collect();
        let file = files.pop().unwrap().path();
        assert!(files.is_empty());
        fs::write(&file, "17").unwrap();
        measured_beside(run, || ());
        assert_eq!(own_milli(run), 17);
        fs::remove_file(&file).unwrap();
        let measures = os::claim(&folder.join(os::TURNS), &[file]).unwrap();
        if cfg!(target_os = "linux") {
            measured_beside(run, || ());
            assert_eq!(own_milli(run), 0, "another one measures");
        }
        drop(measures);
        measured_beside(run, || ());
        assert!(own_milli(run) > 0);
        fs::remove_dir_all(folder).unwrap();
        assert_eq!(own_milli(None), 0);
        assert_eq!(measured_beside(None, || 6), 6);
    }
}
