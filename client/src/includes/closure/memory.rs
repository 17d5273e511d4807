//! What headers say, and which folders hold no precompiled ones, from compile to compile.

use std::path::Path;

use hg_proto::options::args::Reason;

use crate::includes::devices::Devices;
use crate::includes::headers::{self, HeaderRecord, Headers, SETTLED_NS};
use crate::includes::part::Part;
use crate::includes::stat::{self, Stat};
use crate::source::hazards;
use crate::source::scan::Scan;

/// The memos of headers that a walk reads, and adds to.
pub(super) struct Memory {
    /// The memo of the system's headers, and of folders.
    system: Headers,
    /// The memo of the project that is built in the working directory.
    project: Headers,
    /// Folders without precompiled headers that are in no memo yet.
    without_precompiled: Vec<(Vec<u8>, Stat)>,
}

impl Memory {
    /// `file` is the memo of the system's headers; `None`: nothing is remembered.
    pub(super) fn open(file: Option<&Path>) -> Self {
        let folder = std::env::current_dir().ok();
        let project = file.zip(folder.as_deref());
        let project = project.map(|(file, folder)| headers::of_project(file, folder));
        Memory {
            system: Headers::open(file),
            project: Headers::open(project.as_deref()),
            without_precompiled: Vec::new(),
        }
    }

    /// The file at `path`, which has `stat`: as it is remembered, else read. `lasting`: it
    /// may be remembered.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn part(&self, path: Vec<u8>, stat: Stat, lasting: bool) -> Result<Part, Reason> {
        let headers = match hazards::is_system(&path) {
            true => &self.system,
            false => &self.project,
        };
        if lasting && let Some(known) = headers.of(stat) {
            return Ok(Part {
                path,
                text: None,
                known,
                lasting: true,
                learnt: false,
            });
        }
        let (text, content) = stat::read(&path).map_err(|_| Reason::new("input-changed", &path))?;
        Ok(Part {
            path,
            known: HeaderRecord::new(content, Scan::default(), false),
            text: Some(text),
            lasting,
            learnt: lasting,
        })
    }

    /// Whether the folder that has `stat` is known to hold no precompiled header.
    pub(super) fn lacks_precompiled(&self, stat: Stat) -> bool {
        self.system.lacks_precompiled(stat)
    }

    /// Has [`Memory::save`] remember that `folder` holds no precompiled header.
    pub(super) fn note_without_precompiled(&mut self, folder: &[u8], stat: Stat) {
        self.without_precompiled.push((folder.to_vec(), stat));
    }

    /// Writes down those of `learnt`, and of the folders noted, whose stat was old enough
    /// at `walked_ns` to be no other content's.
    pub(super) fn save<'p>(
        &mut self,
        learnt: impl Iterator<Item = &'p Part>,
        devices: &mut Devices,
        walked_ns: i64,
    ) {
        let mut lasts = |path: &[u8], stat, in_layers, settled_ns| {
            let layered = devices.is_layered(path, stat);
            devices.kept(path, stat, walked_ns) == stat
                && (in_layers || !layered)
                && headers::may_last(stat, layered, settled_ns, walked_ns)
        };
        for part in learnt {
            let system = hazards::is_system(&part.path);
            let (headers, settled_ns) = match system {
                true => (&mut self.system, SETTLED_NS),
                // As an answer of the cache that has it among its facts.
                false => (&mut self.project, 0),
            };
            if lasts(&part.path, part.known.stat, system, settled_ns) {
                headers.add(&part.known);
            }
        }
        for (folder, stat) in self.without_precompiled.drain(..) {
            // The stat of one that is merged says nothing of what is below.
            if lasts(&folder, stat, false, SETTLED_NS) {
                self.system.add(&HeaderRecord::without_precompiled(stat));
            }
        }
        self.system.save();
        self.project.save();
    }
}
