//! What this user's hgbuild knows of shipments: which toolchain was packed as what, and which
//! worker refused it. Unaware of the grid.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hg_proto::compiler::packing::LOCALES;
use hg_proto::compiler::toolchain::Language;
use hg_proto::secure::atomic_file;
use hg_proto::v1::{Toolchain, Worker};
use hg_proto::wire::digest::Digest;

use crate::private;

/// How long a worker that refused a toolchain is not offered it again by itself.
const REFUSED_FOR: Duration = Duration::from_secs(6 * 3600);
/// How the names of notes of that end.
const REFUSED: &str = "refused";
/// How often it is looked whether workers lack a toolchain that compiles get.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The same where no worker has it.
const WANTED_AGAIN: Duration = Duration::from_secs(10);

/// The right to send toolchains in the name of this user. `None`: somebody is at it, or
/// it can't be had; who is `patient` waits for it.
pub fn turn(run: &Path, is_patient: bool) -> Option<File> {
    private::make(run).ok()?;
    let lock = private::options()
        .write(true)
        .create(true)
        .open(run.join("ship.lock"))
        .ok()?;
    match is_patient {
        true => lock.lock().ok()?,
        false => lock.try_lock().ok()?,
    }
    Some(lock)
}

/// The shipment of `toolchain`, if it was packed once: what stands for it on workers that
/// were given it.
pub fn known(run: &Path, toolchain: &Toolchain) -> Option<Digest> {
    let text = fs::read_to_string(note(run, toolchain)).ok()?;
    let (digest, stamp) = text.split_once(' ')?;
    (stamp == locales_stamp()).then(|| Digest::from_hex(digest))?
}

/// Notes that `digest` is the shipment of `toolchain`.
pub fn remember(run: &Path, toolchain: &Toolchain, digest: Digest) {
    let path = note(run, toolchain);
    let text = format!("{} {}", digest.to_hex(), locales_stamp());
    if let Some(folder) = path.parent()
        && private::make(folder).is_ok()
    {
        // Without the note, tasks do not name it, and compile elsewhere.
        let _ = atomic_file::replace(&path, private::FILE_MODE, text.as_bytes());
    }
}

/// Notes that `worker`, as long as it runs, does not take the toolchain.
pub fn note_refused(run: &Path, toolchain: &Toolchain, worker: &Worker) {
    let path = refusal(run, toolchain, worker);
    if let Some(folder) = path.parent() {
        let old = fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in old.filter(|entry| entry.path().extension().is_some_and(|e| e == REFUSED)) {
            if !is_younger(&entry.path(), REFUSED_FOR) {
                let _ = fs::remove_file(entry.path());
            }
        }
        // Without the note it is tried again.
        let _ = private::make(folder).and_then(|()| private::write(&path, b""));
    }
}

/// Whether `worker` has refused the toolchain not long ago.
pub fn was_refused(run: &Path, toolchain: &Toolchain, worker: &Worker) -> bool {
    is_younger(&refusal(run, toolchain, worker), REFUSED_FOR)
}

fn refusal(run: &Path, toolchain: &Toolchain, worker: &Worker) -> PathBuf {
    let pair = [&toolchain.digest[..], &worker.shipping].concat();
    let name = &Digest::of(&pair).to_hex()[..24];
    run.join("shipments").join(name).with_extension(REFUSED)
}

fn is_younger(path: &Path, than: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < than))
}

/// What a shipment holds that its toolchain's identity does not cover.
fn locales_stamp() -> String {
    fs::metadata(LOCALES).map_or_else(
        |_| "none".to_owned(),
        |meta| format!("{}.{}", meta.ino(), meta.mtime_nsec() ^ meta.mtime()),
    )
}

fn note(run: &Path, toolchain: &Toolchain) -> PathBuf {
    let name = &Digest::of(&toolchain.digest).to_hex()[..24];
    run.join("shipments").join(name)
}

/// Starts `hgbuild ship` for a compiler in the background, unless that was done lately.
/// `wanted`: a compile has just found no worker with it.
pub fn look_after(run: &Path, toolchain: &Toolchain, driver: &Path, wanted: bool) {
    let asked = note(run, toolchain).with_extension("asked");
    let often = if wanted { WANTED_AGAIN } else { LOOK_AGAIN };
    let is_due = !is_younger(&asked, often);
    let folder = asked.parent().unwrap_or(run);
    if !is_due || private::make(folder).is_err() || private::write(&asked, b"").is_err() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let language = Language::from_wire(toolchain.language()).map_or("", Language::name);
    let words = ["ship", "--background", "--language", language];
    // Nobody waits for it: what it does is for the compiles to come.
    let _ = Command::new(program)
        .args(words)
        .arg(driver)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}
