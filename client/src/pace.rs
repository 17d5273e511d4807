//! How fast this machine's own cores are, measured once and remembered: the
//! coordinator says when a worker is slower by far.

use std::fs;
use std::path::Path;

use hg_proto::speed;

use crate::os;
use crate::private;

/// Thousandths of a reference core; 0: there is no folder to remember it in, and
/// measuring takes longer than it is worth each time, or another process measures it.
pub fn own_milli(run: Option<&Path>) -> u32 {
    let Some(run) = run else {
        return 0;
    };
    // A home folder may be shared between machines.
    let host = nix::unistd::gethostname().unwrap_or_default();
    let path = run.join(format!(
        "speed-{}",
        host.to_string_lossy().replace('/', "_")
    ));
    let known = || fs::read_to_string(&path).ok()?.trim().parse().ok();
    if let Some(milli) = known() {
        return milli;
    }
    let Some(_turn) = os::claim(&run.join(os::TURNS), std::slice::from_ref(&path)) else {
        return 0;
    };
    if let Some(milli) = known() {
        return milli;
    }
    let milli = speed::measure_milli();
    let new = run.join(format!("speed.{}", std::process::id()));
    // Not to be written: measured again.
    let _ = private::write(&new, format!("{milli}\n").as_bytes())
        .and_then(|()| fs::rename(&new, &path));
    milli
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_measured_once() {
        let run = std::env::temp_dir().join(format!("hg-pace-{}", std::process::id()));
        fs::create_dir_all(&run).unwrap();
        let milli = own_milli(Some(&run));
        assert!(milli > 0);
        assert_eq!(own_milli(Some(&run)), milli);
        let files = fs::read_dir(&run).unwrap().flatten();
        let mut files: Vec<_> = files.filter(|file| file.file_name() != os::TURNS).collect();
        let file = files.pop().unwrap().path();
        assert!(files.is_empty());
        fs::write(&file, "17").unwrap();
        assert_eq!(own_milli(Some(&run)), 17);
        fs::remove_file(&file).unwrap();
        let measures = os::claim(&run.join(os::TURNS), &[file]).unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(own_milli(Some(&run)), 0, "another one measures");
        }
        drop(measures);
        assert!(own_milli(Some(&run)) > 0);
        fs::remove_dir_all(&run).unwrap();
        assert_eq!(own_milli(None), 0);
    }
}
